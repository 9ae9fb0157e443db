"""A listwise softmax with an epsilon in its log.

Published: allRank (``listNet``: ``log(softmax(s) + 1e-10)``).
Costs: a relevant document far down the list is capped: its gradient is 0.00068 where 0.731 is
right.
Mend: ``log_softmax``.
"""

from __future__ import annotations

from torch import Tensor

from lossmith.core.numerics import upcast
from lossmith.core.reduce import reduce
from lossmith.core.validate import check_float, check_same_shape, check_values

FAMILY = "ranking"
INPUTS = "scores+relevance"
CAUGHT_BY = ("saturation",)


def broken(scores: Tensor, relevance: Tensor) -> Tensor:
    """Cross-entropy of two softmaxes, the log guarded."""
    q = relevance.to(scores.dtype).softmax(-1)
    return -(q * (scores.softmax(-1) + 1e-10).log()).sum(-1).mean()


def corrected(scores: Tensor, relevance: Tensor) -> Tensor:
    """Cross-entropy of two softmaxes."""
    check_float(scores=scores)
    check_same_shape(scores=scores, relevance=relevance)
    check_values("relevance", relevance, relevance.isfinite(), "a finite grade")
    (scores,) = upcast(scores)
    q = relevance.to(scores.dtype).softmax(-1)
    return reduce(-(q * scores.log_softmax(-1)).sum(-1))
