"""Labels brought to the form that the mathematics needs, once they are known to be valid."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from lossmith.core.numerics import upcast
from lossmith.core.reduce import Divisor, Reduction, reduce
from lossmith.core.validate import (
    all_within,
    check_class_index,
    check_float,
    check_leading_shape,
    check_mask,
    check_range,
    check_same_shape,
    check_values,
    shape_text,
)


def all_rows(rows: Tensor) -> Tensor:
    """True for every row of ``[..., C]``: the mask of a batch that has none."""
    return torch.ones_like(rows[..., 0], dtype=torch.bool)


def check_rows(name: str, rows: Tensor, mask: Tensor | None, weight: Tensor | None) -> None:
    """Raise unless these are floating-point rows ``[..., C]`` with a mask and a weight per row."""
    check_float(**{name: rows})
    check_leading_shape(rows, name, mask=mask, weight=weight)
    check_mask("mask", mask)


def check_many_classes(name: str, rows: Tensor, target_name: str, target: Tensor) -> None:
    """Raise unless rows ``[..., C]`` fit a target ``[...]`` and C is at least 2, unlike (N, 1)."""
    check_leading_shape(rows, name, **{target_name: target})
    if rows.shape[-1] < 2:
        raise ValueError(
            f"{name} {shape_text(rows)} for {target_name} {shape_text(target)} have one class; "
            f"expected at least two, or the shape of {target_name}. Try {name}.squeeze(-1)."
        )


def class_index(
    name: str,
    target: Tensor,
    classes: int,
    *,
    ignore_index: int | None = None,
    mask: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """The classes as int64, 0 where none counts, and which of them count.

    >>> class_index("target", torch.tensor([2, -100]), classes=3, ignore_index=-100)
    (tensor([2, 0]), tensor([ True, False]))
    """
    if target.dtype in (torch.uint8, torch.int8, torch.int16, torch.int32):
        # Indexing takes int64, and an ignore_index of -100 does not fit into uint8.
        target = target.long()
    counted = target if mask is None else torch.where(mask, target, 0)
    check_class_index(name, counted, classes, ignore_index)
    valid = torch.ones_like(counted, dtype=torch.bool) if mask is None else mask
    if ignore_index is not None:
        valid = valid & (counted != ignore_index)
    return torch.where(valid, counted, 0), valid


def plain_cost(
    logits: Tensor,
    target: Tensor,
    ignore_index: int,
    mask: Tensor | None,
    weight: Tensor | None,
    reduction: Reduction,
    divisor: Divisor | None,
) -> Tensor | None:
    """Cross-entropy by torch's own kernel, where all classes are known to count.

    None where some may not (or nothing may be known): the general way is the caller's.
    """
    classes = logits.shape[-1]
    index = not (target.is_floating_point() or target.is_complex() or target.dtype is torch.bool)
    if not index or mask is not None or target.shape != logits.shape[:-1] or target.dim() == 0:
        return None
    if 0 <= ignore_index < classes or not all_within(target, 0, classes - 1):
        return None
    rows, flat = (
        (logits, target) if target.dim() == 1 else (logits.flatten(0, -2), target.flatten())
    )
    if reduction in ("mean", "sum") and weight is None and divisor is None and len(flat) > 0:
        return F.cross_entropy(rows, flat.long(), reduction=reduction)
    cost = F.cross_entropy(rows, flat.long(), reduction="none").reshape(target.shape)
    return reduce(cost, weight=weight, reduction=reduction, divisor=divisor)


def rows_or_zero(rows: Tensor, mask: Tensor | None) -> Tensor:
    """The rows, 0 in those that the mask leaves out."""
    return rows if mask is None else torch.where(mask.unsqueeze(-1), rows, 0.0)


def check_signs(name: str, target: Tensor, mask: Tensor | None) -> None:
    """Raise unless the labels (of those in the mask) are all of {0, 1} or all of {-1, 1}."""
    real = torch.ones_like(target, dtype=torch.bool) if mask is None else mask
    good = (target == 1) | (target == 0) | (target == -1) | ~real
    check_values(name, target, good, "a label in {0, 1} or {-1, 1}")
    zero_found = ((target == 0) & real).any()
    good = (target != -1) | ~zero_found | ~real
    check_values(name, target, good, "0 or 1, as the batch also holds 0; not both codes")


def check_distribution(name: str, target: Tensor, mask: Tensor | None) -> None:
    """Raise unless each row (of those in the mask) is nonnegative and sums to 1."""
    total = target.sum(dim=-1)
    if mask is None and all_within(target, 0.0, math.inf) and all_within(total, 0.991, 1.009):
        return
    real = all_rows(target) if mask is None else mask
    nonnegative = (target >= 0) | ~real.unsqueeze(-1)
    check_values(name, target, nonnegative, "a probability, at least 0")
    good = ((total - 1.0).abs() <= 0.01) | ~real
    check_values(f"{name}.sum(-1)", total, good, "1, as probabilities sum to")


def binary_inputs(
    logits: Tensor, target: Tensor, mask: Tensor | None, weight: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Checked logits and targets of one type, with masked entries kept out of the maths."""
    check_float(logits=logits)
    check_same_shape(logits=logits, target=target, mask=mask, weight=weight)
    check_mask("mask", mask)
    (logits,) = upcast(logits)
    target = target.to(logits.dtype)
    if mask is not None:
        logits = torch.where(mask, logits, 0.0)
        target = torch.where(mask, target, 0.0)
    if not all_within(target, 0.0, 1.0):
        check_values("target", target, (target >= 0) & (target <= 1), "a label in [0, 1]")
    return logits, target


def per_class(name: str, value: float | Tensor, rows: Tensor) -> Tensor:
    """One weight for each class of ``rows`` ``[..., C]``, or a single one for all.

    >>> per_class("pos_weight", 2, torch.zeros(4, 3))
    tensor(2.)
    """
    weights = torch.as_tensor(value, dtype=rows.dtype, device=rows.device)
    if weights.dim() > 0 and weights.shape != rows.shape[-1:]:
        raise ValueError(
            f"{name} {shape_text(weights)} must be one number, or one for each class: "
            f"{tuple(rows.shape[-1:])} for logits {shape_text(rows)}."
        )
    check_values(name, weights, weights >= 0, "a weight, at least 0")
    return weights


def positive_weight(pos_weight: float | Tensor | None, logits: Tensor) -> float | Tensor:
    """What multiplies the cost of a yes: a number, or one for each class."""
    if pos_weight is None:
        return 1.0
    if isinstance(pos_weight, (int, float)):
        check_range("pos_weight", pos_weight, 0.0, low_open=True)
    return per_class("pos_weight", pos_weight, logits)
