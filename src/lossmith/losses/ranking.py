"""Objectives for a list of items that is to be put in order of relevance."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from lossmith.core.numerics import softplus, times_log, upcast
from lossmith.core.reduce import Divisor, Reduction, reduce
from lossmith.core.spec import Tune, objective
from lossmith.core.validate import (
    check_float,
    check_leading_shape,
    check_mask,
    check_range,
    check_same_shape,
    check_values,
)


@objective(
    family="ranking",
    module="RankNet",
    inputs="scores+relevance",
    unit="preference pairs",
    serves="share of pairs in the right order",
    limit="two items: binary_cross_entropy of the difference of their scores",
    invariances=("shift", "item permutation"),
    aliases=("pairwise logistic loss",),
    paper="Burges et al. 2005, Learning to rank using gradient descent",
)
def ranknet(
    scores: Tensor,
    relevance: Tensor,
    *,
    mask: Tensor | None = None,
    weight: Tensor | None = None,
    reduction: Reduction = "mean",
    divisor: Divisor | None = None,
) -> Tensor:
    """Score the more relevant of two items higher, whatever the distance in relevance.

    Formula: ``sum of softplus(-(s_i - s_j))`` over the pairs with ``y_i > y_j``.

    Use when any order that is wrong costs the same. Not when only the top of the list counts, as
    a pair at the bottom costs as much as one at the top. A list of n items has up to n (n - 1) / 2
    pairs, so long lists weigh more; ``weight = 1 / pairs of the list`` makes lists count alike.

    Shapes: scores, relevance and mask (True = an item) ``[..., n]``; weight ``[...]``, one per
    list; "none" gives ``[...]``, the sum over the pairs of each list. Takes memory ``[..., n, n]``.

    Mean divides by: preference pairs. Items of equal relevance are no pair.

    Errors: shapes that differ, a relevance that is NaN or infinite.

    >>> ranknet(torch.tensor([[2.0, 2.0, -98.0]]), torch.tensor([[2, 1, 0]]))  # log 2 / 3
    tensor(0.2310)

    Source: Burges et al. 2005.
    """
    cost, pairs = _over_pairs(lambda gap: softplus(-gap), scores, relevance, mask, weight)
    return reduce(cost, weight=weight, count=pairs, reduction=reduction, divisor=divisor)


@objective(
    family="ranking",
    module="PairwiseHinge",
    inputs="scores+relevance",
    unit="preference pairs",
    serves="share of pairs in the right order",
    limit="two items, margin=1: hinge of the difference of their scores",
    invariances=("shift", "item permutation"),
    tune={"margin": Tune(0.1, 10.0, log=True)},
    aliases=("ranking SVM loss", "margin ranking loss"),
    paper="Herbrich, Graepel, Obermayer 2000; Joachims 2002",
)
def pairwise_hinge(
    scores: Tensor,
    relevance: Tensor,
    *,
    margin: float = 1.0,
    mask: Tensor | None = None,
    weight: Tensor | None = None,
    reduction: Reduction = "mean",
    divisor: Divisor | None = None,
) -> Tensor:
    """Score the more relevant of two items higher by a margin, and no further.

    Formula: ``sum of max(0, margin - (s_i - s_j))`` over the pairs with ``y_i > y_j``.

    Use as ``ranknet``, when pairs that are safely in order should stop pulling. Not when the top
    of the list counts more than the rest.

    Shapes: scores, relevance and mask (True = an item) ``[..., n]``; weight ``[...]``, one per
    list; "none" gives ``[...]``, the sum over the pairs of each list. Takes memory ``[..., n, n]``.

    Mean divides by: preference pairs, the safe ones included. Items of equal relevance are no
    pair.

    Errors: shapes that differ, a relevance that is NaN or infinite, a negative margin.

    >>> scores, relevance = torch.tensor([[2.0, 1.5, 0.0]]), torch.tensor([[2, 1, 0]])
    >>> pairwise_hinge(scores, relevance, reduction="none")  # 0.5 + 0 + 0
    tensor([0.5000])

    Source: Herbrich, Graepel, Obermayer 2000; Joachims 2002.
    """
    check_range("margin", margin, 0.0)
    cost, pairs = _over_pairs(lambda gap: F.relu(margin - gap), scores, relevance, mask, weight)
    return reduce(cost, weight=weight, count=pairs, reduction=reduction, divisor=divisor)


@objective(
    family="ranking",
    module="ListNet",
    inputs="scores+relevance",
    unit="lists with an item",
    serves="nDCG",
    limit="one grade far above the rest: cross_entropy with that item as the class",
    invariances=("shift", "item permutation"),
    aliases=("softmax ranking loss", "listwise cross-entropy"),
    paper="Cao et al. 2007, Learning to rank: from pairwise approach to listwise approach",
)
def listnet(
    scores: Tensor,
    relevance: Tensor,
    *,
    mask: Tensor | None = None,
    weight: Tensor | None = None,
    reduction: Reduction = "mean",
    divisor: Divisor | None = None,
) -> Tensor:
    """Spread the scores of a list as its relevance is spread, most at the top.

    Formula: ``- sum_i softmax(y)_i log softmax(s)_i`` over the items of a list.

    Use when the top of the list counts most and lists should count alike, at a cost linear in
    their length. Not when grades are small next to the length of the list, as softmax(y) is then
    nearly even: scale them first. At its least it is the entropy of softmax(y), not 0.

    Shapes: scores, relevance and mask (True = an item) ``[..., n]``; weight ``[...]``, one per
    list.

    Mean divides by: lists with an item.

    Errors: shapes that differ, a relevance that is NaN or infinite.

    >>> listnet(torch.tensor([[0.0, 0.0]]), torch.tensor([[1, 0]]))  # log 2
    tensor(0.6931)

    Source: Cao et al. 2007.
    """
    scores, relevance, items = _list_inputs(scores, relevance, mask, weight)
    # A list without items stays finite by being taken as one of equal items that costs nothing.
    some = items.any(dim=-1)
    kept = items | ~some.unsqueeze(-1)
    q = torch.where(kept, relevance.to(scores.dtype), -torch.inf).softmax(dim=-1)
    log_p = torch.where(kept, scores, -torch.inf).log_softmax(dim=-1)
    cost = -times_log(q, log_p).sum(dim=-1)
    return reduce(cost, valid=some, weight=weight, reduction=reduction, divisor=divisor)


def _over_pairs(
    cost_of_gap: Callable[[Tensor], Tensor],
    scores: Tensor,
    relevance: Tensor,
    mask: Tensor | None,
    weight: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """The sum of ``cost_of_gap(s_i - s_j)`` over the pairs with y_i > y_j, and their number."""
    scores, relevance, items = _list_inputs(scores, relevance, mask, weight)
    pair = relevance.unsqueeze(-1) > relevance.unsqueeze(-2)
    pair = pair & items.unsqueeze(-1) & items.unsqueeze(-2)
    gap = torch.where(pair, scores.unsqueeze(-1) - scores.unsqueeze(-2), 0.0)
    cost = torch.where(pair, cost_of_gap(gap), 0.0)
    return cost.sum(dim=(-2, -1)), pair.sum(dim=(-2, -1))


def _list_inputs(
    scores: Tensor, relevance: Tensor, mask: Tensor | None, weight: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    """Checked scores and relevance, 0 where there is no item, and where there is one."""
    check_float(scores=scores)
    check_same_shape(scores=scores, relevance=relevance, mask=mask)
    check_leading_shape(scores, "scores", weight=weight)
    check_mask("mask", mask)
    (scores,) = upcast(scores)
    if mask is None:
        items = torch.ones_like(scores, dtype=torch.bool)
    else:
        items = mask
        scores = torch.where(mask, scores, 0.0)
        relevance = torch.where(mask, relevance, 0)
    check_values(
        "relevance", relevance, relevance.isfinite(), "a finite grade; leave it out with mask="
    )
    return scores, relevance, items
