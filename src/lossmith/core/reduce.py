"""The one definition of "mean", "sum" and "none" that every objective ends with."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from lossmith.core.validate import check_choice, check_same_shape

Reduction = Literal["mean", "sum", "none"]
Divisor = float | Tensor


def reduce(
    cost: Tensor,
    *,
    valid: Tensor | None = None,
    weight: Tensor | None = None,
    count: Tensor | None = None,
    reduction: Reduction = "mean",
    divisor: Divisor | None = None,
) -> Tensor:
    """Reduce a cost per unit (or per row of units) to what the user asked for.

    Args:
        cost: one value per unit, or per row where a row holds several units.
        valid: bool, True = counts; entries that are False cost 0 and are not counted.
        weight: multiplies the cost and leaves the count; same shape as ``cost``.
        count: how many units each entry of ``cost`` holds (default: one).
        reduction: "mean" = sum / count, "sum", or "none" (invalid entries 0, so that
            ``none.sum() == sum``).
        divisor: replaces the count of "mean": a count known before the pass, over every
            micro-batch and rank, so that the parts of a batch add up to the whole.

    Nothing valid gives exactly 0, still connected to the graph. A NaN in a valid entry stays.

    >>> cost = torch.tensor([1.0, 3.0, 50.0])
    >>> reduce(cost, valid=torch.tensor([True, True, False]))
    tensor(2.)
    >>> reduce(cost, valid=torch.tensor([True, True, False]), divisor=8)
    tensor(0.5000)
    """
    check_choice("reduction", reduction, ("mean", "sum", "none"))
    if divisor is not None and reduction != "mean":
        raise ValueError(
            f'divisor replaces the count of reduction="mean"; got reduction={reduction!r}. '
            "Divide the sum yourself, or leave divisor out."
        )
    if weight is not None:
        check_same_shape(cost=cost, weight=weight)
        cost = cost * weight.to(cost.dtype)
    if valid is not None:
        cost = torch.where(valid, cost, torch.zeros_like(cost))
    if reduction == "none":
        return cost
    total = cost.sum()
    if reduction == "sum":
        return total
    if divisor is not None:
        return total / divisor
    if count is not None:
        units = count.to(total.dtype)
        units = (units if valid is None else torch.where(valid, units, 0.0)).sum()
    elif valid is not None:
        units = valid.sum().to(total.dtype)
    else:
        return total / max(cost.numel(), 1)
    return total / torch.where(units > 0, units, 1.0)
