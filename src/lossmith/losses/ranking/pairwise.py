"""Objectives that put the more relevant of two items first, over all pairs of a list."""

from __future__ import annotations

import torch  # noqa: F401  (the doctests use it)
from torch import Tensor

from lossmith.core.reduce import Divisor, Reduction, reduce
from lossmith.core.spec import Tune, objective
from lossmith.core.validate import check_range
from lossmith.kernels.pair_sums import pair_costs
from lossmith.losses.ranking.inputs import list_inputs


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
    cost="n log n",
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
    Time is that of a sort and memory linear in n: a million items are one list like any other.

    Shapes: scores, relevance and mask (True = an item) ``[..., n]``; weight ``[...]``, one per
    list; "none" gives ``[...]``, the sum over the pairs of each list.

    Mean divides by: preference pairs. Items of equal relevance are no pair.

    Errors: shapes that differ, a relevance that is NaN or infinite.

    >>> ranknet(torch.tensor([[2.0, 2.0, -98.0]]), torch.tensor([[2, 1, 0]]))  # log 2 / 3
    tensor(0.2310)

    Source: Burges et al. 2005.
    """
    lists = list_inputs(scores, relevance, mask, weight)
    cost, pairs = pair_costs(*lists, "logistic")
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
    cost="n log n",
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
    list; "none" gives ``[...]``, the sum over the pairs of each list.

    Mean divides by: preference pairs, the safe ones included. Items of equal relevance are no
    pair.

    Errors: shapes that differ, a relevance that is NaN or infinite, a negative margin.

    >>> scores, relevance = torch.tensor([[2.0, 1.5, 0.0]]), torch.tensor([[2, 1, 0]])
    >>> pairwise_hinge(scores, relevance, reduction="none")  # 0.5 + 0 + 0
    tensor([0.5000])

    Source: Herbrich, Graepel, Obermayer 2000; Joachims 2002.
    """
    check_range("margin", margin, 0.0)
    lists = list_inputs(scores, relevance, mask, weight)
    cost, pairs = pair_costs(*lists, "hinge", margin)
    return reduce(cost, weight=weight, count=pairs, reduction=reduction, divisor=divisor)


@objective(
    family="ranking",
    module="PairwiseSquaredHinge",
    inputs="scores+relevance",
    unit="preference pairs",
    serves="share of pairs in the right order",
    limit="margin above every gap: the mean of (margin - gap) ** 2 over the pairs",
    invariances=("shift", "item permutation"),
    tune={"margin": Tune(0.1, 10.0, log=True)},
    aliases=("L2 ranking SVM loss", "pairwise squared margin loss"),
    paper="Lee, Lin 2014, Large-scale linear RankSVM",
    cost="n log n",
)
def pairwise_squared_hinge(
    scores: Tensor,
    relevance: Tensor,
    *,
    margin: float = 1.0,
    mask: Tensor | None = None,
    weight: Tensor | None = None,
    reduction: Reduction = "mean",
    divisor: Divisor | None = None,
) -> Tensor:
    """Score the more relevant of two items higher by a margin, the worst pairs first.

    Formula: ``sum of max(0, margin - (s_i - s_j)) ** 2`` over the pairs with ``y_i > y_j``.

    Use as ``pairwise_hinge``, when a large violation should pull more than two small ones and the
    gradient should have no jump. Not with noisy grades, where the worst pairs are wrong labels.
    In a long list a score more than 1e12 away from the rest blurs the sums of its batch: leave
    such items out with ``mask``.

    Shapes: scores, relevance and mask (True = an item) ``[..., n]``; weight ``[...]``, one per
    list; "none" gives ``[...]``, the sum over the pairs of each list.

    Mean divides by: preference pairs, the safe ones included. Items of equal relevance are no
    pair.

    Errors: shapes that differ, a relevance that is NaN or infinite, a negative margin.

    >>> scores, relevance = torch.tensor([[2.0, 1.5, 0.0]]), torch.tensor([[2, 1, 0]])
    >>> pairwise_squared_hinge(scores, relevance, reduction="none")  # 0.5 ** 2 + 0 + 0
    tensor([0.2500])

    Source: Lee, Lin 2014; the sum over all pairs from sorted scores, Rust, Hocking 2023.
    """
    check_range("margin", margin, 0.0)
    lists = list_inputs(scores, relevance, mask, weight)
    cost, pairs = pair_costs(*lists, "squared_hinge", margin)
    return reduce(cost, weight=weight, count=pairs, reduction=reduction, divisor=divisor)


@objective(
    family="ranking",
    module="PairwiseExponential",
    inputs="scores+relevance",
    unit="preference pairs",
    serves="share of pairs in the right order",
    limit="two items: exp of the less relevant one's lead; small leads: 1 + lead",
    invariances=("shift", "item permutation"),
    aliases=("RankBoost loss",),
    paper="Freund, Iyer, Schapire, Singer 2003, An efficient boosting algorithm (RankBoost)",
    cost="n log n",
)
def pairwise_exponential(
    scores: Tensor,
    relevance: Tensor,
    *,
    mask: Tensor | None = None,
    weight: Tensor | None = None,
    reduction: Reduction = "mean",
    divisor: Divisor | None = None,
) -> Tensor:
    """Score the more relevant of two items higher, at any price where the order is far off.

    Formula: ``sum of exp(-(s_i - s_j))`` over the pairs with ``y_i > y_j``.

    Use when the worst pairs of a list must be mended first and grades are clean. Not with noisy
    grades (``ranknet``), as one wrong label outweighs all else. The sum of a list is held at
    exp(80): beyond, its gradient keeps its direction and stays finite.

    Shapes: scores, relevance and mask (True = an item) ``[..., n]``; weight ``[...]``, one per
    list; "none" gives ``[...]``, the sum over the pairs of each list.

    Mean divides by: preference pairs. Items of equal relevance are no pair.

    Errors: shapes that differ, a relevance that is NaN or infinite.

    >>> pairwise_exponential(torch.tensor([[1.0, 0.0]]), torch.tensor([[1, 0]]))  # 1 / e
    tensor(0.3679)

    Source: Freund, Iyer, Schapire, Singer 2003.
    """
    lists = list_inputs(scores, relevance, mask, weight)
    cost, pairs = pair_costs(*lists, "exponential")
    return reduce(cost, weight=weight, count=pairs, reduction=reduction, divisor=divisor)
