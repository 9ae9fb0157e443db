"""Metrics for lists of items with graded relevance, one value per list.

All take ``[Q, n]`` tensors, a row for each list: scores, relevance (a grade of 0 or more, 0 = not
relevant) and bool ``mask`` (True = an item; the rest is padding, which may hold anything). A list
without a relevant item has no answer, NaN, so the mean over lists is ``torch.nanmean`` of all rows
together. That leaves such lists out; scripts that count them as 0 (LETOR's does, and lists shorter
than the cut-off too) give lower numbers, which cannot be compared with these.

Equal scores are ranked by place in the list, earlier first. That, and sums in rank order, make a
value depend on its own list alone: pad as you like, evaluate in batches of any size. All compute
in float64.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from lossmith.core.metric import metric
from lossmith.core.validate import (
    check_float,
    check_mask,
    check_range,
    check_same_shape,
    check_values,
    check_whole_number,
    shape_text,
)
from lossmith.kernels.rank_auc import finite_scores, pairs_in_order

FAMILY = "ranking"
LEFT_OUT = "lists without relevant items left out"
TREC_HIGHEST = 4.0  # the top of the scale in TREC's script for ERR


class Ranked(NamedTuple):
    """What a list holds from its first place to its last, padding at the end with grade 0."""

    grades: Tensor  # float64 [Q, n]
    relevant: Tensor  # int64 [Q], how many items of the list have a grade above 0


@metric(family=FAMILY, higher_is_better=True, at_k=True, definition=f"gain 2^grade - 1, {LEFT_OUT}")
def ndcg(scores: Tensor, relevance: Tensor, mask: Tensor | None = None, *, k: int) -> Tensor:
    """Gain 2^grade - 1 in the top k, discounted by rank, as a share of the best possible.

    Formula: ``sum over ranks r <= k of (2^y_r - 1) / log2(1 + r)``, divided by the same sum for
    the items in order of relevance (Burges et al. 2005).

    Ties: by place in the list, earlier first. Nothing relevant: NaN.

    Averages over: lists, by the caller.

    >>> scores = torch.tensor([[2.0, 1.0]])
    >>> ndcg(scores, torch.tensor([[1, 2]]), k=1)  # 1 / 3
    tensor([0.3333], dtype=torch.float64)
    """
    return _ndcg(scores, relevance, mask, k, exponential=True)


@metric(family=FAMILY, higher_is_better=True, at_k=True, definition=f"gain grade, {LEFT_OUT}")
def linear_ndcg(scores: Tensor, relevance: Tensor, mask: Tensor | None = None, *, k: int) -> Tensor:
    """Gain grade in the top k, discounted by rank, as a share of the best possible.

    Formula: ``sum over ranks r <= k of y_r / log2(1 + r)``, divided by the same sum for the items
    in order of relevance. This is nDCG as trec_eval has it; with grades 0 and 1 it is ``ndcg``.

    Ties: by place in the list, earlier first. Nothing relevant: NaN.

    Averages over: lists, by the caller.

    >>> scores = torch.tensor([[2.0, 1.0]])
    >>> linear_ndcg(scores, torch.tensor([[1, 2]]), k=1)  # 1 / 2
    tensor([0.5000], dtype=torch.float64)
    """
    return _ndcg(scores, relevance, mask, k, exponential=False)


@metric(
    family=FAMILY,
    name="map",
    higher_is_better=True,
    definition=f"a grade above 0 is relevant, {LEFT_OUT}",
)
def average_precision(scores: Tensor, relevance: Tensor, mask: Tensor | None = None) -> Tensor:
    """Precision at the rank of each relevant item, averaged over these items.

    Formula: ``1/R sum over the ranks r of relevant items of (relevant items in the top r) / r``,
    for R relevant items; its mean over lists is MAP. A grade above 0 is relevant.

    Ties: by place in the list, earlier first. Nothing relevant: NaN.

    Averages over: lists, by the caller.

    >>> scores = torch.tensor([[3.0, 2.0, 1.0]])
    >>> average_precision(scores, torch.tensor([[1, 0, 2]]))  # (1/1 + 2/3) / 2
    tensor([0.8333], dtype=torch.float64)
    """
    ranked = _ranked(scores, relevance, mask)
    hits = (ranked.grades > 0).double()
    precision = hits.cumsum(dim=-1) / _ranks(hits)
    return _where_relevant(ranked, _sum_in_order(hits * precision) / ranked.relevant)


@metric(
    family=FAMILY,
    higher_is_better=True,
    at_k=True,
    definition=f"a grade above 0 is relevant, {LEFT_OUT}",
)
def mrr(scores: Tensor, relevance: Tensor, mask: Tensor | None = None, *, k: int) -> Tensor:
    """Reciprocal of the rank of the first relevant item in the top k.

    Formula: ``1 / rank of the first item with a grade above 0``, 0 when the top k has none.

    Ties: by place in the list, earlier first. Nothing relevant: NaN.

    Averages over: lists, by the caller.

    >>> scores = torch.tensor([[3.0, 2.0, 1.0]])
    >>> mrr(scores, torch.tensor([[0, 1, 2]]), k=10)
    tensor([0.5000], dtype=torch.float64)
    """
    check_whole_number("k", k, 1)
    ranked = _ranked(scores, relevance, mask)
    hits = (ranked.grades[:, :k] > 0).double()
    return _where_relevant(ranked, (hits / _ranks(hits)).amax(dim=-1))


@metric(
    family=FAMILY,
    higher_is_better=True,
    at_k=True,
    definition=f"stop at (2^grade - 1) / 2^highest grade of the data, {LEFT_OUT}",
)
def err(
    scores: Tensor,
    relevance: Tensor,
    mask: Tensor | None = None,
    *,
    k: int,
    highest: float = TREC_HIGHEST,
) -> Tensor:
    """Expected reciprocal of the rank at which a reader who goes down the list is satisfied.

    Formula: ``sum over ranks r <= k of R_r / r prod over i < r of (1 - R_i)`` with
    ``R = (2^y - 1) / 2^highest`` (Chapelle et al. 2009). ``highest`` is the top of the scale of
    grades, 4 in TREC's script; lower for the same list means a larger value.

    Ties: by place in the list, earlier first. Nothing relevant: NaN.

    Averages over: lists, by the caller.

    >>> scores = torch.tensor([[2.0, 1.0]])
    >>> err(scores, torch.tensor([[1, 2]]), k=10, highest=2)  # 1/4 + 3/4 3/4 1/2
    tensor([0.5312], dtype=torch.float64)
    """
    check_whole_number("k", k, 1)
    check_range("highest", highest, 0.0, low_open=True)
    ranked = _ranked(scores, relevance, mask)
    good = ranked.grades <= highest
    check_values("relevance", ranked.grades, good, f"a grade of at most highest={highest:g}")
    stop = (torch.exp2(ranked.grades[:, :k]) - 1.0) / 2.0**highest
    go_on = torch.cat([torch.ones_like(stop[:, :1]), (1.0 - stop[:, :-1]).cumprod(dim=-1)], dim=-1)
    return _where_relevant(ranked, _sum_in_order(stop * go_on / _ranks(stop)))


@metric(
    family=FAMILY,
    higher_is_better=True,
    definition="ties count 1/2, lists of one grade left out",
)
def pairwise_accuracy(scores: Tensor, relevance: Tensor, mask: Tensor | None = None) -> Tensor:
    """Share of the pairs of unequal relevance that the scores put in the right order.

    Formula: ``1/P sum over the P pairs with y_i > y_j of [s_i > s_j] + [s_i = s_j] / 2``.

    Ties: a pair of equal scores counts 1/2. No pair of unequal relevance: NaN.

    Averages over: lists, by the caller.

    >>> scores = torch.tensor([[3.0, 1.0, 1.0]])
    >>> pairwise_accuracy(scores, torch.tensor([[1, 2, 0]]))  # (0 + 1 + 1/2) / 3
    tensor([0.5000], dtype=torch.float64)
    """
    relevance, mask = _checked(scores, relevance, mask)
    twice_right = pairs = torch.zeros_like(relevance[:, 0], dtype=torch.int64)
    # Each grade against all that are lower: O(n log n) a grade, and every count a whole number.
    for grade in torch.unique(relevance[mask])[1:]:
        higher, counted = mask & (relevance == grade), mask & (relevance <= grade)
        right, of = pairs_in_order(scores.masked_fill(~mask, 0.0), higher, counted)
        twice_right, pairs = twice_right + right, pairs + of
    return torch.where(pairs > 0, twice_right.double() / (2 * pairs).clamp(min=1), math.nan)


def _ndcg(
    scores: Tensor, relevance: Tensor, mask: Tensor | None, k: int, *, exponential: bool
) -> Tensor:
    check_whole_number("k", k, 1)
    ranked = _ranked(scores, relevance, mask)
    best = ranked.grades.sort(dim=-1, descending=True).values
    gain, ideal = (
        _sum_in_order(gains / torch.log2(_ranks(gains) + 1.0))
        for gains in (
            torch.exp2(grades[:, :k]) - 1.0 if exponential else grades[:, :k]
            for grades in (ranked.grades, best)
        )
    )
    return _where_relevant(ranked, gain / ideal)


def _ranks(rows: Tensor) -> Tensor:
    """1, 2, 3, ... along the last dimension."""
    return torch.arange(1, rows.shape[-1] + 1, device=rows.device, dtype=rows.dtype)


def _sum_in_order(rows: Tensor) -> Tensor:
    """The sum of each row, added in rank order: zeros behind a list change no digit of it."""
    return rows.cumsum(dim=-1)[:, -1]


def _where_relevant(ranked: Ranked, value: Tensor) -> Tensor:
    return torch.where(ranked.relevant > 0, value, math.nan)


def _ranked(scores: Tensor, relevance: Tensor, mask: Tensor | None) -> Ranked:
    """The grades in the order of the scores, ties by place, padding last."""
    relevance, mask = _checked(scores, relevance, mask)
    real = finite_scores(scores).masked_fill(~mask, -math.inf)
    order = real.sort(dim=-1, descending=True, stable=True).indices
    return Ranked(relevance.gather(-1, order), (relevance > 0).sum(dim=-1))


def _checked(scores: Tensor, relevance: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
    """The grades in float64, 0 where there is no item, and where there is one."""
    check_float(scores=scores)
    check_same_shape(scores=scores, relevance=relevance, mask=mask)
    check_mask("mask", mask)
    if scores.dim() != 2 or scores.shape[1] == 0:
        raise ValueError(
            f"scores {shape_text(scores)} must be [Q, n]: a row for each list, padded to the "
            "longest. Try scores.unsqueeze(0) for a single list."
        )
    if mask is None:
        mask = torch.ones_like(scores, dtype=torch.bool)
    good = ~scores.isnan() | ~mask
    check_values("scores", scores, good, "a number; a model that diverged gives NaN")
    relevance = torch.where(mask, relevance, 0).double()
    good = relevance.isfinite() & (relevance >= 0)
    check_values("relevance", relevance, good, "a grade, 0 or more; leave items out with mask=")
    return relevance, mask
