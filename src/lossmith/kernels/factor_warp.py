"""WARP of a factor model in one step: draw, compare, and write the gradients down.

The gradient of the objective is known in closed form: of the rows that the batch touched, each
gets a multiple of another. Saying so to autograd as one operation spares it the graph of some
sixty, and each table gets its gradient by one pass over the batch.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from lossmith.core.numerics import full_precision
from lossmith.kernels.known_items import KnownItems
from lossmith.kernels.violators import (
    CACHED_VECTORS,
    Weighting,
    dot_scores,
    rank_weight,
    sample_violators,
)


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
    # The draws look at detached tables: nothing of the search is differentiated.
    tables = [user_vectors.detach(), item_vectors.detach(), item_bias.detach()]
    with full_precision(user_vectors):
        drawn = sample_violators(
            dot_scores(tables[0].index_select(0, users), tables[1], tables[2]),
            positive,
            num_items=len(item_vectors),
            margin=margin,
            max_trials=max_trials,
            known=None if known is None else known.rows(users),
            generator=generator,
        )
        trials = torch.arange(1, max_trials + 1, device=users.device)
        of_trials = rank_weight((len(item_vectors) - 1) // trials, weighting, user_vectors.dtype)
        weight = of_trials.index_select(0, drawn.trials - 1) * drawn.found
        apply: Any = _FactorWARP.apply  # torch leaves it untyped
        value: Tensor = apply(
            user_vectors, item_vectors, item_bias, users, positive, drawn, weight, margin, l2
        )
    return value


class _FactorWARP(torch.autograd.Function):
    """Value and gradients at once; backward only scales them."""

    @staticmethod
    def forward(
        ctx: Any,
        user_vectors: Tensor,
        item_vectors: Tensor,
        item_bias: Tensor,
        users: Tensor,
        positive: Tensor,
        drawn: Any,
        weight: Tensor,
        margin: float,
        l2: float,
    ) -> Tensor:
        count = max(len(users), 1)
        gradients = [torch.zeros_like(t) for t in (user_vectors, item_vectors, item_bias)]
        by_user, by_item, by_bias = gradients
        total = user_vectors.new_zeros(())
        # Pieces whose vectors stay in the cache, where that is how memory works.
        step = CACHED_VECTORS if users.device.type == "cpu" else count
        columns = (users, positive, drawn.item, drawn.found, weight)
        for u, p, n, found, w in zip(*(column.split(step) for column in columns), strict=True):
            user = user_vectors.index_select(0, u)
            good, bad = item_vectors.index_select(0, p), item_vectors.index_select(0, n)
            between = bad - good
            excess = torch.linalg.vecdot(user, between) + margin
            excess += item_bias.index_select(0, n) - item_bias.index_select(0, p)
            # Zero times an infinite score is NaN; a row without a violator costs exactly 0.
            total += torch.where(found, w * excess, 0.0).sum()
            slope = w / count
            pull = slope.unsqueeze(-1) * user
            by_item.index_add_(0, p, pull, alpha=-1).index_add_(0, n, pull)
            by_bias.index_add_(0, p, slope, alpha=-1).index_add_(0, n, slope)
            by_user.index_add_(0, u, between.mul_(slope.unsqueeze(-1)))
            if l2 > 0:
                bad *= found.unsqueeze(-1)
                total += l2 * sum(one.square().sum() for one in (user, good, bad))
                by_user.index_add_(0, u, user, alpha=2 * l2 / count)
                by_item.index_add_(0, p, good, alpha=2 * l2 / count)
                by_item.index_add_(0, n, bad, alpha=2 * l2 / count)
        ctx.save_for_backward(*gradients)
        return total / count

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        scaled = (gradient * table for table in ctx.saved_tensors)
        return (*scaled, None, None, None, None, None, None)
