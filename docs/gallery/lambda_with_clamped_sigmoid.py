"""A LambdaRank whose clamps switch the worst pairs off.

Published: allRank (``lambdaLoss``, any weighing scheme); the same expression in ptranking and in
sentence-transformers before 6.2.
Costs: sigmoid and its power are clamped at 1e-10 before the log. Scores [0, 30] for grades [1, 0],
the worst order there is, have a gradient of exactly 0; -5.857 is right.
Mend: log sigmoid, which has no need of a clamp.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from lossmith.core.numerics import softplus, upcast
from lossmith.core.reduce import Divisor, reduce
from lossmith.core.validate import check_float, check_same_shape, check_values

FAMILY = "ranking"
INPUTS = "scores+relevance"
CAUGHT_BY = ("saturation",)


def _pairs(scores: Tensor, relevance: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Score gaps, the difference in gain, and which pairs count."""
    gap = scores.unsqueeze(-1) - scores.unsqueeze(-2)
    grade = relevance.to(scores.dtype)
    gain = (torch.exp2(grade.unsqueeze(-1)) - torch.exp2(grade.unsqueeze(-2))).abs()
    return gap, gain, relevance.unsqueeze(-1) > relevance.unsqueeze(-2)


def broken(scores: Tensor, relevance: Tensor) -> Tensor:
    """The log of a clamped power of a clamped sigmoid."""
    gap, gain, pair = _pairs(scores, relevance)
    p = gap.sigmoid().clamp(min=1e-10)
    cost = -(p**gain).clamp(min=1e-10).log2()
    return cost[pair].sum() / max(int(pair.sum()), 1)


def corrected(
    scores: Tensor,
    relevance: Tensor,
    *,
    divisor: Divisor | None = None,
) -> Tensor:
    """The same weights on log sigmoid."""
    check_float(scores=scores)
    check_same_shape(scores=scores, relevance=relevance)
    check_values("relevance", relevance, relevance.isfinite(), "a finite grade")
    (scores,) = upcast(scores)
    gap, gain, pair = _pairs(scores, relevance)
    cost = torch.where(pair, gain * softplus(-gap) / math.log(2.0), 0.0).sum((-2, -1))
    return reduce(cost, count=pair.sum((-2, -1)), divisor=divisor)
