"""Costs of elements or rows, added up as they are made.

Value and slope are made together, in pieces that stay in the cache, so that the inputs are read
once and nothing but the slope is written: it becomes the gradient.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad

from lossmith.core.numerics import FULL, logistic_cost, softplus, times_log
from lossmith.core.reduce import Divisor, Reduction, reduce, reduce_total
from lossmith.core.validate import under_tracing, under_transform

PIECE = 1 << 18
# Below this, a function of autograd in Python costs more than what it saves.
SMALL = 1 << 13


# (x, y, slope, room, scale): the sum of the costs. Writes their slopes by x, times the scale, and
# may use the room, which is twice that of x. Products are summed by ``sum``: what ``dot`` gives
# depends on where its arguments lie in memory.
Piece = Callable[[Tensor, Tensor, Tensor, Tensor, float], Tensor]


@dataclass(frozen=True)
class Form:
    """A cost of x against y, twice: for autograd, and by hand."""

    cost: Callable[[Tensor, Tensor], Tensor]  # per element, or per row
    piece: Piece
    of_difference: bool = False  # the slopes by y are those by x, negated; otherwise y has none
    rows: bool = False


def reduced_cost(
    form: Form,
    x: Tensor,
    y: Tensor,
    mask: Tensor | None,
    weight: Tensor | None,
    reduction: Reduction,
    divisor: Divisor | None,
) -> Tensor:
    """What :func:`reduce` makes of the costs, made at once where that may be."""
    value = cost_at_once(form, x, y, mask, weight, reduction, divisor)
    if value is not None:
        return value
    cost = form.cost(x, y)
    return reduce(cost, valid=mask, weight=weight, reduction=reduction, divisor=divisor)


def cost_at_once(
    form: Form,
    x: Tensor,
    y: Tensor,
    mask: Tensor | None,
    weight: Tensor | None,
    reduction: Reduction,
    divisor: Divisor | None,
) -> Tensor | None:
    """The mean or the sum of the costs, or None where the plain form must do it.

    That is with a mask or weights, under a transform or a compiler, on accelerators (whose values
    nobody should wait for), for few elements, and where the sum is not finite: what it then is, the
    plain form knows.
    """
    if mask is not None or weight is not None or reduction == "none" or x.numel() < SMALL:
        return None
    if x.device.type != "cpu" or under_tracing(x, y) or x.shape != y.shape:
        return None
    if (
        x.dtype not in FULL
        or y.dtype is not x.dtype
        or (y.requires_grad and not form.of_difference)
    ):
        return None
    unpack: Any = forward_ad.unpack_dual  # torch leaves it untyped
    if any(unpack(tensor).tangent is not None for tensor in (x, y)):
        return None
    count = x.numel() // x.shape[-1] if form.rows else x.numel()
    wanted = torch.is_grad_enabled() and (x.requires_grad or y.requires_grad)
    known = reduction == "mean" and divisor is None  # then the slopes are made as they will be
    apply: Any = _TotalCost.apply  # torch leaves it untyped
    total: Tensor = apply(form, wanted, count if known else 1, x, y)
    if not math.isfinite(total.item()):
        return None
    return total if known else reduce_total(total, count, reduction=reduction, divisor=divisor)


class _TotalCost(torch.autograd.Function):
    """The sum of the costs over a count."""

    @staticmethod
    def forward(ctx: Any, form: Form, wanted: bool, count: int, x: Tensor, y: Tensor) -> Tensor:
        total, ctx.slope = _piece_by_piece(form, wanted, count, x, y)
        ctx.form, ctx.count = form, count
        ctx.save_for_backward(x, y)
        return total

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> Any:
        (above,) = slopes
        x, y = ctx.saved_tensors
        wanted = ctx.needs_input_grad[3:]
        none = (None, None, None)
        if torch.is_grad_enabled():  # somebody will differentiate again
            leaves = [t for t, want in zip((x, y), wanted, strict=True) if want]
            value = ctx.form.cost(x, y).sum() / ctx.count
            found = iter(torch.autograd.grad(value, leaves, above, create_graph=True))
            return *none, *(next(found) if want else None for want in wanted)
        slope, ctx.slope = ctx.slope, None
        if slope is None:  # asked a second time: made anew, to the same bits
            _, slope = _piece_by_piece(ctx.form, True, ctx.count, x, y)
        if not wanted[0]:
            above = -above
        # Scaled in place and given away: the gradient is held once.
        if under_transform(above) or torch._C._functorch.is_legacy_batchedtensor(above):
            ctx.slope, slope = slope, slope * above  # many directions at once
        elif above.item() != 1.0:
            slope.mul_(above)
        if all(wanted):
            return *none, slope, -slope
        return *none, *(slope if want else None for want in wanted)


def _piece_by_piece(
    form: Form, wanted: bool, count: int, x: Tensor, y: Tensor
) -> tuple[Tensor, Tensor | None]:
    """The sum over the count, and the slopes where they are wanted."""
    shape = (-1, x.shape[-1]) if form.rows else (-1,)
    size = max(PIECE // x.shape[-1], 1) if form.rows else PIECE
    slope = torch.empty_like(x, memory_format=torch.contiguous_format) if wanted else None
    x, y = x.reshape(shape), y.reshape(shape)
    slopes = None if slope is None else slope.view(shape)
    room = x.new_empty(3 if slopes is None else 2, *x[:size].shape)
    parts = []
    for a in range(0, len(x), size):
        part, other = x[a : a + size], y[a : a + size]
        change = room[-1, : len(part)] if slopes is None else slopes[a : a + size]
        parts.append(form.piece(part, other, change, room[:2, : len(part)], 1.0 / count))
    total = parts[0] if len(parts) == 1 else torch.stack(parts).sum()
    return total.div_(count), slope


def beyond(epsilon: float, power: int) -> Form:
    """``max(0, |x - y| - epsilon) ** power``."""
    return Form(
        partial(excess, epsilon=epsilon, power=power),
        partial(_excess_piece, epsilon=epsilon, power=power),
        of_difference=True,
    )


def excess(x: Tensor, y: Tensor, *, epsilon: float, power: int) -> Tensor:
    """The cost of :func:`beyond` for each element."""
    distance = (x - y).abs()
    above = torch.relu(distance - epsilon) if epsilon > 0 else distance
    return above if power == 1 else above.square()


def _excess_piece(
    x: Tensor,
    y: Tensor,
    slope: Tensor,
    room: Tensor,
    scale: float,
    *,
    epsilon: float,
    power: int,
) -> Tensor:
    torch.sub(x, y, out=slope)
    if epsilon > 0:
        torch.ops.aten.softshrink.out(slope, epsilon, out=slope)
    if power == 2:
        total = torch.mul(slope, slope, out=room[0]).sum()
        slope.mul_(2.0 * scale)
        return total
    total = torch.abs(slope, out=room[0]).sum()
    slope.sign_().mul_(scale)
    return total


def _minus_sum_log1m(r: Tensor, room: Tensor) -> Tensor:
    """Minus the sum of log(1 - r) for r in [0, 1/2].

    A logarithm is dear: (1 - a)(1 - b) = 1 - (a + b - a b) makes one of two, and of four.
    """
    total = r.new_zeros(())
    for _ in range(2):
        half = len(r) // 2
        if len(r) % 2:
            total.sub_(r[-1].neg().log1p_())
        a, b = r[:half], r[half : 2 * half]
        r, room = torch.add(a, b, out=room[:half]).addcmul_(a, b, value=-1.0), room[half:]
    return total.sub_(r.neg_().log1p_().sum())


def _softplus_piece(x: Tensor, y: Tensor, slope: Tensor, room: Tensor, scale: float) -> Tensor:
    torch.sub(x, y, out=slope)
    total = torch.clamp(slope, min=0.0, out=room[0]).sum()
    slope.sigmoid_()
    # softplus(d) = max(d, 0) - log(1 - sigmoid(-|d|))
    r = torch.sub(slope.new_ones(()), slope, out=room[0])
    total.add_(_minus_sum_log1m(torch.minimum(slope, r, out=r), room[1]))
    slope.mul_(scale)
    return total


def _lead(x: Tensor, y: Tensor) -> Tensor:
    return softplus(x - y)


def _listwise(x: Tensor, y: Tensor) -> Tensor:
    return -times_log(y.softmax(dim=-1), x.log_softmax(dim=-1)).sum(dim=-1)


def _listwise_piece(x: Tensor, y: Tensor, slope: Tensor, room: Tensor, scale: float) -> Tensor:
    minus_q = torch.softmax(y, dim=-1, out=room[0]).mul_(-scale)  # what follows is linear in it
    log_p = torch.log_softmax(x, dim=-1, out=slope)
    total = torch.mul(minus_q, log_p, out=room[1]).sum().div_(scale)
    torch.ops.aten._log_softmax_backward_data.out(minus_q, log_p, -1, x.dtype, out=slope)
    return total


def _logistic_piece(x: Tensor, y: Tensor, slope: Tensor, room: Tensor, scale: float) -> Tensor:
    # r = sigmoid(-|x|): the cost is (h - y) x - log(1 - r), h = 1 above 0 and 0 below, and the
    # slope h - y - r above 0, h - y + r below. All of it keeps its digits far from 0.
    r = torch.copysign(x, -1.0, out=room[0]).sigmoid_()
    torch.copysign(x.new_tensor(0.5), x, out=slope).add_(0.5).sub_(y)
    total = torch.mul(x, slope, out=room[1]).sum().add_(_minus_sum_log1m(r, room[1]))
    slope.sub_(r.copysign_(x)).mul_(scale)
    return total


LOGISTIC = Form(logistic_cost, _logistic_piece)
SOFTPLUS = Form(_lead, _softplus_piece, of_difference=True)
LISTWISE = Form(_listwise, _listwise_piece, rows=True)
