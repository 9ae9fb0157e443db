"""Costs summed over all pairs of items of different relevance, at the price of a sort.

Short lists take all their pairs, which is fastest there and differentiable any number of times.
Long ones never look at a pair: :mod:`hinge_pairs` counts, :mod:`logistic_pairs` interpolates, and
an exponential factorises. The caller sees one function.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from lossmith.core.numerics import softplus
from lossmith.kernels.below import bounded_exp, log_sum_below
from lossmith.kernels.fast_op import attach, contiguous_like, flat_lists, over_lists
from lossmith.kernels.hinge_pairs import ordered_sums, violators
from lossmith.kernels.logistic_pairs import logistic_sums
from lossmith.kernels.sorted_lists import rank_levels, sort_lists

Surrogate = Literal["logistic", "hinge", "squared_hinge", "exponential"]
SURROGATES = ("logistic", "hinge", "squared_hinge", "exponential")

# So many pairs (of all lists together) are fastest one by one: measured, forward and backward.
ALL_PAIRS_UP_TO = {"logistic": 3 * 2**18, "hinge": 2**18, "squared_hinge": 2**18}


def pair_costs(
    scores: Tensor, relevance: Tensor, items: Tensor, surrogate: Surrogate, margin: float = 1.0
) -> tuple[Tensor, Tensor]:
    """The sum of ``cost(s_i - s_j)`` over the pairs with y_i > y_j, and their number.

    Lists ``[..., n]`` give ``[...]``. The cost of a gap d is ``softplus(-d)`` ("logistic"),
    ``max(0, margin - d)`` ("hinge"), its square ("squared_hinge") or ``exp(-d)`` ("exponential").

    >>> scores, relevance = torch.tensor([2.0, 1.5, 0.0]), torch.tensor([2, 1, 0])
    >>> pair_costs(scores, relevance, relevance >= 0, "hinge")
    (tensor(0.5000), tensor(3))
    """
    if surrogate == "exponential":
        lower, pairs = log_sum_below(scores, relevance, items)
        terms = torch.where(lower == -torch.inf, -torch.inf, lower - scores)
        return bounded_exp(terms).to(scores.dtype), pairs
    few = scores.numel() * scores.shape[-1] <= ALL_PAIRS_UP_TO[surrogate]
    if few or scores.device.type == "mps":  # which has no float64
        return all_pairs(scores, relevance, items, surrogate, margin)
    flat, relevance, items = flat_lists(scores, relevance, items)
    cost, gradient, pairs = _pair_sums(flat.detach(), relevance, items, surrogate, margin)
    cost = attach(flat, cost, gradient)
    return cost.reshape(scores.shape[:-1]), pairs.reshape(scores.shape[:-1])


def all_pairs(
    scores: Tensor, relevance: Tensor, items: Tensor, surrogate: Surrogate, margin: float = 1.0
) -> tuple[Tensor, Tensor]:
    """The same from the pairs themselves, in time and memory ``[..., n, n]``."""
    pair = relevance.unsqueeze(-1) > relevance.unsqueeze(-2)
    pair = pair & items.unsqueeze(-1) & items.unsqueeze(-2)
    gap = torch.where(pair, scores.unsqueeze(-1) - scores.unsqueeze(-2), 0.0)
    if surrogate == "logistic":
        cost = softplus(-gap)
    else:
        cost = F.relu(margin - gap)
        cost = cost.square() if surrogate == "squared_hinge" else cost
    cost = torch.where(pair, cost, 0.0)
    return cost.sum(dim=(-2, -1)), pair.sum(dim=(-2, -1))


@torch.library.custom_op("lossmith::pair_sums", mutates_args=())
def _pair_sums(
    scores: Tensor, relevance: Tensor, items: Tensor, surrogate: str, margin: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Costs ``[R]``, gradient ``[R, n]`` and number of pairs ``[R]``."""
    level, pairs = rank_levels(relevance, items)
    lists = sort_lists(scores, items)
    level = level.flatten()[lists.place]
    if surrogate == "logistic":
        share, gradient = logistic_sums(lists, level)
    else:
        above, below = violators(lists, margin)
        share, gradient = ordered_sums(
            lists, level, above, below, margin, surrogate == "squared_hinge"
        )
    some = pairs > 0  # else an exact 0, without the rounding of an interpolation
    cost = torch.where(some, lists.total(share, scores.dtype), 0.0)
    gradient = torch.where(some.unsqueeze(-1), lists.spread(gradient, scores.dtype), 0.0)
    return cost, gradient, pairs


@_pair_sums.register_fake
def _(
    scores: Tensor, relevance: Tensor, items: Tensor, surrogate: str, margin: float
) -> tuple[Tensor, Tensor, Tensor]:
    rows = scores.shape[:1]
    return (
        scores.new_empty(rows),
        contiguous_like(scores),
        scores.new_empty(rows, dtype=torch.int64),
    )


_pair_sums.register_vmap(over_lists(_pair_sums, lists=3))
