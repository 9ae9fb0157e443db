"""A "BPR" that is one minus a sigmoid.

Published: Spotlight and catalyst (``1 - sigmoid(p - n)``, there called BPR loss).
Costs: another function: bounded by 1, and flat for the pairs that are most wrong. At a difference
of -30 the gradient is 9e-14, where BPR has -1.
Mend: ``softplus(n - p)``.
"""

from __future__ import annotations

from torch import Tensor

from lossmith.core.numerics import softplus, upcast
from lossmith.core.reduce import reduce
from lossmith.core.validate import check_float, check_same_shape

FAMILY = "recommendation"
INPUTS = "positive+negative"
CAUGHT_BY = ("saturation",)


def broken(positive: Tensor, negative: Tensor) -> Tensor:
    """The share of mistakes, made smooth."""
    return (1.0 - (positive - negative).sigmoid()).mean()


def corrected(positive: Tensor, negative: Tensor) -> Tensor:
    """Rendle's criterion."""
    check_float(positive=positive, negative=negative)
    check_same_shape(positive=positive, negative=negative)
    positive, negative = upcast(positive, negative)
    return reduce(softplus(negative - positive))
