"""Objectives that stand in for nDCG, where the top of a list counts most."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from lossmith.core.reduce import Divisor, Reduction, reduce
from lossmith.core.spec import Law, Tune, objective
from lossmith.core.validate import check_choice, check_range, check_values, check_whole_number
from lossmith.kernels.lambda_pairs import LAMBDA_WEIGHTINGS, LambdaWeighting, lambda_costs
from lossmith.kernels.soft_ranks import soft_ranks
from lossmith.losses.ranking.inputs import list_inputs

Gain = Literal["exponential", "linear"]
GAINS = ("exponential", "linear")
FLAT: dict[Law, str] = {
    "descent": "the smoothed metric has local minima: where a sigmoid is flat, nothing pulls",
    "saturation": "the metric is bounded and its sigmoids are flat far out: the worst pairs rest",
}
PLACES_JUMP: dict[Law, str] = {
    "monotone": "the weight of a pair jumps when two scores change places",
    "jumps": "the weight of a pair jumps when two scores change places",
}


@objective(
    family="ranking",
    module="LambdaLoss",
    inputs="scores+relevance",
    unit="lists with a preference pair",
    serves="nDCG",
    limit="two items of grades 1 and 0: ranknet, times 1 - 1 / log2(3)",
    invariances=("shift", "item permutation"),
    tune={"weighting": Tune(choices=LAMBDA_WEIGHTINGS), "k": Tune(choices=(3, 10, 30, None))},
    aliases=("LambdaRank", "NDCGLoss2", "NDCGLoss2++"),
    paper="Burges 2010, From RankNet to LambdaRank to LambdaMART; Wang et al. 2018, LambdaLoss",
    exempt=PLACES_JUMP,
    cost="n^2",
)
def lambda_loss(
    scores: Tensor,
    relevance: Tensor,
    *,
    weighting: LambdaWeighting = "ndcg",
    k: int | None = None,
    gain: Gain = "exponential",
    mu: float = 10.0,
    mask: Tensor | None = None,
    weight: Tensor | None = None,
    reduction: Reduction = "mean",
    divisor: Divisor | None = None,
) -> Tensor:
    """Score the more relevant of two items higher, as hard as their order matters to nDCG.

    Formula: ``sum of w_ij |G_i - G_j| softplus(-(s_i - s_j))`` over the pairs with ``y_i > y_j``.
    G is the gain (``2 ** y - 1``, or y with ``gain="linear"``) over that of the best order of the
    list. With p_i the place of i by score and ``D(p) = log2(1 + p)``, w is ``|1 / D(p_i) - 1 /
    D(p_j)|`` ("ndcg", LambdaRank), ``1 / D(d) - 1 / D(d + 1)`` with ``d = |p_i - p_j|``
    ("ndcg_loss2"), or the first plus ``mu`` times the second ("ndcg_loss2pp"). With ``k``, only
    pairs with at least one item in the first k places count, and the best order is cut at k. No
    gradient flows through w.

    Use when nDCG is what counts. Not for other metrics, nor to watch: the value jumps as items
    change places. Equal scores stand in ascending order of relevance, the worst case, so that a
    model that gives one score to all is pulled apart. With ``k`` it takes time O(n k), without
    O(n ** 2), and memory linear in n either way.

    Shapes: scores, relevance and mask (True = an item) ``[..., n]``; weight ``[...]``, one per
    list; "none" gives ``[...]``.

    Mean divides by: lists with a preference pair.

    Errors: shapes that differ, a relevance that is NaN, infinite or negative, k below 1.

    >>> lambda_loss(torch.zeros(1, 2), torch.tensor([[1, 0]]))  # (1 - 1 / log2(3)) log 2
    tensor(0.2558)

    Source: Burges 2010; Wang et al. 2018 (there with log2, a constant factor).
    """
    check_choice("weighting", weighting, LAMBDA_WEIGHTINGS)
    check_range("mu", mu, 0.0)
    scores, relevance, items = list_inputs(scores, relevance, mask, weight)
    gains = ideal_shares(relevance, items, gain, k, scores)
    cost = lambda_costs(scores, gains, items, weighting, mu, k)
    highest = torch.where(items, relevance, torch.finfo(torch.float32).min)
    lowest = torch.where(items, relevance, torch.finfo(torch.float32).max)
    some = _extreme(highest, "amax") > _extreme(lowest, "amin")
    return reduce(cost, valid=some, weight=weight, reduction=reduction, divisor=divisor)


@objective(
    family="ranking",
    module="ApproxNDCG",
    inputs="scores+relevance",
    unit="lists with a gain",
    serves="nDCG",
    limit="temperature=0: 1 - nDCG, ties at their mean rank",
    invariances=("shift", "item permutation"),
    tune={"temperature": Tune(0.05, 2.0, log=True), "gain": Tune(choices=GAINS)},
    aliases=("approximate NDCG",),
    paper="Qin, Liu, Li 2010, A general approximation framework for direct optimization of IR "
    "measures",
    exempt=FLAT,
    cost="n log n",
)
def approx_ndcg(
    scores: Tensor,
    relevance: Tensor,
    *,
    temperature: float = 1.0,
    gain: Gain = "exponential",
    mask: Tensor | None = None,
    weight: Tensor | None = None,
    reduction: Reduction = "mean",
    divisor: Divisor | None = None,
) -> Tensor:
    """Raise nDCG itself, with ranks that change smoothly with the scores.

    Formula: ``1 - sum_i G_i / log2(1 + r_i)`` with the soft rank ``r_i = 1 + sum over j != i of
    sigmoid((s_j - s_i) / temperature)``. G is the gain (``2 ** y - 1``, or y with
    ``gain="linear"``) over that of the best order of the list.

    Use when nDCG is what counts and scores start close together. Not from scores that are far
    apart and wrong: beyond some temperatures the sigmoid is flat and little gradient is left
    (``lambda_loss`` keeps it). Time is that of a sort and memory linear in n.

    Shapes: scores, relevance and mask (True = an item) ``[..., n]``; weight ``[...]``, one per
    list.

    Mean divides by: lists with a gain, an item of a relevance above 0.

    Errors: shapes that differ, a relevance that is NaN, infinite or negative, a temperature that
    is not above 0.

    >>> approx_ndcg(torch.tensor([[0.0, 0.0]]), torch.tensor([[1, 0]]))  # 1 - 1 / log2(2.5)
    tensor(0.2435)

    Source: Qin, Liu, Li 2010.
    """
    check_range("temperature", temperature, 0.0, low_open=True)
    scores, relevance, items = list_inputs(scores, relevance, mask, weight)
    gains = ideal_shares(relevance, items, gain, None, scores)
    some = (gains > 0).any(dim=-1)
    ranks = soft_ranks(scores / temperature, items)
    cost = 1.0 - (gains / (1.0 + ranks).log2()).sum(dim=-1)
    return reduce(cost, valid=some, weight=weight, reduction=reduction, divisor=divisor)


def ideal_shares(
    relevance: Tensor, items: Tensor, gain: Gain, k: int | None, scores: Tensor
) -> Tensor:
    """The gain of each item over the DCG of the best order, cut at k; 0 in a list without gain.

    Gains are scaled by 2 to the highest grade first, which cancels, so that no grade overflows.
    """
    check_choice("gain", gain, GAINS)
    if k is not None:
        check_whole_number("k", k, 1)
    check_values("relevance", relevance, relevance >= 0, "a grade of at least 0, as a gain is")
    n = relevance.shape[-1]
    grade = relevance.to(scores.dtype)
    top = grade.amax(dim=-1, keepdim=True) if n else grade
    if gain == "exponential":
        grade = torch.where(items, (grade - top).exp2() - (-top).exp2(), 0.0)
    else:
        grade = grade / torch.where(top > 0, top, 1.0)
    cut = n if k is None else min(k, n)
    best = grade.sort(dim=-1, descending=True).values[..., :cut]
    place = torch.arange(1, cut + 1, dtype=grade.dtype, device=grade.device)
    ideal = (best / (1.0 + place).log2()).sum(dim=-1, keepdim=True)
    return grade / torch.where(ideal > 0, ideal, 1.0)


def _extreme(values: Tensor, kind: Literal["amax", "amin"]) -> Tensor:
    """The largest or smallest of each list; of an empty one, 0."""
    if values.shape[-1] == 0:
        return values.sum(dim=-1)
    return values.amax(dim=-1) if kind == "amax" else values.amin(dim=-1)
