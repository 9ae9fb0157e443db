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
from lossmith.kernels.total_costs import Form, beyond, cost_at_once

TARGET = "a finite number; leave it out with mask="


@objective(
    family="regression",
    module="SquaredError",
    inputs="prediction+number",
    unit="elements",
    serves="RMSE, R2",
    limit="the same as epsilon_insensitive(epsilon=0, power=2)",
    aliases=("MSE", "mean squared error", "L2 loss", "least squares"),
    paper="Legendre 1805; Gauss 1809",
)
def squared_error(
    prediction: Tensor,
    target: Tensor,
    *,
    mask: Tensor | None = None,
    weight: Tensor | None = None,
    reduction: Reduction = "mean",
    divisor: Divisor | None = None,
) -> Tensor:
    """Bring a prediction to the mean of the targets that look alike, large errors first.

    Formula: ``(prediction - target) ** 2``, without a factor of one half.

    Use when an error twice as large is four times as bad, or when the mean is wanted. Not when a
    few targets are far out, as these then decide: try ``huber`` or ``absolute_error``.

    Shapes: prediction, target, mask and weight all the same ``[...]``.

    Mean divides by: elements.

    Errors: shapes that differ, (N,) against (N, 1) included; a target that is NaN or infinite.

    >>> squared_error(torch.tensor([1.0, 3.0]), torch.tensor([1.5, 1.5]))  # (0.25 + 2.25) / 2
    tensor(1.2500)

    Source: Legendre 1805; Gauss 1809.
    """
    form = beyond(0.0, 2)
    return _reduced(form, prediction, target, mask, weight, reduction, divisor)


@objective(
    family="regression",
    module="AbsoluteError",
    inputs="prediction+number",
    unit="elements",
    serves="MAE",
    limit="the same as epsilon_insensitive(epsilon=0)",
    aliases=("MAE", "mean absolute error", "L1 loss", "least absolute deviations"),
    paper="Boscovich 1757; Laplace 1793",
)
def absolute_error(
    prediction: Tensor,
    target: Tensor,
    *,
    mask: Tensor | None = None,
    weight: Tensor | None = None,
    reduction: Reduction = "mean",
    divisor: Divisor | None = None,
) -> Tensor:
    """Bring a prediction to the median of the targets that look alike, every error at one pull.

    Formula: ``|prediction - target|``.

    Use when an error twice as large is twice as bad, or when targets far out must not decide.
    Not when the mean is wanted of targets that lean to one side. Its gradient does not shrink near
    the target (0 exactly there), so it needs a step size that does: ``huber`` is smooth.

    Shapes: prediction, target, mask and weight all the same ``[...]``.

    Mean divides by: elements.

    Errors: shapes that differ, (N,) against (N, 1) included; a target that is NaN or infinite.

    >>> absolute_error(torch.tensor([1.0, 3.0]), torch.tensor([1.5, 1.5]))  # (0.5 + 1.5) / 2
    tensor(1.)

    Source: Boscovich 1757; Laplace 1793.
    """
    form = beyond(0.0, 1)
    return _reduced(form, prediction, target, mask, weight, reduction, divisor)


@objective(
    family="regression",
    module="Huber",
    inputs="prediction+number",
    unit="elements",
    serves="MAE, RMSE",
    limit="delta above every error: half of squared_error",
    tune={"delta": Tune(0.1, 10.0, log=True)},
    aliases=("smooth L1 loss",),
    paper="Huber 1964, Robust estimation of a location parameter",
)
def huber(
    prediction: Tensor,
    target: Tensor,
    *,
    delta: float = 1.0,
    mask: Tensor | None = None,
    weight: Tensor | None = None,
    reduction: Reduction = "mean",
    divisor: Divisor | None = None,
) -> Tensor:
    """Count small errors squared and those beyond ``delta`` in proportion, so that none dominates.

    Formula: ``e ** 2 / 2`` where ``e = |prediction - target| <= delta``, else
    ``delta (e - delta / 2)``.

    Use when most targets are sound and some are far out. Not before thinking about units:
    ``delta`` is in those of the target. As delta shrinks, huber / delta becomes
    ``absolute_error``. torch's ``smooth_l1_loss(beta=delta)`` is huber / delta.

    Shapes: prediction, target, mask and weight all the same ``[...]``.

    Mean divides by: elements.

    Errors: shapes that differ, (N,) against (N, 1) included; a target that is NaN or infinite; a
    delta that is not above 0.

    >>> prediction = torch.tensor([1.0, 3.5])  # 0.5 away: 0.125; 2 away: 1 (2 - 0.5)
    >>> huber(prediction, torch.tensor([1.5, 1.5]), reduction="none")
    tensor([0.1250, 1.5000])

    Source: Huber 1964.
    """
    check_range("delta", delta, 0.0, low_open=True)
    distance = _error(prediction, target, mask, weight).abs()
    # One expression for both sides: no square of a large error that could overflow.
    near = distance.clamp(max=delta)
    cost = near * (distance - near / 2)
    return reduce(cost, valid=mask, weight=weight, reduction=reduction, divisor=divisor)


@objective(
    family="regression",
    module="Pinball",
    inputs="prediction+number",
    unit="elements",
    serves="a bound that a given share of targets stays below",
    limit="quantile=0.5: half of absolute_error",
    tune={"quantile": Tune(0.05, 0.95)},
    aliases=("quantile loss", "check loss", "tilted absolute error"),
    paper="Koenker, Bassett 1978, Regression quantiles",
)
def pinball(
    prediction: Tensor,
    target: Tensor,
    *,
    quantile: float = 0.5,
    mask: Tensor | None = None,
    weight: Tensor | None = None,
    reduction: Reduction = "mean",
    divisor: Divisor | None = None,
) -> Tensor:
    """Bring a prediction to where the share ``quantile`` of the targets that look alike is below.

    Formula: ``max(q e, (q - 1) e)`` for ``e = target - prediction`` and ``q = quantile``.

    Use when too low and too high cost differently (stock, delays), or for the ends of an interval:
    0.05 and 0.95 hold nine targets in ten. Not for the mean, and not for a metric that counts both
    sides alike, unless q is 0.5.

    Shapes: prediction, target, mask and weight all the same ``[...]``.

    Mean divides by: elements.

    Errors: shapes that differ, (N,) against (N, 1) included; a target that is NaN or infinite; a
    quantile outside [0, 1].

    >>> prediction = torch.tensor([1.0, 3.0])  # 0.5 too low: 0.9 0.5; 1.5 too high: 0.1 1.5
    >>> pinball(prediction, torch.tensor([1.5, 1.5]), quantile=0.9, reduction="none")
    tensor([0.4500, 0.1500])

    Source: Koenker, Bassett 1978.
    """
    check_range("quantile", quantile, 0.0, 1.0)
    error = _error(prediction, target, mask, weight)
    cost = (1.0 - quantile) * F.relu(error) + quantile * F.relu(-error)
    return reduce(cost, valid=mask, weight=weight, reduction=reduction, divisor=divisor)


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
    check_range("epsilon", epsilon, 0.0)
    check_choice("power", power, (1, 2))
    form = beyond(epsilon, power)
    return _reduced(form, prediction, target, mask, weight, reduction, divisor)


def _reduced(
    form: Form,
    prediction: Tensor,
    target: Tensor,
    mask: Tensor | None,
    weight: Tensor | None,
    reduction: Reduction,
    divisor: Divisor | None,
) -> Tensor:
    """The reduced costs of checked inputs, added up as they are made where that may be."""
    prediction, target = _checked(prediction, target, mask, weight)
    value = cost_at_once(form, prediction, target, mask, weight, reduction, divisor)
    if value is not None:  # and finite, so is every target
        return value
    check_finite("target", target, TARGET)
    cost = form.cost(prediction, target)
    return reduce(cost, valid=mask, weight=weight, reduction=reduction, divisor=divisor)


def _error(
    prediction: Tensor, target: Tensor, mask: Tensor | None, weight: Tensor | None
) -> Tensor:
    """Checked ``prediction - target``, 0 where the mask rules it out."""
    prediction, target = _checked(prediction, target, mask, weight)
    check_finite("target", target, TARGET)
    return prediction - target


def _checked(
    prediction: Tensor, target: Tensor, mask: Tensor | None, weight: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Both of one type and shape, 0 where the mask rules them out."""
    check_float(prediction=prediction)
    check_same_shape(prediction=prediction, target=target, mask=mask, weight=weight)
    check_mask("mask", mask)
    (prediction,) = upcast(prediction)
    target = target.to(prediction.dtype)
    if mask is not None:
        prediction = torch.where(mask, prediction, 0.0)
        target = torch.where(mask, target, 0.0)
    return prediction, target
