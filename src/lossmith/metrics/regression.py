"""Metrics for a number per example.

All take predictions ``[N]`` and targets ``[N]`` and give one number. All compute in float64.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from lossmith.core.metric import metric
from lossmith.core.validate import (
    check_float,
    check_range,
    check_same_shape,
    check_values,
    shape_text,
)

FAMILY = "regression"


@metric(family=FAMILY, higher_is_better=False)
def mae(prediction: Tensor, target: Tensor) -> Tensor:
    """Mean distance from the target.

    Formula: ``1/N sum_i |prediction_i - target_i|``.

    No examples: NaN.

    Averages over: examples.

    >>> mae(torch.tensor([1.0, 3.0]), torch.tensor([1.5, 1.5]))  # (0.5 + 1.5) / 2
    tensor(1., dtype=torch.float64)
    """
    return _error(prediction, target).abs().mean()


@metric(family=FAMILY, higher_is_better=False)
def rmse(prediction: Tensor, target: Tensor) -> Tensor:
    """Root of the mean squared distance from the target, in which large errors weigh most.

    Formula: ``sqrt(1/N sum_i (prediction_i - target_i)^2)``.

    No examples: NaN.

    Averages over: examples, under the root.

    >>> rmse(torch.tensor([1.0, 5.0]), torch.tensor([2.0, -2.0]))  # sqrt((1 + 49) / 2)
    tensor(5., dtype=torch.float64)
    """
    return _error(prediction, target).square().mean().sqrt()


@metric(family=FAMILY, higher_is_better=True)
def r2(prediction: Tensor, target: Tensor) -> Tensor:
    """Share of the targets' variance that is explained: 0 for their mean, below 0 for worse.

    Formula: ``1 - sum_i (prediction_i - target_i)^2 / sum_i (target_i - mean target)^2``.

    No examples, or targets that are all equal: NaN.

    Averages over: nothing; it is one ratio over all examples.

    >>> r2(torch.tensor([1.0, 2.0, 2.0]), torch.tensor([1.0, 2.0, 3.0]))  # 1 - 1/2
    tensor(0.5000, dtype=torch.float64)
    """
    squared = _error(prediction, target).square().sum()
    target = target.double()
    spread = (target - target.mean()).square().sum()
    return torch.where(spread > 0, 1.0 - squared / spread, math.nan)


@metric(family=FAMILY, higher_is_better=True, at_band=True)
def within(prediction: Tensor, target: Tensor, *, band: float) -> Tensor:
    """Share of predictions no farther than the band from the target.

    Formula: ``1/N sum_i [|prediction_i - target_i| <= band]``; the band is in units of the target.

    Ties: an error of exactly the band is within it. No examples: NaN.

    Averages over: examples.

    >>> within(torch.tensor([1.0, 3.0]), torch.tensor([1.5, 1.5]), band=0.5)
    tensor(0.5000, dtype=torch.float64)
    """
    check_range("band", band, 0.0)
    return (_error(prediction, target).abs() <= band).double().mean()


def _error(prediction: Tensor, target: Tensor) -> Tensor:
    """Checked ``prediction - target`` in float64."""
    check_float(prediction=prediction)
    check_same_shape(prediction=prediction, target=target)
    if prediction.dim() != 1:
        raise ValueError(f"prediction {shape_text(prediction)} must be [N]: a number per example.")
    good = ~prediction.isnan()
    check_values("prediction", prediction, good, "a number; a model that diverged gives NaN")
    check_values("target", target, target.isfinite(), "a finite number")
    return prediction.double() - target.double()
