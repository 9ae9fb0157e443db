"""Soft ranks of the items of lists: O(n log n) where the lists are long."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from lossmith.kernels.fast_op import contiguous_like, first_derivative, flat_lists, over_lists
from lossmith.kernels.panels import (
    cells_of,
    evaluate,
    lead_in_cell,
    logistic_slope,
    moments,
    panels_of,
    sigmoid_slope,
    spread_over,
)
from lossmith.kernels.sorted_lists import sort_lists

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
    apply: Any = _soft_ranks if torch.compiler.is_compiling() else _SoftRanks.apply
    ranks: Tensor = apply(*flat_lists(scores, items))
    return ranks.reshape(scores.shape)


@torch.library.custom_op("lossmith::soft_ranks", mutates_args=())
def _soft_ranks(scores: Tensor, items: Tensor) -> Tensor:
    lists = sort_lists(scores, items)
    panels = panels_of(lists)
    cells = cells_of(panels.panel)
    (slopes,) = spread_over(cells, moments(cells, panels.inside), (logistic_slope,), panels.widest)
    # What lies above, each a whole step, less what the smooth steps differ from it.
    smooth = evaluate(cells, panels.inside, slopes) - lead_in_cell(cells) / 2.0
    place = torch.arange(len(smooth), device=smooth.device)
    ranks = lists.spread((lists.end - place).to(smooth.dtype) - smooth, scores.dtype)
    return torch.where(items, ranks, 1.0)  # any rank, as long as 1 / log2(1 + rank) is finite


@torch.library.custom_op("lossmith::soft_ranks_backward", mutates_args=())
def _soft_ranks_backward(scores: Tensor, items: Tensor, slope: Tensor) -> Tensor:
    lists = sort_lists(scores, items)
    own = slope.flatten().index_select(0, lists.place).double()
    panels = panels_of(lists)
    cells = cells_of(panels.panel)
    plain, weighted = (
        evaluate(cells, panels.inside, coefficients)
        for sources in (moments(cells, panels.inside), moments(cells, panels.inside, own))
        for coefficients in spread_over(cells, sources, (sigmoid_slope,), panels.widest)
    )
    return lists.spread(weighted - own * plain, scores.dtype)


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
