"""A pairwise ranking loss that is NaN when all grades are equal.

Published: allRank (``rankNet``, ``lambdaLoss`` with reduction="mean").
Costs: a query whose documents are all irrelevant, or equally relevant, has no pair; the mean over
no pairs is NaN and so are the weights after the step. Such queries are common in every log.
Mend: no pair costs 0.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from lossmith.core.numerics import softplus, upcast
from lossmith.core.reduce import Divisor, reduce
from lossmith.core.validate import check_float, check_same_shape, check_values

FAMILY = "ranking"
INPUTS = "scores+relevance"
CAUGHT_BY = ("nothing-valid",)


def broken(scores: Tensor, relevance: Tensor) -> Tensor:
    """Mean over the pairs, gathered by boolean indexing."""
    gap = scores.unsqueeze(-1) - scores.unsqueeze(-2)
    pair = relevance.unsqueeze(-1) > relevance.unsqueeze(-2)
    return -F.logsigmoid(gap[pair]).mean()


def corrected(
    scores: Tensor,
    relevance: Tensor,
    *,
    divisor: Divisor | None = None,
) -> Tensor:
    """Sum over the pairs, by their number, if there are any."""
    check_float(scores=scores)
    check_same_shape(scores=scores, relevance=relevance)
    check_values("relevance", relevance, relevance.isfinite(), "a finite grade")
    (scores,) = upcast(scores)
    gap = scores.unsqueeze(-1) - scores.unsqueeze(-2)
    pair = relevance.unsqueeze(-1) > relevance.unsqueeze(-2)
    cost = torch.where(pair, softplus(-gap), 0.0).sum((-2, -1))
    pairs = pair.sum((-2, -1))
    return reduce(cost, count=pairs, divisor=divisor)
