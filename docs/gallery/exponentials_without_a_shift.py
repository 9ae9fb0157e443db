"""A log-sum-exp without the max.

Published: Inf-CLIP's ring (``log(exp(qk).sum())``); sentence-transformers' p-ListMLE
(``sorted_logits.exp()``).
Costs: exp overflows float32 at 88. CLIP's logit scale may go to 100, so the loss is infinite
exactly when the model is sure.
Mend: ``logsumexp``.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from lossmith.core.numerics import full_precision, unit_vectors, upcast
from lossmith.core.reduce import reduce
from lossmith.core.validate import check_float, check_same_shape

FAMILY = "retrieval"
INPUTS = "queries+positives"
CAUGHT_BY = ("extremes",)


def broken(queries: Tensor, positives: Tensor, *, scale: float = 100.0) -> Tensor:
    """The formula as it stands in the paper."""
    similarity = scale * F.normalize(queries, dim=-1) @ F.normalize(positives, dim=-1).T
    return (similarity.exp().sum(-1).log() - similarity.diagonal()).mean()


def corrected(queries: Tensor, positives: Tensor, *, scale: float = 100.0) -> Tensor:
    """The same formula, shifted by its maximum."""
    check_float(queries=queries, positives=positives)
    check_same_shape(queries=queries, positives=positives)
    queries, positives = map(unit_vectors, upcast(queries, positives))
    with full_precision(queries):
        similarity = scale * queries @ positives.T
    return reduce(similarity.logsumexp(-1) - similarity.diagonal())
