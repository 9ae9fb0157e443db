"""An in-batch softmax that runs in bfloat16 under autocast.

Published: sentence-transformers under CPU autocast (``logsumexp`` is not on the CPU's float32
list; it is on CUDA's).
Costs: three digits: the gradient is wrong by 7.5e-2, where plain ``cross_entropy`` under the same
autocast is wrong by 1.0e-2, and the loss comes back in bfloat16.
Mend: products and log-sum-exp in float32, whatever surrounds them.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from lossmith.losses.retrieval import info_nce

FAMILY = "retrieval"
INPUTS = "queries+positives"
CAUGHT_BY = ("autocast",)


def broken(queries: Tensor, positives: Tensor, *, temperature: float = 0.05) -> Tensor:
    """Whatever type the surroundings choose."""
    similarity = F.normalize(queries, dim=-1) @ F.normalize(positives, dim=-1).T / temperature
    return (similarity.logsumexp(-1) - similarity.diagonal()).mean()


def corrected(queries: Tensor, positives: Tensor, *, temperature: float = 0.05) -> Tensor:
    """float32 inside."""
    return info_nce(queries, positives, temperature=temperature)
