"""The one definition of "mean", "sum" and "none" that every objective ends with."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from lossmith.core.validate import check_choice, check_range, check_same_shape, shape_text

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
            micro-batch and rank, so that the parts of a batch add up to the whole. 0 says that
            nothing counts anywhere.

    Nothing valid gives exactly 0, still connected to the graph. A NaN in a valid entry stays.

    >>> cost = torch.tensor([1.0, 3.0, 50.0])
    >>> reduce(cost, valid=torch.tensor([True, True, False]))
    tensor(2.)
    >>> reduce(cost, valid=torch.tensor([True, True, False]), divisor=8)
    tensor(0.5000)
    """
    _check_reduction(reduction, divisor)
    check_same_shape(cost=cost, valid=valid, weight=weight, count=count)
    if valid is not None:
        cost = torch.where(valid, cost, 0.0)
    if weight is not None:
        weight = weight.to(cost.dtype)
        # Inert before the product too: the gradient of the cost is the weight.
        cost = cost * (weight if valid is None else torch.where(valid, weight, 0.0))
    if reduction == "none":
        return cost
    total = cost.sum()
    if reduction == "sum" or divisor is not None:
        return reduce_total(total, 0, reduction=reduction, divisor=divisor)
    if count is not None:
        units = count.to(total.dtype)
        units = (units if valid is None else torch.where(valid, units, 0.0)).sum()
    elif valid is not None:
        units = valid.sum().to(total.dtype)
    else:
        return total / max(cost.numel(), 1)
    return total / torch.where(units > 0, units, 1.0)


def reduce_total(
    total: Tensor, count: int, *, reduction: Reduction, divisor: Divisor | None
) -> Tensor:
    """What :func:`reduce` makes of ``count`` costs that are added up already.

    >>> reduce_total(torch.tensor(4.0), 2, reduction="mean", divisor=None)
    tensor(2.)
    """
    _check_reduction(reduction, divisor)
    if reduction == "sum":
        return total
    if divisor is None:
        return total / max(count, 1)
    units = _divisor_units(divisor, total)
    return total / torch.where(units > 0, units, 1.0)


def _check_reduction(reduction: Reduction, divisor: Divisor | None) -> None:
    check_choice("reduction", reduction, ("mean", "sum", "none"))
    if divisor is not None and reduction != "mean":
        raise ValueError(
            f'divisor replaces the count of reduction="mean"; got reduction={reduction!r}. '
            "Divide the sum yourself, or leave divisor out."
        )


def _divisor_units(divisor: Divisor, total: Tensor) -> Tensor:
    if not isinstance(divisor, Tensor):
        check_range("divisor", divisor, 0.0)
        return torch.full_like(total, divisor)
    if divisor.dim() > 0:
        raise ValueError(
            f"divisor must be one number, the count over every part of the batch; got a tensor "
            f"{shape_text(divisor)}. Try divisor.sum()."
        )
    return divisor.to(total.dtype)
