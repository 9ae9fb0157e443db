"""A BPR that takes the log of a sigmoid.

Published: recpack and torch-rechub (``-log(sigmoid(p - n))``).
Costs: infinite loss and NaN gradient at a difference of -90 in float32, and at -12 in float16: one
bad pair ends the training.
Mend: ``softplus(n - p)``.
"""

from __future__ import annotations

from torch import Tensor

from lossmith.core.numerics import softplus, upcast
from lossmith.core.reduce import reduce
from lossmith.core.validate import check_float, check_same_shape

FAMILY = "recommendation"
INPUTS = "positive+negative"
CAUGHT_BY = ("extremes",)


def broken(positive: Tensor, negative: Tensor) -> Tensor:
    """The textbook's two steps."""
    return -(positive - negative).sigmoid().log().mean()


def corrected(positive: Tensor, negative: Tensor) -> Tensor:
    """The same value in one step."""
    check_float(positive=positive, negative=negative)
    check_same_shape(positive=positive, negative=negative)
    positive, negative = upcast(positive, negative)
    return reduce(softplus(negative - positive))
