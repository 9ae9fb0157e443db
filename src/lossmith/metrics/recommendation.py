"""Metrics for rankings of a whole catalogue, one value per user.

All take ``[U, N]`` tensors, a row for each user and a column for each item of the catalogue:
scores, bool ``relevant`` (the items to be found) and bool ``excluded`` (the items left out of the
ranking: those the user was trained on). An item that is both is left out. A user with nothing
relevant has no answer, NaN, so the mean over users is ``torch.nanmean`` of all rows together.

Equal scores are ranked by item index, lower first. That, and sums in a fixed order, make a value
depend on its own row alone: evaluate users in chunks of any size. All compute in float64.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import NamedTuple

import torch
from torch import Tensor

from lossmith.core.metric import Metric, find_metric, metric
from lossmith.core.validate import (
    check_float,
    check_mask,
    check_same_shape,
    check_values,
    shape_text,
)
from lossmith.kernels.rank_auc import count_true, finite_scores, rank_auc

FAMILY = "recommendation"


class Top(NamedTuple):
    """What the top of each user's ranking holds."""

    hits: Tensor  # bool [U, min(k, N)], in rank order: is the item relevant?
    relevant: Tensor  # int64 [U], how many items are to be found


@metric(family=FAMILY, higher_is_better=True, at_k=True)
def precision(
    scores: Tensor, relevant: Tensor, excluded: Tensor | None = None, *, k: int
) -> Tensor:
    """Share of the top k that is relevant.

    Formula: ``hits / k``. The divisor stays k when fewer items than k can be ranked.

    Ties: by item index, lower first. Nothing relevant: NaN.

    Averages over: users, by the caller.

    >>> scores = torch.tensor([[4.0, 3.0, 2.0, 1.0]])
    >>> precision(scores, torch.tensor([[True, False, True, False]]), k=2)
    tensor([0.5000], dtype=torch.float64)
    """
    return _precision(_top(scores, relevant, excluded, k), k)


@metric(family=FAMILY, higher_is_better=True, at_k=True)
def recall(scores: Tensor, relevant: Tensor, excluded: Tensor | None = None, *, k: int) -> Tensor:
    """Share of a user's relevant items that is in the top k.

    Formula: ``hits / |relevant|``; it cannot reach 1 for a user with more than k relevant items.

    Ties: by item index, lower first. Nothing relevant: NaN.

    Averages over: users, by the caller.

    >>> scores = torch.tensor([[4.0, 3.0, 2.0, 1.0]])
    >>> recall(scores, torch.tensor([[True, False, True, True]]), k=2)  # 1 of 3
    tensor([0.3333], dtype=torch.float64)
    """
    return _recall(_top(scores, relevant, excluded, k), k)


@metric(family=FAMILY, higher_is_better=True, at_k=True)
def ndcg(scores: Tensor, relevant: Tensor, excluded: Tensor | None = None, *, k: int) -> Tensor:
    """Hits in the top k, discounted by their rank, as a share of the best possible.

    Formula: ``sum over hits of 1 / log2(1 + rank)``, divided by the same sum for the ideal
    ranking, ``min(k, |relevant|)`` hits at the top.

    Ties: by item index, lower first. Nothing relevant: NaN.

    Averages over: users, by the caller.

    >>> scores = torch.tensor([[4.0, 3.0, 2.0, 1.0]])
    >>> ndcg(scores, torch.tensor([[False, False, True, False]]), k=3)  # 1 / log2(1 + 3)
    tensor([0.5000], dtype=torch.float64)
    """
    return _ndcg(_top(scores, relevant, excluded, k), k)


@metric(family=FAMILY, higher_is_better=True, at_k=True)
def hit(scores: Tensor, relevant: Tensor, excluded: Tensor | None = None, *, k: int) -> Tensor:
    """Whether anything relevant is in the top k.

    Formula: ``1 if hits > 0 else 0``; its mean over users is the hit rate.

    Ties: by item index, lower first. Nothing relevant: NaN.

    Averages over: users, by the caller.

    >>> scores = torch.tensor([[4.0, 3.0, 2.0, 1.0]])
    >>> hit(scores, torch.tensor([[False, True, True, False]]), k=2)
    tensor([1.], dtype=torch.float64)
    """
    return _hit(_top(scores, relevant, excluded, k), k)


@metric(family=FAMILY, higher_is_better=True, at_k=True)
def mrr(scores: Tensor, relevant: Tensor, excluded: Tensor | None = None, *, k: int) -> Tensor:
    """Reciprocal of the rank of the first relevant item in the top k.

    Formula: ``1 / rank of the first hit``, 0 when the top k has none.

    Ties: by item index, lower first. Nothing relevant: NaN.

    Averages over: users, by the caller.

    >>> scores = torch.tensor([[4.0, 3.0, 2.0, 1.0]])
    >>> mrr(scores, torch.tensor([[False, True, True, False]]), k=3)
    tensor([0.5000], dtype=torch.float64)
    """
    return _mrr(_top(scores, relevant, excluded, k), k)


@metric(family=FAMILY, higher_is_better=True)
def auc(scores: Tensor, relevant: Tensor, excluded: Tensor | None = None) -> Tensor:
    """Probability that a relevant item is ranked above one that is not, over the whole catalogue.

    Formula: ``1 / (P Q) sum over relevant i, other j of [s_i > s_j] + [s_i = s_j] / 2``, for P
    relevant and Q other items, the excluded ones left out.

    Ties: a pair of equal scores counts 1/2. Nothing relevant, or nothing else: NaN.

    Averages over: users, by the caller.

    >>> scores = torch.tensor([[4.0, 3.0, 2.0, 1.0]])
    >>> excluded = torch.tensor([[True, False, False, False]])
    >>> auc(scores, torch.tensor([[False, False, True, False]]), excluded)
    tensor([0.5000], dtype=torch.float64)
    """
    relevant, excluded = _checked(scores, relevant, excluded)
    return rank_auc(scores, relevant, ~excluded)


def top_k_metrics(
    scores: Tensor,
    relevant: Tensor,
    excluded: Tensor | None,
    metrics: Iterable[Metric | str],
) -> dict[str, Tensor]:
    """Several metrics of the same users by name; those with a cut-off share one ranking.

    >>> scores = torch.tensor([[4.0, 3.0, 2.0, 1.0]])
    >>> relevant = torch.tensor([[True, False, True, True]])
    >>> top_k_metrics(scores, relevant, None, ["recall@2", "hit@1"])
    {'recall@2': tensor([0.3333], dtype=torch.float64), 'hit@1': tensor([1.], dtype=torch.float64)}
    """
    wanted = [_settled(one) for one in metrics]
    values: dict[str, Tensor] = {}
    longest = max((one.k for one in wanted if one.k is not None), default=None)
    top = None if longest is None else _top(scores, relevant, excluded, longest)
    for one in wanted:
        if top is not None and one.k is not None:
            values[one.name] = _FROM_TOP[one.base](Top(top.hits[:, : one.k], top.relevant), one.k)
        else:
            values[one.name] = one.function(scores, relevant, excluded)
    return values


def _settled(one: Metric | str) -> Metric:
    """The metric with its cut-off; one that is still open raises."""
    if isinstance(one, Metric):
        return find_metric(one.name, FAMILY) if one.at_k and one.k is None else one
    return find_metric(one, FAMILY)


def _precision(top: Top, k: int) -> Tensor:
    return _where_relevant(top, top.hits.sum(dim=-1).double() / k)


def _recall(top: Top, k: int) -> Tensor:
    return _where_relevant(top, top.hits.sum(dim=-1).double() / top.relevant.clamp(min=1))


def _ndcg(top: Top, k: int) -> Tensor:
    places = torch.arange(top.hits.shape[-1], device=top.hits.device)
    discounts = 1.0 / torch.log2(places.double() + 2.0)
    # A running sum adds in rank order whatever the shape, so chunks agree to the last digit.
    gain = (top.hits * discounts).cumsum(dim=-1)[:, -1]
    ideal = discounts.cumsum(dim=0)[(top.relevant.clamp(1, k) - 1)]
    return _where_relevant(top, gain / ideal)


def _hit(top: Top, k: int) -> Tensor:
    return _where_relevant(top, top.hits.any(dim=-1).double())


def _mrr(top: Top, k: int) -> Tensor:
    places = torch.arange(1, top.hits.shape[-1] + 1, device=top.hits.device)
    return _where_relevant(top, (top.hits / places.double()).amax(dim=-1))


_FROM_TOP: dict[str, Callable[[Top, int], Tensor]] = {
    "precision": _precision,
    "recall": _recall,
    "ndcg": _ndcg,
    "hit": _hit,
    "mrr": _mrr,
}


def _where_relevant(top: Top, value: Tensor) -> Tensor:
    return torch.where(top.relevant > 0, value, math.nan)


def _top(scores: Tensor, relevant: Tensor, excluded: Tensor | None, k: int) -> Top:
    """Rank each row and look up which of its first k items are relevant."""
    if type(k) is not int or k < 1:
        raise ValueError(f"k={k!r}; expected a whole number, 1 or more.")
    relevant, excluded = _checked(scores, relevant, excluded)
    # finite_scores makes a copy, so it may be filled in place.
    index = _first_items(finite_scores(scores).masked_fill_(excluded, -math.inf), k)
    return Top(relevant.gather(-1, index), count_true(relevant))


def _first_items(scores: Tensor, k: int) -> Tensor:
    """The first min(k, N) items of each row: by score, equal scores by index."""
    items = scores.shape[-1]
    values, index = scores.topk(min(k + 1, items), dim=-1)
    if items > k:
        # topk may pick any of the items that tie for the last place; pick the lowest indices.
        tied = (values[:, k - 1] == values[:, k]).nonzero().squeeze(-1)
        index = index[:, :k].contiguous()
        if len(tied):
            index[tied] = _lowest_of_tied(scores[tied], values[tied, k - 1 : k], k)
    by_index = index.sort(dim=-1).values
    by_score = scores.gather(-1, by_index).sort(dim=-1, descending=True, stable=True).indices
    return by_index.gather(-1, by_score)


def _lowest_of_tied(scores: Tensor, last: Tensor, k: int) -> Tensor:
    """The k items of each row at or above its k-th score, the lowest indices where that ties."""
    above, level = scores > last, scores == last
    places_left = k - above.sum(dim=-1, keepdim=True)
    chosen = above | (level & (level.cumsum(dim=-1) <= places_left))
    return chosen.nonzero()[:, 1].view(len(scores), k)


def _checked(scores: Tensor, relevant: Tensor, excluded: Tensor | None) -> tuple[Tensor, Tensor]:
    """Which items are to be found and which are left out; no item is both."""
    check_float(scores=scores)
    check_same_shape(scores=scores, relevant=relevant, excluded=excluded)
    check_mask("relevant", relevant)
    check_mask("excluded", excluded)
    if scores.dim() != 2 or scores.shape[1] == 0:
        raise ValueError(
            f"scores {shape_text(scores)} must be [U, N]: a row for each user, a column for each "
            "item of the catalogue."
        )
    if excluded is None:
        excluded = torch.zeros_like(relevant)
    good = ~scores.isnan() | excluded
    check_values("scores", scores, good, "a number; a model that diverged gives NaN")
    return relevant & ~excluded, excluded
