"""An NT-Xent that lays every positive pair out against every negative pair.

Published: pytorch-metric-learning 2.9.0 (``NTXentLoss``; the same trick in LiftedStructure and
TupletMargin).
Costs: memory grows with the cube of the batch: 2.2 GB at 512 rows, and single tensors of 69 GB at
4,096, where 64 MB hold every similarity there is.
Mend: one row of similarities for each query.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from lossmith.losses.retrieval import info_nce

FAMILY = "retrieval"
INPUTS = "queries+positives"
CAUGHT_BY = ("cost",)


def broken(queries: Tensor, positives: Tensor, *, temperature: float = 0.1) -> Tensor:
    """For each of B positive pairs, all B (B - 1) negative pairs, those of other rows masked."""
    n = len(queries)
    similarity = F.normalize(queries, dim=-1) @ F.normalize(positives, dim=-1).T / temperature
    row, column = (~torch.eye(n, dtype=torch.bool)).nonzero(as_tuple=True)
    belongs = torch.arange(n).unsqueeze(1) == row.unsqueeze(0)
    negatives = torch.where(belongs, similarity[row, column].unsqueeze(0), -torch.inf)
    own = similarity.diagonal().unsqueeze(1)
    return (torch.cat([own, negatives], dim=1).logsumexp(1) - own.squeeze(1)).mean()


def corrected(queries: Tensor, positives: Tensor, *, temperature: float = 0.1) -> Tensor:
    """The softmax of each row."""
    return info_nce(queries, positives, temperature=temperature)
