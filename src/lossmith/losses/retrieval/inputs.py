"""What the objectives for embeddings ask of their arguments, in one place."""

from __future__ import annotations

import torch
from torch import Tensor

from lossmith.core.numerics import unit_vectors, upcast
from lossmith.core.spec import Law
from lossmith.core.validate import (
    check_float,
    check_leading_shape,
    check_mask,
    check_range,
    check_same_shape,
    shape_text,
)
from lossmith.kernels.contrastive.groups import groups

IN_BATCH: dict[Law, str] = {
    "micro-batches": "the other rows are the negatives: a split of the batch has fewer of them"
}


def real_rows(mask: Tensor | None, *rows: Tensor) -> tuple[Tensor, ...]:
    """Vectors with the masked ones at zero, so that what they held reaches nothing."""
    if mask is None:
        return rows
    return tuple(torch.where(mask.unsqueeze(-1), row, 0.0) for row in rows)


def vectors_at(
    temperature: float | Tensor,
    queries: Tensor,
    positives: Tensor,
    mask: Tensor | None,
    normalize: bool,
) -> tuple[Tensor, Tensor]:
    """Queries over the temperature, and positives: at least float32, the masked ones zero."""
    queries, positives = upcast(queries, positives)
    if normalize:
        return unit_vectors(queries, mask, temperature), unit_vectors(positives, mask)
    queries, positives = real_rows(mask, queries, positives)
    return queries / temperature, positives


def check_temperature(temperature: float | Tensor) -> float | Tensor:
    """The temperature as a number above 0 or a scalar tensor."""
    check_range("temperature", temperature, 0.0, low_open=True)
    return one_number("temperature", temperature)


def one_number(name: str, value: float | Tensor) -> float | Tensor:
    """A number, or a tensor of one value as a scalar."""
    if not isinstance(value, Tensor):
        return value
    if value.numel() != 1:
        raise ValueError(
            f"{name} {shape_text(value)} must hold one value. For a weight per row there is "
            "weight=."
        )
    return value.reshape(())


def check_vectors(mask: Tensor | None, weight: Tensor | None, **tensors: Tensor) -> None:
    """Raise unless these are ``(B, d)`` alike, with a mask and a weight per row."""
    check_float(**tensors)
    check_same_shape(**tensors)
    for name, tensor in tensors.items():
        if tensor.dim() != 2:
            raise ValueError(
                f"{name} {shape_text(tensor)} must be (B, d), one vector for each row of the batch."
            )
    name, tensor = next(iter(tensors.items()))
    check_leading_shape(tensor, name, mask=mask, weight=weight)
    check_mask("mask", mask)


def check_whole(**tensors: Tensor) -> None:
    """Raise unless these hold whole numbers that only say what is the same."""
    for name, tensor in tensors.items():
        if tensor.is_floating_point() or tensor.is_complex():
            raise TypeError(
                f"{name} must be of an integer type; got {tensor.dtype} {shape_text(tensor)}. "
                f"Try {name}.long()."
            )


def labelled(
    embeddings: Tensor,
    labels: Tensor,
    mask: Tensor | None,
    weight: Tensor | None,
    *,
    normalize: bool = True,
) -> tuple[Tensor, Tensor]:
    """Checked embeddings, of unit length unless told otherwise, and the group of each."""
    check_vectors(mask, weight, embeddings=embeddings)
    check_leading_shape(embeddings, "embeddings", labels=labels)
    check_whole(labels=labels)
    (rows,) = upcast(embeddings)
    rows = unit_vectors(rows, mask) if normalize else real_rows(mask, rows)[0]
    return rows, groups(labels, mask)


def slope_of_rows(rows: Tensor, valid: Tensor | None, weight: Tensor | None) -> Tensor:
    """What a mean or a sum multiplies the cost of each row by, up to a common factor."""
    slope = torch.ones_like(rows[:, 0]) if weight is None else weight.to(rows.dtype)
    return slope if valid is None else torch.where(valid, slope, 0.0)
