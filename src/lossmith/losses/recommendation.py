"""Objectives for choosing from a catalogue when only likes are known."""

from __future__ import annotations

import torch
from torch import Tensor

from lossmith.core.numerics import upcast
from lossmith.core.reduce import Divisor, Reduction, reduce
from lossmith.core.spec import Law, Tune, objective
from lossmith.core.validate import (
    check_choice,
    check_float,
    check_leading_shape,
    check_mask,
    check_range,
    check_same_shape,
    check_values,
    check_whole_number,
    shape_text,
)
from lossmith.kernels.total_costs import SOFTPLUS, reduced_cost
from lossmith.kernels.violators import Weighting, expected_rank_weight, rank_weight

WEIGHTINGS = ("log", "harmonic")
WARP_PAPER = "Weston, Bengio, Usunier 2011, WSABIE: scaling up to large vocabulary image annotation"
RANK_JUMPS: dict[Law, str] = {
    "monotone": "a better positive can leave a small violation behind and be charged for the next, "
    "larger one; the rank estimate jumps there",
    "jumps": "the rank is a count: the value steps where another item becomes the violator",
}


@objective(
    family="recommendation",
    module="BPR",
    inputs="positive+negative",
    unit="pairs",
    serves="AUC",
    limit="binary_cross_entropy of the difference, answered yes; ranknet over lists of two",
    invariances=("shift",),
    aliases=("Bayesian personalized ranking",),
    paper="Rendle, Freudenthaler, Gantner, Schmidt-Thieme 2009, BPR",
)
def bpr(
    positive: Tensor,
    negative: Tensor,
    *,
    mask: Tensor | None = None,
    weight: Tensor | None = None,
    reduction: Reduction = "mean",
    divisor: Divisor | None = None,
) -> Tensor:
    """Raise the score of a liked item above that of an item drawn from the rest.

    Formula: ``softplus(-(p - n)) = -log sigmoid(p - n)``.

    Use when a whole ranking should be right on average, at one negative for each positive.
    Not when only the top counts (``warp``). Draw the negatives uniformly and leave out known
    positives: negatives drawn by popularity train another model.

    Shapes: positive, negative, mask and weight all the same ``[...]``.

    Mean divides by: pairs.

    Errors: shapes that differ, (N,) against (N, 1) included.

    >>> bpr(torch.tensor([1.0, 30.0]), torch.tensor([1.0, 0.0]))  # (log 2 + 0) / 2
    tensor(0.3466)

    Source: Rendle et al. 2009, without its weight decay, which is the optimizer's.
    """
    check_float(positive=positive, negative=negative)
    check_same_shape(positive=positive, negative=negative, mask=mask, weight=weight)
    check_mask("mask", mask)
    positive, negative = upcast(positive, negative)
    if mask is not None:
        positive = torch.where(mask, positive, 0.0)
        negative = torch.where(mask, negative, 0.0)
    return reduced_cost(SOFTPLUS, negative, positive, mask, weight, reduction, divisor)


@objective(
    family="recommendation",
    module="WARP",
    inputs="positive+draws",
    unit="positives",
    serves="precision at the top",
    limit='one draw, num_items=2, weighting="harmonic": pairwise_hinge, max(0, margin - p + n)',
    invariances=("shift",),
    tune={"margin": Tune(0.1, 4.0, log=True), "weighting": Tune(choices=WEIGHTINGS)},
    aliases=("WSABIE loss", "weighted approximate-rank pairwise loss"),
    paper=WARP_PAPER,
    exempt=RANK_JUMPS,
)
def warp(
    positive: Tensor,
    negatives: Tensor,
    *,
    num_items: int,
    margin: float = 1.0,
    weighting: Weighting = "log",
    mask: Tensor | None = None,
    trials: Tensor | None = None,
    weight: Tensor | None = None,
    reduction: Reduction = "mean",
    divisor: Divisor | None = None,
) -> Tensor:
    """Raise a liked item above the first drawn item that comes too close, more when many would.

    Formula: ``w(floor((num_items - 1) / K)) (margin - p + n)``, where n is the first draw with
    ``n > p - margin`` that ``mask`` allows, K its place among the draws (from 1), and w(r) is
    ``log(max(1, r))`` ("log", LightFM) or ``1 + 1/2 + ... + 1/r`` ("harmonic", the paper). K
    estimates how many items outrank the positive; no gradient flows through w. A positive without
    a violator among its draws costs 0.

    Use when the top of the list is what counts and the catalogue is too large to score. Not when
    all scores are at hand (``expected_warp``, without sampling noise) or when the whole order
    matters (``bpr``).

    Draws are uniform over the catalogue, in draw order. A draw that ``mask`` rules out (a known
    positive) uses up a trial and is never the violator. ``sample_violators`` finds the violators
    without gradients; score those again, one column, and give ``trials=found.trials[:, None]``
    and ``mask=found.found[:, None]``.

    Shapes: positive and weight ``[...]``; negatives, mask (True = a true negative) and trials
    (the place of each draw, 1, 2, ... when left out) ``[..., T]``.

    Mean divides by: positives, those without a violator included.

    Errors: a shape that does not fit, no draws, a place below 1, num_items below 2.

    >>> positive, draws = torch.tensor([2.0, 9.0]), torch.tensor([[0.0, 1.5], [0.0, 1.5]])
    >>> warp(positive, draws, num_items=9, reduction="none")  # log(8 / 2) * (1 - 2 + 1.5)
    tensor([0.6931, 0.0000])

    Source: Weston, Bengio, Usunier 2011; the log weight, Kula 2015 (LightFM).
    """
    check_float(positive=positive, negatives=negatives)
    check_whole_number("num_items", num_items, 2)
    check_range("margin", margin, 0.0)
    check_choice("weighting", weighting, WEIGHTINGS)
    check_leading_shape(negatives, "negatives", positive=positive, weight=weight)
    check_same_shape(negatives=negatives, mask=mask, trials=trials)
    check_mask("mask", mask)
    place = _places(negatives, trials, mask)
    positive, negatives = upcast(positive, negatives)
    threshold = positive - margin
    violates = _violates(negatives, threshold, mask)
    found = violates.any(dim=-1)
    first = torch.where(violates, place, torch.iinfo(place.dtype).max).argmin(dim=-1, keepdim=True)
    rank = (num_items - 1) // place.gather(-1, first).squeeze(-1).clamp(min=1)
    chosen = negatives.gather(-1, first).squeeze(-1)
    excess = torch.where(found, chosen, 0.0) - torch.where(found, threshold, 0.0)
    cost = torch.where(found, rank_weight(rank, weighting, excess.dtype) * excess, 0.0)
    return reduce(cost, weight=weight, reduction=reduction, divisor=divisor)


@objective(
    family="recommendation",
    module="ExpectedWARP",
    inputs="positive+catalogue",
    unit="positives",
    serves="precision at the top",
    limit="the mean of warp over all possible draws; max_trials=1: the mean hinge over the "
    "catalogue, times the weight of rank num_items - 1",
    invariances=("shift", "item permutation"),
    tune={
        "margin": Tune(0.1, 4.0, log=True),
        "weighting": Tune(choices=WEIGHTINGS),
        "max_trials": Tune(choices=(10, 100, None)),
    },
    aliases=("WARP without sampling noise", "full-catalogue WARP"),
    paper=WARP_PAPER,
    exempt=RANK_JUMPS,
)
def expected_warp(
    positive: Tensor,
    catalogue: Tensor,
    *,
    margin: float = 1.0,
    weighting: Weighting = "log",
    max_trials: int | None = None,
    mask: Tensor | None = None,
    weight: Tensor | None = None,
    reduction: Reduction = "mean",
    divisor: Divisor | None = None,
) -> Tensor:
    """Raise a liked item above every item that comes too close: WARP without its dice.

    Formula: ``E[w(floor((N - 1) / K))] / v * sum over violators of (margin - p + n)``, where v of
    the N items violate (``n > p - margin`` and allowed by ``mask``), K is geometric with success
    v / N, cut off at ``max_trials`` (None: never), and w is as in ``warp``. It is the exact mean
    of ``warp`` over draws from the catalogue.

    Use when all N scores of a row fit in memory. Not for catalogues of millions (``warp``). With
    no sampling noise it also fits the training data faster: expect to want more weight decay.

    Shapes: positive and weight ``[...]``; catalogue and mask ``[..., N]``, mask True = a true
    negative. The positive's own column must be ruled out, and other known positives should be.

    Mean divides by: positives, those without a violator included.

    Errors: a shape that does not fit, max_trials below 1.

    >>> positive, scores = torch.tensor([2.0]), torch.tensor([[1.5, 3.0, 0.0]])
    >>> expected_warp(positive, scores, max_trials=1)  # 2/3 log(2) (0.5 + 2) / 2
    tensor(0.5776)

    Source: the expectation over the draws of Weston, Bengio, Usunier 2011.
    """
    check_float(positive=positive, catalogue=catalogue)
    check_range("margin", margin, 0.0)
    check_choice("weighting", weighting, WEIGHTINGS)
    if max_trials is not None:
        check_whole_number("max_trials", max_trials, 1)
    check_leading_shape(catalogue, "catalogue", positive=positive, weight=weight)
    check_same_shape(catalogue=catalogue, mask=mask)
    check_mask("mask", mask)
    num_items = catalogue.shape[-1]
    if num_items == 0:
        raise ValueError(f"catalogue {shape_text(catalogue)} needs at least one item.")
    positive, catalogue = upcast(positive, catalogue)
    threshold = (positive - margin).unsqueeze(-1)
    violates = _violates(catalogue, threshold.squeeze(-1), mask)
    count = violates.sum(dim=-1)
    found = count > 0
    excess = torch.where(violates, catalogue - threshold, 0.0).sum(dim=-1)
    expected = expected_rank_weight(
        count, num_items, max_trials=max_trials, weighting=weighting, dtype=excess.dtype
    )
    cost = torch.where(found, expected / count.clamp(min=1) * excess, 0.0)
    return reduce(cost, weight=weight, reduction=reduction, divisor=divisor)


def _places(negatives: Tensor, trials: Tensor | None, mask: Tensor | None) -> Tensor:
    """The place of each draw, from 1, after checking given ones where they count."""
    if negatives.shape[-1] == 0:
        raise ValueError(f"negatives {shape_text(negatives)} needs at least one draw a positive.")
    if trials is None:
        count = negatives.shape[-1]
        return torch.arange(1, count + 1, device=negatives.device).expand(negatives.shape)
    if trials.is_floating_point() or trials.dtype is torch.bool:
        raise TypeError(
            f"trials must hold whole numbers; got {trials.dtype} {shape_text(trials)}. "
            "Try trials.long()."
        )
    good = trials >= 1
    good = good if mask is None else good | ~mask
    check_values("trials", trials, good, "the place of a draw, at least 1")
    return trials.long()


def _violates(scores: Tensor, threshold: Tensor, mask: Tensor | None) -> Tensor:
    """Which scores lie above the threshold. A NaN does, so that it shows in the loss."""
    violates = ~(scores <= threshold.unsqueeze(-1))
    return violates if mask is None else violates & mask
