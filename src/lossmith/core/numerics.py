"""Mathematics that stays finite where the textbook form does not."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from lossmith.core.validate import all_within, check_choice, under_tracing

Distance = Literal["euclidean", "squared_euclidean", "cosine"]
# Types whose sums need no wider one.
FULL = (torch.float32, torch.float64)
# The squares of vectors between this length and its inverse stay in the range of float32.
SHORT = 1e-15
PIECE = 1 << 16
# Below this, one function of autograd in Python costs more than the operations it stands for.
SMALL = 1 << 12


def upcast(*tensors: Tensor) -> tuple[Tensor, ...]:
    """Bring floating tensors to one type of at least float32; float64 stays float64.

    >>> [t.dtype for t in upcast(torch.zeros(1, dtype=torch.float16), torch.zeros(1))]
    [torch.float32, torch.float32]
    """
    if all(tensor.dtype is torch.float32 for tensor in tensors):
        return tensors
    dtype = torch.float32
    for tensor in tensors:
        dtype = torch.promote_types(dtype, tensor.dtype)
    return tuple(tensor.to(dtype) for tensor in tensors)


def full_precision(tensor: Tensor) -> AbstractContextManager[object]:
    """Switch autocast off for a block with matrix products, so that they stay in float32."""
    kind = tensor.device.type
    return torch.autocast("cpu" if kind == "meta" else kind, enabled=False)  # meta has no autocast


def log1mexp(x: Tensor) -> Tensor:
    """log(1 - exp(x)) for x <= 0, accurate at both ends; -inf at 0 with a finite gradient.

    Two branches (Mächler 2012): log(-expm1(x)) near 0 and log1p(-exp(x)) far below. Each branch
    sees only arguments of its own, because ``where`` passes 0 * inf = NaN back otherwise.
    """
    near = x > -math.log(2.0)
    below_zero = torch.where(near & (x < 0), x, torch.full_like(x, -1.0))
    small = torch.log(-torch.expm1(below_zero))
    large = torch.log1p(-torch.exp(torch.where(near, torch.full_like(x, -1.0), x)))
    result = torch.where(near, small, large)
    return torch.where(x >= 0, torch.full_like(x, -math.inf), result)  # a NaN is neither, and stays


def euclidean_from_squared(squared: Tensor) -> Tensor:
    """sqrt with gradient 0 at exactly 0, where two points coincide and no direction is better."""
    coincide = squared == 0  # a NaN is not 0, and stays
    return torch.where(coincide, 0.0, torch.where(coincide, 1.0, squared).sqrt())


def unit_vectors(
    x: Tensor, real: Tensor | None = None, temperature: float | Tensor = 1.0
) -> Tensor:
    """x / |x| along the last dimension, over one temperature above 0.

    A zero vector stays zero, with a finite gradient. One that is not ``real`` becomes zero with a
    gradient of zero, whatever it holds.
    """
    # One operation where the squares stay in range, which on other devices would be a wait to ask.
    looked_at = [t for t in (x, real, temperature) if isinstance(t, Tensor)]
    if x.device.type == "cpu" and x.dtype in FULL and not under_tracing(*looked_at):
        norm = torch.linalg.vector_norm(x.detach(), dim=-1, keepdim=True)
        there = None if real is None else real.unsqueeze(-1)
        # A masked vector may be zero, but not infinite: it is divided by infinity instead.
        usual = norm if there is None else torch.where(there, norm, norm.clamp(min=1.0))
        if norm.numel() > 0 and all_within(usual, SHORT, 1.0 / SHORT):
            norm = norm if there is None else torch.where(there, norm, math.inf)
            apply: Any = _UnitVectors.apply  # torch leaves it untyped
            made: Tensor = apply(x, temperature, norm, real)
            return made
    return _unit_vectors(x, real, temperature)


def _unit_vectors(x: Tensor, real: Tensor | None, temperature: float | Tensor) -> Tensor:
    if real is not None:
        x = torch.where(real.unsqueeze(-1), x, 0.0)
    largest = x.detach().abs().amax(dim=-1, keepdim=True)
    # Scaling first keeps the squares of very long and very short vectors in range.
    scaled = x / torch.where(largest > 0, largest, 1.0)
    norm = euclidean_from_squared((scaled * scaled).sum(dim=-1, keepdim=True))
    unit = scaled / torch.where(norm > 0, norm, 1.0)
    return unit / temperature if isinstance(temperature, Tensor) or temperature != 1.0 else unit


class _UnitVectors(torch.autograd.Function):
    """x / norm / temperature, where the norm of a vector that is not real is infinite."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, temperature: float | Tensor, norm: Tensor, real: Tensor | None
    ) -> Tensor:
        norm = norm * temperature
        made = x / norm
        learnt = temperature if isinstance(temperature, Tensor) else None
        ctx.number = None if isinstance(temperature, Tensor) else temperature
        ctx.save_for_backward(x, learnt, made, norm, real)
        ctx.save_for_forward(x, learnt, made, norm)
        return made

    @staticmethod
    def jvp(ctx: Any, of_x: Tensor | None, of_temperature: Tensor | None, *_: None) -> Tensor:
        _, learnt, made, norm = ctx.saved_tensors
        temperature = ctx.number if learnt is None else learnt
        change = torch.zeros_like(made)
        if of_x is not None:
            along = (of_x * made).sum(dim=-1, keepdim=True) * (temperature * temperature)
            change = (of_x - made * along) / norm
        return change if of_temperature is None else change - made * (of_temperature / temperature)

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> Any:
        x, learnt, made, norm, real = ctx.saved_tensors
        temperature = ctx.number if learnt is None else learnt
        if torch.is_grad_enabled():  # a second derivative is asked for
            plain = _unit_vectors(x, real, temperature)
            asked = [t for t in (x, learnt) if t is not None and t.requires_grad]
            found = iter(torch.autograd.grad(plain, asked, slopes[0], create_graph=True))
            wanted = ctx.needs_input_grad[:2]
            return (*(next(found) if needed else None for needed in wanted), None, None)
        width = made.shape[-1]
        change = torch.empty_like(made, memory_format=torch.contiguous_format)
        along = norm.new_empty(norm.numel(), 1)
        rows = [t.reshape(-1, width) for t in (slopes[0], made, change)]
        # Piece by piece: what lies between stays in the cache.
        pieces = [t.split(max(1, PIECE // width)) for t in (*rows, along, norm.reshape(-1, 1))]
        square = temperature * temperature
        for slope, vector, out, inner, size in zip(*pieces, strict=True):
            torch.sum(torch.mul(slope, vector, out=out), dim=-1, keepdim=True, out=inner)
            torch.addcmul(slope, vector, inner * square, value=-1.0, out=out).div_(size)
        of_temperature = -along.sum() / temperature if ctx.needs_input_grad[1] else None
        return change, of_temperature, None, None


def distance(x: Tensor, y: Tensor, kind: Distance) -> Tensor:
    """Distance along the last dimension: "euclidean", "squared_euclidean" or "cosine" (1 - cos)."""
    check_choice("distance", kind, ("euclidean", "squared_euclidean", "cosine"))
    if kind == "cosine":
        return 1.0 - (unit_vectors(x) * unit_vectors(y)).sum(dim=-1)
    squared = (x - y).square().sum(dim=-1)
    return euclidean_from_squared(squared) if kind == "euclidean" else squared


def signed_logits(logits: Tensor, target: Tensor) -> Tensor:
    """The logit of the true label: +logit where target is 1, -logit where it is 0."""
    return torch.where(target > 0, logits, -logits)


def softplus(x: Tensor) -> Tensor:
    """log(1 + exp(x)), exact for large x too (torch's own switches to x at 20)."""
    return F.softplus(x, threshold=float(60))


def times_log(q: Tensor, log_p: Tensor) -> Tensor:
    """q log p with 0 log 0 = 0, so that what is impossible (log p = -inf) costs nothing at q = 0.

    >>> times_log(torch.tensor([0.0, 0.5]), torch.tensor([-torch.inf, -2.0]))
    tensor([ 0., -1.])
    """
    largest = torch.finfo(log_p.dtype).max
    if all_within(log_p, -largest, largest):
        return q * log_p
    impossible = (q == 0) & (log_p == -math.inf)
    return q * torch.where(impossible, 0.0, log_p)


def logistic_cost(logits: Tensor, target: Tensor, positive: float | Tensor = 1.0) -> Tensor:
    """Binary cross-entropy per element, the part of the target multiplied by ``positive``.

    >>> logistic_cost(torch.zeros(2), torch.tensor([1.0, 0.0]), positive=3.0)  # 3 log 2, log 2
    tensor([2.0794, 0.6931])
    """
    if isinstance(positive, float) and positive == 1.0:
        if under_tracing(logits, target) or logits.shape != target.shape:
            return _plain_logistic_cost(logits, target)
        if logits.numel() >= SMALL:
            apply: Any = _LogisticCost.apply  # torch leaves it untyped
            made: Tensor = apply(logits, target)
            return made
        return target * softplus(-logits) + (1.0 - target) * softplus(logits)
    yes, no = softplus(-logits), softplus(logits)
    return positive * target * yes + (1.0 - target) * no


def _plain_logistic_cost(logits: Tensor, target: Tensor) -> Tensor:
    """By operations that any transform knows, with one exponential; exact at both ends.

    Its slope is too, at 0 as well, because autograd adds up the parts from the last to the first:
    1/2 - 1/2 meet before what is left far from 0, exp(-|x|), is added.
    """
    rest = torch.log1p(torch.exp(-logits.abs()))
    size = logits.abs()
    return (
        (1.0 - target) * (0.5 * logits + 0.5 * size) + target * (0.5 * size - 0.5 * logits) + rest
    )


class _LogisticCost(torch.autograd.Function):
    """log(1 + exp(-|x|)) + max(x, 0) - x y, whose digits survive far from 0, from one exponential.

    The slope is sigmoid(x) - y, made of the same exponential while it is at hand.
    """

    @staticmethod
    def forward(ctx: Any, logits: Tensor, target: Tensor) -> Tensor:
        cost = torch.empty_like(logits, memory_format=torch.contiguous_format)
        slope = torch.empty_like(cost) if ctx.needs_input_grad[0] else None
        # Piece by piece, so that what lies between stays in the cache, where that is how it works.
        size = min(PIECE, logits.numel()) if logits.device.type == "cpu" else logits.numel()
        pieces = [torch.split(t.reshape(-1), max(size, 1)) for t in (logits, target, cost)]
        slopes: Sequence[Tensor | None] = [None] * len(pieces[0])
        if slope is not None:
            slopes = torch.split(slope.view(-1), max(size, 1))
        room = logits.new_empty(2, size)
        half = room.new_tensor(0.5)
        for x, y, value, change in zip(*pieces, slopes, strict=True):
            small, other = room[:, : len(x)]
            torch.abs(x, out=small).neg_().exp_()
            torch.clamp(x, min=0.0, out=value).addcmul_(x, y, value=-1.0)
            value.add_(torch.log1p(small, out=other))
            if change is not None:
                # Above 0 it is (1 - y) - e / (1 + e), below e / (1 + e) - y, with e = exp(-|x|).
                small.div_(torch.add(small, 1.0, out=other)).copysign_(x)
                torch.copysign(half, x, out=change).add_(half).sub_(y).sub_(small)
        ctx.save_for_backward(logits, target, slope)
        ctx.save_for_forward(logits, target)
        return cost

    @staticmethod
    def jvp(ctx: Any, of_logits: Tensor | None, of_target: Tensor | None) -> Tensor:
        logits, target = ctx.saved_tensors
        change = torch.zeros_like(logits)
        if of_logits is not None:
            change = change + (logits.sigmoid() - target) * of_logits
        if of_target is not None:
            change = change - logits * of_target
        return change

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> Any:
        logits, target, slope = ctx.saved_tensors
        for_target = -slopes[0] * logits if ctx.needs_input_grad[1] else None
        if not torch.is_grad_enabled():
            return None if slope is None else slopes[0] * slope, for_target
        return slopes[0] * (logits.sigmoid() - target), for_target  # differentiable once more


def row_log_softmax(logits: Tensor, valid: Tensor | None) -> Tensor:
    """Log-probabilities, with rows that do not count kept out of value and gradient."""
    (logits,) = upcast(logits)
    if valid is None:
        return logits.log_softmax(dim=-1)
    return torch.where(valid.unsqueeze(-1), logits, 0.0).log_softmax(dim=-1)


def unit_step(x: Tensor) -> Tensor:
    """0 below 0, 1 above, 1/2 at 0; no gradient passes through it."""
    return torch.heaviside(x.detach(), torch.full_like(x, 0.5))


def pick(rows: Tensor, index: Tensor) -> Tensor:
    """The entry of each row ``[..., C]`` at its class ``[...]``."""
    return rows.gather(-1, index.unsqueeze(-1)).squeeze(-1)


def lead_over_others(rows: Tensor, index: Tensor) -> Tensor:
    """The entry of each row at its class minus the largest of the other entries.

    >>> lead_over_others(torch.tensor([[1.0, 4.0, 2.0]]), torch.tensor([1]))
    tensor([2.])
    """
    others = rows.scatter(-1, index.unsqueeze(-1), -math.inf)
    return pick(rows, index) - others.amax(dim=-1)
