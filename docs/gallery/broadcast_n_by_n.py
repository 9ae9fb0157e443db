"""A squared error of (N,) against (N, 1).

Published: the oldest mistake of all; torch's own ``mse_loss`` warns and goes on.
Costs: every prediction is compared with every target, N x N terms. The minimum is the mean of the
targets for everybody: the model learns a constant, and the loss levels out at the variance.
Mend: an error that names both shapes.
"""

from __future__ import annotations

from torch import Tensor

from lossmith.core.numerics import upcast
from lossmith.core.reduce import reduce
from lossmith.core.validate import check_float, check_same_shape

FAMILY = "regression"
INPUTS = "prediction+number"
CAUGHT_BY = ("shapes",)


def broken(prediction: Tensor, target: Tensor) -> Tensor:
    """Whatever broadcasts, broadcasts."""
    return (prediction - target).square().mean()


def corrected(prediction: Tensor, target: Tensor) -> Tensor:
    """The same formula, for shapes that are the same."""
    check_float(prediction=prediction)
    check_same_shape(prediction=prediction, target=target)
    prediction, target = upcast(prediction, target)
    return reduce((prediction - target).square())
