"""Checks whose messages say which argument, what it was, what was expected and what to do.

Shape checks always run: they cost nothing and read no values. Value checks read tensors, which
makes an accelerator wait; they are off under ``torch.compile`` and ``torch.vmap``, and
:func:`value_checks` turns them off everywhere.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

_enabled = os.environ.get("LOSSMITH_VALUE_CHECKS", "1") != "0"


@contextmanager
def value_checks(enabled: bool) -> Iterator[None]:
    """Turn value checks on or off for a block; ``LOSSMITH_VALUE_CHECKS=0`` does so for a process.

    >>> import lossmith as lm
    >>> with value_checks(False):
    ...     _ = lm.binary_cross_entropy(torch.zeros(1), torch.tensor([7.0]))
    """
    global _enabled
    before, _enabled = _enabled, enabled
    try:
        yield
    finally:
        _enabled = before


def values_readable(*tensors: Tensor) -> bool:
    """Whether the values of these tensors may be looked at here and now."""
    if not _enabled or torch.compiler.is_compiling():
        return False
    return not any(tensor.is_meta or _stands_for_many(tensor) for tensor in tensors)


def _stands_for_many(tensor: Tensor) -> bool:
    """Whether vmap is at work, where asking for a value is an error, at any depth (vmap(grad))."""
    functorch = torch._C._functorch
    while functorch.is_functorch_wrapped_tensor(tensor):
        if functorch.is_batchedtensor(tensor):
            return True
        tensor = functorch.get_unwrapped(tensor)
    return False


def under_transform(*tensors: Tensor) -> bool:
    """Whether ``torch.func`` (grad, vmap, jvp, ...) is at work on one of these tensors."""
    if torch.compiler.is_compiling():
        return False
    return any(map(torch._C._functorch.is_functorch_wrapped_tensor, tensors))


def under_tracing(*tensors: Tensor) -> bool:
    """Whether ``torch.compile`` or ``torch.func`` looks through what is done to these tensors.

    Then the plain form serves, which they know how to fuse and to transform.
    """
    return torch.compiler.is_compiling() or under_transform(*tensors)


def shape_text(tensor: Tensor) -> str:
    """The shape as the messages print it: ``(8, 16)``."""
    return str(tuple(tensor.shape))


def check_choice(name: str, value: object, choices: Sequence[object]) -> None:
    """Raise unless ``value`` is one of ``choices``."""
    if value in choices:
        return
    listed = ", ".join(repr(choice) for choice in choices)
    raise ValueError(f"{name}={value!r} is not a choice; expected one of {listed}.")


def check_range(
    name: str,
    value: float | Tensor,
    low: float = float("-inf"),
    high: float = float("inf"),
    *,
    low_open: bool = False,
) -> None:
    """Raise unless the number lies in [low, high], or in (low, high] when ``low_open``.

    A knob may be a tensor (a learnable temperature); its value is not looked at.
    """
    if isinstance(value, Tensor):
        return
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{name} must be a number; got {type(value).__name__} {value!r}.")
    above = value > low if low_open else value >= low
    if not (above and value <= high):
        left = "(" if low_open or low == float("-inf") else "["
        right = ")" if high == float("inf") else "]"
        raise ValueError(f"{name} must lie in {left}{low:g}, {high:g}{right}; got {value!r}.")


def check_whole_number(name: str, value: object, low: int) -> None:
    """Raise unless ``value`` is an int of at least ``low``."""
    if isinstance(value, bool) or not isinstance(value, (int, torch.SymInt)):
        raise TypeError(f"{name} must be a whole number; got {type(value).__name__} {value!r}.")
    if value < low:
        raise ValueError(f"{name} must be at least {low}; got {value!r}.")


def check_float(**tensors: Tensor) -> None:
    """Raise unless every named argument is a floating-point tensor."""
    for name, tensor in tensors.items():
        if not isinstance(tensor, Tensor):
            raise TypeError(
                f"{name} must be a torch.Tensor; got {type(tensor).__name__}. "
                f"Try torch.as_tensor({name})."
            )
        if not tensor.is_floating_point():
            raise TypeError(
                f"{name} must be floating point; got {tensor.dtype} {shape_text(tensor)}. "
                f"Try {name}.float()."
            )


def check_same_shape(**tensors: Tensor | None) -> None:
    """Raise unless all named tensors (None is skipped) have the very same shape.

    Nothing broadcasts silently: (N,) against (N, 1) would make N x N terms.
    """
    present = [(name, tensor) for name, tensor in tensors.items() if tensor is not None]
    (first_name, first), rest = present[0], present[1:]
    for name, tensor in rest:
        if tensor.shape != first.shape:
            raise ValueError(
                f"{first_name} {shape_text(first)} and {name} {shape_text(tensor)} must have the "
                f"same shape.{_reshape_hint(first_name, first, name, tensor)}"
            )


def _reshape_hint(first_name: str, first: Tensor, name: str, tensor: Tensor) -> str:
    for long_name, long, short in ((first_name, first, tensor), (name, tensor, first)):
        if long.dim() == short.dim() + 1 and long.shape[-1] == 1 and long.shape[:-1] == short.shape:
            return f" Try {long_name}.squeeze(-1)."
    return ""


def check_leading_shape(rows: Tensor, rows_name: str, **tensors: Tensor | None) -> None:
    """Raise unless each named tensor has the shape of ``rows`` without its last dimension."""
    if rows.dim() == 0:
        raise ValueError(f"{rows_name} needs at least one dimension; got a scalar.")
    for name, tensor in tensors.items():
        if tensor is not None and tensor.shape != rows.shape[:-1]:
            raise ValueError(
                f"{name} {shape_text(tensor)} must have the shape of {rows_name} "
                f"{shape_text(rows)} without its last dimension, {tuple(rows.shape[:-1])}."
            )


def check_mask(name: str, mask: Tensor | None) -> None:
    """Raise unless the mask is absent or bool (True = real)."""
    if mask is not None and mask.dtype is not torch.bool:
        raise TypeError(
            f"{name} must be bool, True = real; got {mask.dtype}. Try {name}.bool(), after making "
            "sure that True (1) marks the entries that count."
        )


def check_values(name: str, tensor: Tensor, good: Tensor, expected: str) -> None:
    """Raise with the first offending value and its position unless all of ``good`` is True."""
    if not values_readable(tensor, good) or bool(good.all()):
        return
    position = tuple(int(i) for i in (~good).nonzero()[0])
    value = tensor[position].item()
    where = f"[{', '.join(map(str, position))}]" if position else ""
    # Enough digits to tell 1.0000001 from 1; a whole number in full.
    shown = f"{value:.8g}" if isinstance(value, float) else str(value)
    raise ValueError(f"{name}{where} is {shown}; expected {expected}.")


def all_within(tensor: Tensor, low: float, high: float) -> bool:
    """Whether every value is known to lie in [low, high]: one pass, without a mask.

    False also where the values may not be looked at. A check that this settles need not build the
    mask that would point at the offender.
    """
    if not values_readable(tensor) or tensor.dtype is torch.bool:
        return False
    if tensor.numel() == 0:
        return True
    least, most = torch.aminmax(tensor.detach())
    return low <= least.item() and most.item() <= high  # a NaN is neither


def check_finite(name: str, tensor: Tensor, expected: str) -> None:
    """Raise with the first offender and its position unless no value is NaN or infinite."""
    largest = torch.finfo(tensor.dtype).max
    if values_readable(tensor) and not all_within(tensor, -largest, largest):
        check_values(name, tensor, tensor.isfinite(), expected)


def check_class_index(
    name: str, target: Tensor, classes: int, ignore_index: int | None = None
) -> None:
    """Raise unless target holds class indices below ``classes`` (or ``ignore_index``)."""
    if target.dtype is torch.bool or target.is_floating_point() or target.is_complex():
        raise TypeError(
            f"{name} must hold class indices of an integer type; got {target.dtype} "
            f"{shape_text(target)}. Try {name}.long()."
        )
    if not values_readable(target) or all_within(target, 0, classes - 1):
        return
    good = (target >= 0) & (target < classes)
    expected = f"a class index in [0, {classes - 1}]"
    if ignore_index is not None:
        good = good | (target == ignore_index)
        expected += f" or ignore_index={ignore_index}"
    check_values(name, target, good, expected)
