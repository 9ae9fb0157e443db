"""Objectives for a number per example."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from lossmith.core.numerics import upcast
from lossmith.core.reduce import Divisor, Reduction, reduce
from lossmith.core.spec import Tune, objective
from lossmith.core.validate import (
    check_choice,
    check_finite,
    check_float,
    check_mask,
    check_range,
    check_same_shape,
)


@objective(
    family="regression",
    module="EpsilonInsensitive",
    inputs="prediction+number",
    unit="elements",
    serves="share of predictions within a tolerance",
    limit="epsilon=0: absolute error (power=1), squared error (power=2)",
    tune={"epsilon": Tune(0.01, 1.0, log=True), "power": Tune(choices=(1, 2))},
    aliases=("SVR loss", "tube loss", "dead-band loss"),
    paper="Vapnik 1995, The Nature of Statistical Learning Theory",
)
def epsilon_insensitive(
    prediction: Tensor,
    target: Tensor,
    *,
    epsilon: float,
    power: Literal[1, 2] = 1,
    mask: Tensor | None = None,
    weight: Tensor | None = None,
    reduction: Reduction = "mean",
    divisor: Divisor | None = None,
) -> Tensor:
    """Bring a prediction to within ``epsilon`` of the target, and no closer.

    Formula: ``max(0, |prediction - target| - epsilon) ** power``.

    Use when an error below a tolerance does no harm; ``power=2`` punishes large errors more and
    has no kink at the edge of the band. Not when every bit of accuracy counts, and not before
    thinking about units: ``epsilon`` is in those of the target.

    Shapes: prediction, target, mask and weight all the same ``[...]``.

    Mean divides by: elements, those within the band included.

    Errors: shapes that differ, (N,) against (N, 1) included; a target that is NaN or infinite; a
    negative epsilon.

    >>> prediction = torch.tensor([1.0, 3.0])  # 0.5 away, within the band; 1.5 away
    >>> epsilon_insensitive(prediction, torch.tensor([1.5, 1.5]), epsilon=1.0, reduction="none")
    tensor([0.0000, 0.5000])

    Source: Vapnik 1995.
    """
    check_float(prediction=prediction)
    check_range("epsilon", epsilon, 0.0)
    check_choice("power", power, (1, 2))
    check_same_shape(prediction=prediction, target=target, mask=mask, weight=weight)
    check_mask("mask", mask)
    (prediction,) = upcast(prediction)
    target = target.to(prediction.dtype)
    if mask is not None:
        prediction = torch.where(mask, prediction, 0.0)
        target = torch.where(mask, target, 0.0)
    check_finite("target", target, "a finite number; leave it out with mask=")
    excess = F.relu((prediction - target).abs() - epsilon)
    cost = excess if power == 1 else excess.square()
    return reduce(cost, valid=mask, weight=weight, reduction=reduction, divisor=divisor)
