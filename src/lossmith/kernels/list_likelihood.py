"""The likelihood of the order of lists, value and slope made at once.

An item costs ``log(1 + E / e)``, e the exponential of its score and E the sum of those of all less
relevant items. E is read from sums by grade, so grades that are small whole numbers need no sort.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad

from lossmith.core.numerics import softplus
from lossmith.core.validate import under_tracing
from lossmith.kernels.below import log_sum_below
from lossmith.kernels.sorted_lists import sum_by

# Exponentials of scores no further apart, their sums and quotients stay in the range of float64.
WIDEST = 300.0
# So many levels of whole numbers are summed without a sort.
LEVELS = 64
# Below this, a function of autograd in Python costs more than what it saves.
SMALL = 1 << 10
# A table of so many pairs costs less than the operations that spare it.
FEW_PAIRS = 1 << 10
# The logarithm of a sum of nothing, but finite: unlike -inf it leaves no NaN in a gradient.
NOTHING = -1e300


def order_costs(scores: Tensor, relevance: Tensor, items: Tensor, *, masked: bool) -> Tensor:
    """What each list of ``[..., n]`` costs; ``masked`` is False where all places hold an item.

    >>> lists = torch.zeros(1, 3), torch.tensor([[2, 1, 0]]), torch.ones(1, 3).bool()
    >>> order_costs(*lists, masked=False)  # log 3 + log 2
    tensor([1.7918])
    """
    unpack: Any = forward_ad.unpack_dual  # torch leaves it untyped
    looked_at = scores.device.type == "cpu" and not under_tracing(scores, relevance)
    if scores.numel() >= SMALL and looked_at and unpack(scores).tangent is None:
        least, most = torch.aminmax(scores.detach(), dim=-1, keepdim=True)
        # Where there is no item the score is 0, which may widen the range, and does no harm.
        if (most - least).max().item() <= WIDEST:  # a NaN is not
            apply: Any = _OrderCosts.apply
            made: Tensor = apply(scores, relevance, items if masked else None, most)
            return made
    return _plain(scores, relevance, items)


def _plain(scores: Tensor, relevance: Tensor, items: Tensor) -> Tensor:
    if scores.numel() * scores.shape[-1] <= FEW_PAIRS:
        below = _log_sum_of_pairs(scores, relevance, items)
    else:
        below, _ = log_sum_below(scores, relevance, items)
    return torch.where(items, softplus(below - scores), 0.0).sum(dim=-1).to(scores.dtype)


def _log_sum_of_pairs(scores: Tensor, relevance: Tensor, items: Tensor) -> Tensor:
    """What :func:`log_sum_below` gives, from a table of all pairs; for no item, very little."""
    lower = (relevance.unsqueeze(-2) < relevance.unsqueeze(-1)) & items.unsqueeze(-2)
    return torch.where(lower, scores.unsqueeze(-2).double(), NOTHING).logsumexp(dim=-1)


class _OrderCosts(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, scores: Tensor, relevance: Tensor, items: Tensor | None, most: Tensor
    ) -> Tensor:
        shape = scores.shape
        level, count = _levels(relevance.reshape(-1, shape[-1]))
        real = None if items is None else items.reshape(level.shape)
        wanted = ctx.needs_input_grad[0]
        shifted = (scores.double() - most).reshape(level.shape)
        cost, slope = _cost_and_slope(shifted, level, count, real, wanted)
        slope = None if slope is None else slope.to(scores.dtype).reshape(shape)
        ctx.save_for_backward(scores, relevance, items, slope)
        return cost.to(scores.dtype).reshape(shape[:-1])

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> Any:
        scores, relevance, items, slope = ctx.saved_tensors
        if torch.is_grad_enabled():  # somebody will differentiate again
            items = torch.ones_like(scores, dtype=torch.bool) if items is None else items
            value = _plain(scores, relevance, items)
            found = torch.autograd.grad(value, scores, slopes[0], create_graph=True)
            return *found, None, None, None
        return slopes[0].unsqueeze(-1) * slope, None, None, None


def _levels(relevance: Tensor) -> tuple[Tensor, int]:
    """A number from 0 for each relevance of ``[R, n]``, in its order, and how many there may be."""
    least, most = (bound.item() for bound in torch.aminmax(relevance))
    if most - least < LEVELS and (
        not relevance.is_floating_point()
        or (math.floor(least) == least and torch.equal(relevance, relevance.round()))
    ):
        return (relevance - least).long(), int(most - least) + 1
    ordered, order = relevance.sort(dim=-1)
    new = torch.zeros_like(order)
    torch.ne(ordered[:, 1:], ordered[:, :-1], out=new[:, 1:])
    return torch.empty_like(order).scatter_(-1, order, new.cumsum(dim=-1)), relevance.shape[-1]


def _cost_and_slope(
    shifted: Tensor, level: Tensor, count: int, items: Tensor | None, wanted: bool
) -> tuple[Tensor, Tensor | None]:
    """In float64: the cost of each list ``[R]``, its slope ``[R, n]``; the largest score is 0."""
    rows = len(level)
    first = count * torch.arange(rows, device=level.device).unsqueeze(-1)
    key = (level + first).view(-1)
    mass = shifted.exp_()
    if items is not None:
        mass.masked_fill_(~items, 0.0)
    by_level = sum_by(key, mass.view(-1), rows * count).view(rows, count)
    # A running sum of the levels below, not one less its own: small sums keep their digits.
    below = torch.zeros_like(by_level)
    torch.cumsum(by_level[:, :-1], dim=-1, out=below[:, 1:])
    under = below.view(-1).index_select(0, key).view_as(mass)
    if items is not None:
        under.masked_fill_(~items, 0.0)
        mass.masked_fill_(~items, 1.0)
    share = under / mass
    total = torch.log1p(share).sum(dim=-1)
    if not wanted:
        return total, None
    # An item's own score is pushed up by E / (E + e), that of all below it down by e / (E + e).
    inverse = (under + mass).reciprocal_()
    pull = under.mul_(inverse)
    inverse.mul_(share > 0)  # an item with nothing below it costs nothing
    above = sum_by(key, inverse.view(-1), rows * count).view(rows, count).flip(-1)
    over = torch.zeros_like(above)
    torch.cumsum(above[:, :-1], dim=-1, out=over[:, 1:])
    push = over.flip(-1).view(-1).index_select(0, key).view_as(mass)
    slope = mass.mul_(push).sub_(pull)
    return total, slope if items is None else slope.masked_fill_(~items, 0.0)
