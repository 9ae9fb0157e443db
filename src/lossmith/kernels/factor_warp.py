"""WARP of a factor model in one step: draw, compare, and write the gradients down.

The gradient of the objective is known in closed form: of the rows that the batch touched, each
gets a sum of multiples of others. Each table gets its own by one pass over the batch; autograd has
no part in it, and of a large table the rows that were not touched have none either.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from lossmith.core.numerics import full_precision
from lossmith.core.validate import check_values
from lossmith.kernels.dot_scores import dot_scores
from lossmith.kernels.known_items import KnownItems
from lossmith.kernels.violators import Search, Weighting, rank_weight

# Vectors that are gathered at a time on a CPU: those of 64 numbers fill a quarter of a megabyte.
CACHED_VECTORS = 1 << 10
# A table of this many rows for each one that is named is cheaper to go over than to pick from.
WHOLE = 4


class RowGradient(NamedTuple):
    """The gradient of a table: that of some different rows, or (None) of all."""

    rows: Tensor | None
    gradient: Tensor


class WARPStep(NamedTuple):
    """The value, and the gradients of the vectors of users, of items, and of the items' biases."""

    value: Tensor
    users: RowGradient
    items: RowGradient
    bias: RowGradient


def factor_warp(
    user_vectors: Tensor,
    item_vectors: Tensor,
    item_bias: Tensor,
    users: Tensor,
    positive: Tensor,
    *,
    margin: float = 1.0,
    weighting: Weighting = "log",
    max_trials: int = 50,
    known: KnownItems | None = None,
    l2: float = 0.0,
    generator: torch.Generator | None = None,
) -> Tensor:
    """The mean of WARP over pairs of a factor model, with its sampler, and an L2 penalty.

    It is ``sample_violators`` with ``dot_scores``, then ``lossmith.warp`` of the scores of the
    positives and of the violators, then ``l2`` times the mean sum of squares of the vectors that
    were compared: the user's, the positive's, and the violator's where there is one.

    Args:
        user_vectors: the table ``[U, d]``.
        item_vectors: the table ``[N, d]``.
        item_bias: ``[N]``.
        users: a row of ``user_vectors`` for each pair ``[B]``.
        positive: the item of each pair ``[B]``.
        margin, weighting: see ``lossmith.warp``.
        max_trials, known, generator: see :func:`lossmith.sample_violators`; ``known`` is by user.
        l2: weight of the penalty.

    >>> likes = torch.tensor([[1.0, 0.0]]), torch.eye(2), torch.zeros(2)
    >>> pairs = torch.tensor([0]), torch.tensor([0])
    >>> factor_warp(*likes, *pairs, l2=0.5)  # no violator: (1 + 1) / 2
    tensor(1.)
    """
    inside = (positive >= 0) & (positive < len(item_vectors))
    check_values("positive", positive, inside, f"an item index in [0, {len(item_vectors) - 1}]")
    made = warp_step(
        user_vectors,
        item_vectors,
        item_bias,
        users,
        positive,
        margin=margin,
        weighting=weighting,
        max_trials=max_trials,
        known=known,
        l2=l2,
        generator=generator,
        by_row=False,
    )
    apply: Any = _FactorWARP.apply  # torch leaves it untyped
    value: Tensor = apply(user_vectors, item_vectors, item_bias, made)
    return value


@torch.no_grad()
def warp_step(
    user_vectors: Tensor,
    item_vectors: Tensor,
    item_bias: Tensor,
    users: Tensor,
    positive: Tensor,
    *,
    margin: float,
    weighting: Weighting,
    max_trials: int,
    known: KnownItems | None,
    l2: float,
    generator: torch.Generator | None,
    by_row: bool = True,
) -> WARPStep:
    """The value of :func:`factor_warp` and its gradients.

    ``by_row``: those of the rows alone that were touched, where a table has many others. Users and
    items have to be those of the tables: nothing is checked.
    """
    count = len(users)
    user, good = user_vectors.index_select(0, users), item_vectors.index_select(0, positive)
    with full_precision(user_vectors):
        search = Search(
            dot_scores(user, item_vectors, item_bias),
            positive,
            None if known is None else known.rows(users),
            value=torch.linalg.vecdot(user, good) + item_bias.index_select(0, positive),
            num_items=len(item_vectors),
            margin=margin,
            max_trials=max_trials,
            redraw_known=False,
            generator=generator,
        )
        drawn, excess = search.by_draws(at_once=False)
    weights = _weights(len(item_vectors), max_trials, weighting, user.dtype, user.device)
    slope = weights.index_select(0, drawn.trials).mul_(drawn.found).div_(max(count, 1))
    value = (slope * excess).sum()
    of_users = _Rows(users, user_vectors, by_row)
    of_items = _Rows(torch.cat([positive, drawn.item]), item_vectors, by_row)
    by_user, by_item = of_users.zeros(user_vectors), of_items.zeros(item_vectors)
    ups, downs = of_items.place[:count], of_items.place[count:]
    by_bias = of_items.zeros(item_bias)
    by_bias.index_add_(0, ups, slope, alpha=-1).index_add_(0, downs, slope)
    columns = (of_users.place, ups, downs, drawn.item, user, good, slope.unsqueeze(-1))
    for u, p, n, item, one, better, pull in _pieces(columns):
        between = item_vectors.index_select(0, item).sub_(better).mul_(pull)
        by_user.index_add_(0, u, between)
        pulled = torch.mul(one, pull, out=between)
        by_item.index_add_(0, p, pulled, alpha=-1).index_add_(0, n, pulled)
    if l2 > 0:
        once = torch.ones_like(slope)
        value += of_users.shrink(user_vectors, once, by_user, l2 / max(count, 1))
        named = torch.cat([once, drawn.found.to(once.dtype)])
        value += of_items.shrink(item_vectors, named, by_item, l2 / max(count, 1))
    return WARPStep(
        value,
        RowGradient(of_users.rows, by_user),
        RowGradient(of_items.rows, by_item),
        RowGradient(of_items.rows, by_bias),
    )


def _pieces(columns: tuple[Tensor, ...]) -> Iterable[tuple[Tensor, ...]]:
    """The rows in pieces whose vectors stay in the cache, where that is how memory works."""
    if len(columns[0]) <= CACHED_VECTORS or columns[0].device.type != "cpu":
        return [columns]
    return zip(*(torch.split(column, CACHED_VECTORS) for column in columns), strict=True)


@lru_cache(maxsize=8)
def _weights(
    items: int, max_trials: int, weighting: Weighting, dtype: torch.dtype, device: torch.device
) -> Tensor:
    """What a violator weighs that was found in trial 1, 2, ...; there is no trial 0."""
    trials = torch.arange(max_trials + 1, device=device).clamp(min=1)
    return rank_weight((items - 1) // trials, weighting, dtype)


class _Rows:
    """The rows of a table that are named, and the place of each name among them.

    Of a small table all rows are taken, at their own places.
    """

    def __init__(self, names: Tensor, table: Tensor, by_row: bool) -> None:
        self.rows: Tensor | None = None
        self.place = names
        if by_row and len(table) > WHOLE * len(names):
            # Of all that name a row one is left in its cell: they all point at that one, in time
            # that does not depend on the table, no cell of which needs a value.
            every = torch.arange(len(names), device=names.device)
            cell = torch.empty(len(table), dtype=torch.long, device=names.device)
            left = cell.index_copy_(0, names, every).index_select(0, names)
            chosen = (left == every).nonzero().squeeze(-1)
            self.rows = names.index_select(0, chosen)
            cell.index_copy_(0, self.rows, every[: len(chosen)])
            self.place = cell.index_select(0, names)

    def zeros(self, table: Tensor) -> Tensor:
        """A table of these rows."""
        if self.rows is None:
            return torch.zeros_like(table)
        return table.new_zeros(len(self.rows), *table.shape[1:])

    def shrink(self, table: Tensor, weight: Tensor, gradient: Tensor, scale: float) -> Tensor:
        """The sum of ``scale * weight * |row|^2`` over the names; its gradient is added."""
        rows = table if self.rows is None else table.index_select(0, self.rows)
        times = weight.new_zeros(len(rows)).index_add_(0, self.place, weight)
        gradient.addcmul_(rows, times.unsqueeze(-1), value=2 * scale)
        squares: Tensor = torch.linalg.vecdot(rows, rows)
        # A row that is not named costs nothing, infinite or not.
        return torch.where(times > 0, squares * times, 0.0).sum() * scale


class _FactorWARP(torch.autograd.Function):
    """A value whose gradients are known; backward only scales them."""

    @staticmethod
    def forward(
        ctx: Any, user_vectors: Tensor, item_vectors: Tensor, item_bias: Tensor, made: WARPStep
    ) -> Tensor:
        ctx.save_for_backward(*(one.gradient for one in (made.users, made.items, made.bias)))
        return made.value.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        return (*(gradient * table for table in ctx.saved_tensors), None)
