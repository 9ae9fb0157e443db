"""Pairs weighted by what their swap does to nDCG: O(n k) with a cut-off at k, linear memory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from lossmith.kernels.fast_op import attach, contiguous_like, flat_lists, over_lists
from lossmith.kernels.sorted_lists import sum_by

LambdaWeighting = Literal["ndcg", "ndcg_loss2", "ndcg_loss2pp"]
LAMBDA_WEIGHTINGS = ("ndcg", "ndcg_loss2", "ndcg_loss2pp")
BLOCK = 2**17  # pairs at work at a time, which a cache holds


def lambda_costs(
    scores: Tensor,
    gains: Tensor,
    items: Tensor,
    weighting: LambdaWeighting,
    mu: float,
    k: int | None,
) -> Tensor:
    """``sum of w_ij |g_i - g_j| softplus(-(s_i - s_j))`` over the pairs of a list with g_i > g_j.

    The weight w depends on the places of the two in the order of the scores; with ``k`` only pairs
    with at least one of the first k places count. Equal scores stand in ascending order of gain
    (the worst case), and what is equal in both shares its gradient: the mean over its orders.
    Lists ``[..., n]`` give ``[...]``.
    """
    top = scores.shape[-1] if k is None else min(k, scores.shape[-1])
    flat, gains, items = flat_lists(scores, gains, items)
    cost, gradient = _lambda_pairs(flat.detach(), gains, items, weighting, float(mu), top)
    return attach(flat, cost, gradient).reshape(scores.shape[:-1])


@dataclass(frozen=True)
class _Ordered:
    """Lists in the order of their scores, with what depends on places alone."""

    scores: Tensor  # [R, n], descending; what is no item stands last
    gains: Tensor  # [R, n]
    real: Tensor  # [R, n], 1.0 for an item
    order: Tensor  # [R, n], where each stood
    of_place: Tensor | None  # [n], discounts whose difference weighs a pair
    of_distance: Tensor | None  # [n], what the distance of two places weighs


@torch.library.custom_op("lossmith::lambda_pairs", mutates_args=())
def _lambda_pairs(
    scores: Tensor, gains: Tensor, items: Tensor, weighting: str, mu: float, top: int
) -> tuple[Tensor, Tensor]:
    """Costs ``[R]`` and gradient ``[R, n]``."""
    rows, n = scores.shape
    lists = _in_order(scores, gains, items, weighting, mu)
    cost, gradient = scores.new_zeros(rows), torch.zeros_like(lists.scores)
    start = 0
    while start < min(top, n - 1):
        stop = min(top, start + max(1, BLOCK // max(1, rows * (n - start))))
        cost += _add_block(lists, start, stop, gradient)
        start = stop
    gradient = _shared_by_equals(lists, gradient)
    gradient = torch.zeros_like(gradient).scatter(-1, lists.order, gradient)
    broken = (scores.isnan() & items).any(dim=-1)
    cost = torch.where(broken, torch.nan, cost)
    return cost, torch.where(broken.unsqueeze(-1), torch.nan, gradient)


def _in_order(scores: Tensor, gains: Tensor, items: Tensor, weighting: str, mu: float) -> _Ordered:
    largest = torch.finfo(scores.dtype).max / 4.0
    key = scores.nan_to_num(nan=0.0).clamp(-largest, largest)
    order = torch.where(items, gains, torch.inf).argsort(dim=-1, stable=True)
    by_score = torch.where(items, key, -torch.inf).gather(-1, order)
    order = order.gather(-1, by_score.argsort(dim=-1, descending=True, stable=True))
    s, g = (torch.where(items, x, 0.0).gather(-1, order) for x in (key, gains))
    real = items.gather(-1, order).to(s.dtype)
    return _Ordered(s, g, real, order, *_place_weights(weighting, mu, s))


def _place_weights(weighting: str, mu: float, like: Tensor) -> tuple[Tensor | None, Tensor | None]:
    n = like.shape[-1]
    place = torch.arange(1, n + 2, dtype=torch.float64, device=like.device)
    discount = 1.0 / (1.0 + place).log2()
    distance = torch.zeros_like(place)
    distance[1:] = discount[:-1] - discount[1:]
    of_place, of_distance = discount[:n].to(like.dtype), distance[:n].to(like.dtype)
    if weighting == "ndcg":
        return of_place, None
    return (None, of_distance) if weighting == "ndcg_loss2" else (of_place, mu * of_distance)


def _add_block(lists: _Ordered, start: int, stop: int, gradient: Tensor) -> Tensor:
    """The cost of the pairs of places from start to stop with those behind; adds their gradient."""
    mine, behind = slice(start, stop), slice(start, lists.scores.shape[-1])
    s, g = lists.scores, lists.gains
    weight = _pair_weights(lists, mine, behind)
    lead = s[:, mine].unsqueeze(-1) - s[:, behind].unsqueeze(-2)  # at least 0, where it counts
    gain = g[:, mine].unsqueeze(-1) - g[:, behind].unsqueeze(-2)
    gain.mul_(weight).mul_(lists.real[:, behind].unsqueeze(-2))
    wrong = F.relu(-gain)  # the one behind is more relevant
    gain.abs_()
    cost = (wrong * lead).sum(dim=(-2, -1))
    cost += (gain * F.softplus(-lead, threshold=60.0)).sum(dim=(-2, -1))
    pull = wrong.sub_(gain.mul_(lead.neg_().sigmoid_()))
    gradient[:, mine] += pull.sum(dim=-1)
    gradient[:, behind] -= pull.sum(dim=-2)
    return cost


def _pair_weights(lists: _Ordered, mine: slice, behind: slice) -> Tensor:
    """The weight of each pair of places, 0 unless the second is behind the first."""
    device = lists.scores.device
    first = torch.arange(mine.start, mine.stop, device=device).unsqueeze(-1)
    apart = torch.arange(behind.start, behind.stop, device=device) - first
    weight = torch.zeros(apart.shape, dtype=lists.scores.dtype, device=device)
    if lists.of_place is not None:
        weight += lists.of_place[mine].unsqueeze(-1) - lists.of_place[behind]
    if lists.of_distance is not None:
        weight += lists.of_distance[apart.clamp(min=0)]
    return torch.where(apart > 0, weight, 0.0)


def _shared_by_equals(lists: _Ordered, gradient: Tensor) -> Tensor:
    """The mean gradient of each run of items that are equal in score and gain."""
    differs = (lists.scores.diff() != 0) | (lists.gains.diff() != 0)
    if bool(differs.all()):
        return gradient
    new = torch.ones_like(gradient, dtype=torch.bool)
    new[:, 1:] = differs | (lists.real.diff() != 0)
    run = new.flatten().cumsum(0) - 1
    runs = int(run[-1]) + 1
    total = sum_by(run, gradient.flatten().double(), runs) / run.bincount(minlength=runs)
    return total.index_select(0, run).reshape(gradient.shape).to(gradient.dtype)


@_lambda_pairs.register_fake
def _(
    scores: Tensor, gains: Tensor, items: Tensor, weighting: str, mu: float, top: int
) -> tuple[Tensor, Tensor]:
    return scores.new_empty(scores.shape[:1]), contiguous_like(scores)


_lambda_pairs.register_vmap(over_lists(_lambda_pairs, lists=3))
