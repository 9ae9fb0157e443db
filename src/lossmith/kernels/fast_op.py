"""What the fast sums over lists share as operators of torch.

An operator is one node to ``torch.compile``, whatever its inside reads of the values.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor


def flat_lists(*tensors: Tensor) -> tuple[Tensor, ...]:
    """Lists ``[..., n]`` as ``[R, n]``."""
    return tuple(tensor.reshape(-1, tensor.shape[-1]) for tensor in tensors)


def over_lists(operator: Callable[..., Any], lists: int) -> Callable[..., Any]:
    """The vmap rule of an operator whose first ``lists`` arguments are ``[R, n]``: more lists."""

    def rule(info: Any, in_dims: tuple[int | None, ...], *args: Any) -> tuple[Any, Any]:
        size = info.batch_size
        batched = [
            arg.expand(size, *arg.shape) if dim is None else arg.movedim(dim, 0)
            for arg, dim in zip(args[:lists], in_dims[:lists], strict=True)
        ]
        out = operator(*(arg.flatten(0, 1) for arg in batched), *args[lists:])
        if isinstance(out, Tensor):
            return out.unflatten(0, (size, -1)), 0
        return tuple(o.unflatten(0, (size, -1)) for o in out), (0,) * len(out)

    return rule


def no_second_derivative(what: str) -> RuntimeError:
    """The error for a backward pass through the backward pass."""
    return RuntimeError(f"{what} of long lists has a first derivative only, not a second one.")


def contiguous_like(tensor: Tensor) -> Tensor:
    """What an operator returns for a tensor of that shape."""
    return torch.empty_like(tensor, memory_format=torch.contiguous_format)
