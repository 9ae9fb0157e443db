"""Soft ranks of the items of lists: O(n log n) where the lists are long."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lossmith.core.validate import under_transform
from lossmith.kernels.fast_op import contiguous_like, first_derivative, flat_lists, over_lists
from lossmith.kernels.panels import (
    Cells,
    Kernel,
    cells_of,
    evaluate,
    lead_in_cell,
    logistic_slope,
    moments,
    panels_of,
    sigmoid_slope,
    spread_over,
)
from lossmith.kernels.sorted_lists import SortedLists, sort_lists

# So many pairs (of all lists together) are fastest one by one: measured, forward and backward.
ALL_PAIRS_UP_TO = 2**20


def soft_ranks(scores: Tensor, items: Tensor) -> Tensor:
    """``1 + sum over the other items of sigmoid(s_j - s_i)`` for each item of lists ``[..., n]``.

    >>> soft_ranks(torch.tensor([0.0, 0.0, 99.0]), torch.ones(3).bool())
    tensor([2.5000, 2.5000, 1.0000])
    """
    if scores.numel() * scores.shape[-1] <= ALL_PAIRS_UP_TO or scores.device.type == "mps":
        sources = scores.masked_fill(~items, -torch.inf)  # above nothing
        above = (sources.unsqueeze(-2) - scores.unsqueeze(-1)).sigmoid()
        return 0.5 + above.sum(dim=-1)  # an item itself adds the other half
    apply: Any = _SoftRanks.apply  # torch leaves it untyped
    if torch.compiler.is_compiling():
        apply = _soft_ranks
    elif not under_transform(scores, items):
        apply = _SoftRanksAtOnce.apply
    ranks: Tensor = apply(*flat_lists(scores, items))
    return ranks.reshape(scores.shape)


@dataclass(frozen=True)
class _Laid:
    """Lists laid out for sums by panels."""

    lists: SortedLists
    inside: Tensor
    cells: Cells
    widest: int

    @classmethod
    def out(cls, scores: Tensor, items: Tensor) -> _Laid:
        lists = sort_lists(scores, items)
        panels = panels_of(lists)
        return cls(lists, panels.inside, cells_of(panels.panel), panels.widest)

    def sums(self, weight: Tensor | None, *kernels: Kernel) -> tuple[Tensor, ...]:
        """At each score, the weighted sum over all others of each function of the difference."""
        sources = moments(self.cells, self.inside, weight)
        found = spread_over(self.cells, sources, kernels, self.widest)
        return evaluate(self.cells, self.inside, *found)

    def ranks(self, around: Tensor, items: Tensor, dtype: torch.dtype) -> Tensor:
        """Soft ranks, given the sums of the logistic slope."""
        # What lies above, each a whole step, less what the smooth steps differ from it.
        smooth = around - lead_in_cell(self.cells) / 2.0
        place = torch.arange(len(smooth), device=smooth.device)
        ranks = self.lists.spread((self.lists.end - place).to(smooth.dtype) - smooth, dtype)
        return torch.where(items, ranks, 1.0)  # any rank, as long as 1 / log2(1 + rank) is finite

    def slopes(self, plain: Tensor, slope: Tensor) -> Tensor:
        """The gradient by the scores, given that by the ranks and the sums of the slopes."""
        own = slope.flatten().index_select(0, self.lists.place).double()
        (weighted,) = self.sums(own, sigmoid_slope)
        return self.lists.spread(weighted - own * plain, slope.dtype)


@torch.library.custom_op("lossmith::soft_ranks", mutates_args=())
def _soft_ranks(scores: Tensor, items: Tensor) -> Tensor:
    laid = _Laid.out(scores, items)
    (around,) = laid.sums(None, logistic_slope)
    return laid.ranks(around, items, scores.dtype)


@torch.library.custom_op("lossmith::soft_ranks_backward", mutates_args=())
def _soft_ranks_backward(scores: Tensor, items: Tensor, slope: Tensor) -> Tensor:
    laid = _Laid.out(scores, items)
    (plain,) = laid.sums(None, sigmoid_slope)
    return laid.slopes(plain, slope)


@_soft_ranks.register_fake
def _(scores: Tensor, items: Tensor) -> Tensor:
    return contiguous_like(scores)


@_soft_ranks_backward.register_fake
def _(scores: Tensor, items: Tensor, slope: Tensor) -> Tensor:
    return contiguous_like(scores)


def _keep(ctx: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
    ctx.save_for_backward(*inputs)


def _backward(ctx: Any, slope: Tensor) -> Any:
    scores, items = ctx.saved_tensors
    return _soft_ranks_backward(scores, items, slope.contiguous()), None


_soft_ranks.register_autograd(_backward, setup_context=_keep)
_soft_ranks.register_vmap(over_lists(_soft_ranks, lists=2))
_soft_ranks_backward.register_vmap(over_lists(_soft_ranks_backward, lists=3))


class _SoftRanks(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(scores: Tensor, items: Tensor) -> Tensor:
        ranks: Tensor = _soft_ranks(scores.detach(), items)
        return ranks

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> Any:
        scores, items = ctx.saved_tensors
        slope = slopes[0].detach().contiguous()
        return first_derivative(_soft_ranks_backward(scores.detach(), items, slope), scores), None


class _SoftRanksAtOnce(torch.autograd.Function):
    """Sorts once, and keeps what the backward pass needs of it."""

    @staticmethod
    def forward(ctx: Any, scores: Tensor, items: Tensor) -> Tensor:
        laid = _Laid.out(scores, items)
        kernels = (logistic_slope, sigmoid_slope)[: 1 + ctx.needs_input_grad[0]]
        around, *plain = laid.sums(None, *kernels)
        ctx.save_for_backward(scores)
        ctx.laid, ctx.plain = laid, plain
        return laid.ranks(around, items, scores.dtype)

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> Any:
        (scores,) = ctx.saved_tensors
        gradient = ctx.laid.slopes(*ctx.plain, slopes[0].detach().contiguous())
        return first_derivative(gradient, scores), None
