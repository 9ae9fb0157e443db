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
            return _apart(out, size), 0
        return tuple(_apart(o, size) for o in out), (0,) * len(out)

    return rule


def _apart(out: Tensor, size: int) -> Tensor:
    return out.reshape(size, -1, *out.shape[1:])


class _Attach(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(scores: Tensor, cost: Tensor, gradient: Tensor) -> Tensor:
        return cost.clone()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        scores, _, gradient = inputs
        ctx.save_for_backward(scores, gradient)

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> Any:
        scores, gradient = ctx.saved_tensors
        return first_derivative(slopes[0].unsqueeze(-1) * gradient, scores), None, None


class _Once(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(gradient: Tensor, scores: Tensor) -> Tensor:
        return gradient.clone()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        pass

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> Any:
        raise RuntimeError(
            "the sums over the pairs of long lists have a first derivative only. Try "
            "torch.autograd.grad without create_graph=True, or fewer and shorter lists at a time."
        )


# torch.compile traces operators with a gradient, but not these functions without a warning.
@torch.library.custom_op("lossmith::attach", mutates_args=())
def _attach(scores: Tensor, cost: Tensor, gradient: Tensor) -> Tensor:
    return cost.clone()


@_attach.register_fake
def _(scores: Tensor, cost: Tensor, gradient: Tensor) -> Tensor:
    return torch.empty_like(cost)


def _keep(ctx: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
    ctx.save_for_backward(inputs[2])


def _backward(ctx: Any, slope: Tensor) -> Any:
    return slope.unsqueeze(-1) * ctx.saved_tensors[0], None, None


_attach.register_autograd(_backward, setup_context=_keep)


def attach(scores: Tensor, cost: Tensor, gradient: Tensor) -> Tensor:
    """The cost of each list ``[R]``, with that gradient ``[R, n]`` with respect to the scores."""
    apply: Any = _attach if torch.compiler.is_compiling() else _Attach.apply
    value: Tensor = apply(scores, cost, gradient)
    return value


def first_derivative(gradient: Tensor, scores: Tensor) -> Tensor:
    """The gradient; asking for one of it, in turn, says so instead of giving zeros."""
    apply: Any = _Once.apply
    value: Tensor = apply(gradient, scores)
    return value


def contiguous_like(tensor: Tensor) -> Tensor:
    """What an operator returns for a tensor of that shape."""
    return torch.empty_like(tensor, memory_format=torch.contiguous_format)
