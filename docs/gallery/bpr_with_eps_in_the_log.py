"""A BPR whose epsilon stops the worst pairs from learning.

Published: RecBole (``-log(1e-10 + sigmoid(p - n))``).
Costs: the gradient at a difference of -23 is -0.51, at -30 -0.0009 and at -90 exactly 0, where -1
is right: the worse a pair is ranked the less it learns.
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
    """The epsilon keeps the log finite."""
    return -(1e-10 + (positive - negative).sigmoid()).log().mean()


def corrected(positive: Tensor, negative: Tensor) -> Tensor:
    """-log sigmoid, in the form that needs no epsilon."""
    check_float(positive=positive, negative=negative)
    check_same_shape(positive=positive, negative=negative)
    positive, negative = upcast(positive, negative)
    return reduce(softplus(negative - positive))
