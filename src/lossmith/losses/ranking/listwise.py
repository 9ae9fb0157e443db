"""Objectives for the order of a list as a whole."""

from __future__ import annotations

import torch
from torch import Tensor

from lossmith.core.numerics import times_log
from lossmith.core.reduce import Divisor, Reduction, reduce
from lossmith.core.spec import objective
from lossmith.kernels.list_likelihood import order_costs
from lossmith.kernels.total_costs import LISTWISE, reduced_cost
from lossmith.losses.ranking.inputs import list_inputs


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
    scores, relevance, items = list_inputs(scores, relevance, mask, weight)
    if mask is None and scores.shape[-1] > 0:
        relevance = relevance.to(scores.dtype)
        return reduced_cost(LISTWISE, scores, relevance, None, weight, reduction, divisor)
    # A list without items stays finite by being taken as one of equal items that costs nothing.
    some = items.any(dim=-1)
    kept = items | ~some.unsqueeze(-1)
    q = torch.where(kept, relevance.to(scores.dtype), -torch.inf).softmax(dim=-1)
    log_p = torch.where(kept, scores, -torch.inf).log_softmax(dim=-1)
    cost = -times_log(q, log_p).sum(dim=-1)
    return reduce(cost, valid=some, weight=weight, reduction=reduction, divisor=divisor)


@objective(
    family="ranking",
    module="ListMLE",
    inputs="scores+relevance",
    unit="lists with an item",
    serves="the whole order of a list",
    limit="two items: ranknet; one relevant item: cross_entropy with that item as the class",
    invariances=("shift", "item permutation"),
    aliases=("Plackett-Luce loss", "listwise maximum likelihood"),
    paper="Xia et al. 2008, Listwise approach to learning to rank: theory and algorithm",
    cost="n log n",
)
def list_mle(
    scores: Tensor,
    relevance: Tensor,
    *,
    mask: Tensor | None = None,
    weight: Tensor | None = None,
    reduction: Reduction = "mean",
    divisor: Divisor | None = None,
) -> Tensor:
    """Make the right order the likeliest, if items were drawn one by one by their scores.

    Formula: ``- sum_i log(exp(s_i) / (exp(s_i) + sum over y_j < y_i of exp(s_j)))``: each item is
    drawn from itself and all less relevant ones.

    Use when the whole order of a list matters, at the cost of a sort. Not when only the top counts
    (``lambda_loss``, ``approx_ndcg``). Items of equal relevance do not compete: their order costs
    nothing, and where none is tied this is the likelihood of Plackett and Luce. A list of one
    grade costs 0.

    Shapes: scores, relevance and mask (True = an item) ``[..., n]``; weight ``[...]``, one per
    list.

    Mean divides by: lists with an item.

    Errors: shapes that differ, a relevance that is NaN or infinite.

    >>> list_mle(torch.zeros(1, 3), torch.tensor([[2, 1, 0]]))  # log 3 + log 2
    tensor(1.7918)

    Source: Xia et al. 2008; Plackett 1975, Luce 1959.
    """
    scores, relevance, items = list_inputs(scores, relevance, mask, weight)
    cost = order_costs(scores, relevance, items, masked=mask is not None)
    if mask is None and scores.shape[-1] > 0:
        return reduce(cost, weight=weight, reduction=reduction, divisor=divisor)
    some = items.any(dim=-1)
    return reduce(cost, valid=some, weight=weight, reduction=reduction, divisor=divisor)
