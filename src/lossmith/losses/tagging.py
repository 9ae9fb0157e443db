"""Objectives for many yes/no labels per example, of which some may be missing."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

from lossmith.core import labels as core_labels
from lossmith.core.numerics import logistic_cost, upcast
from lossmith.core.reduce import Divisor, Reduction, reduce
from lossmith.core.spec import Law, Tune, objective
from lossmith.core.validate import (
    all_within,
    check_choice,
    check_float,
    check_mask,
    check_range,
    check_same_shape,
    check_values,
    shape_text,
)
from lossmith.kernels.pair_sums import SURROGATES, Surrogate, pair_costs

ORDER_ONLY: dict[Law, str] = {
    "descent": "examples of a class are put in order; on which side of 0 they stand is left open",
    "micro-batches": "pairs cross the batch, so the pairs of its parts are not all of its pairs",
    "single": "one example has nothing to be put in order with, and costs 0",
}


@objective(
    family="tagging",
    module="MaskedBinaryCrossEntropy",
    inputs="logits+partial",
    unit="observed cells, or classes with one",
    serves="AUC per class",
    limit="nothing missing: binary_cross_entropy",
    tune={"average": Tune(choices=("cells", "classes")), "pos_weight": Tune(0.25, 16.0, log=True)},
    aliases=("masked BCE", "partial BCE", "BCE with missing labels"),
    paper="Schibsted 2023, one label per example; per-class means as C separate classifiers",
)
def masked_binary_cross_entropy(
    logits: Tensor,
    labels: Tensor,
    *,
    missing: float = -1,
    average: Literal["cells", "classes"] = "cells",
    pos_weight: float | Tensor | None = None,
    mask: Tensor | None = None,
    weight: Tensor | None = None,
    reduction: Reduction = "mean",
    divisor: Divisor | None = None,
) -> Tensor:
    """Learn every class from the labels that were observed, and nothing from those that were not.

    Formula: ``- w y log sigmoid(x) - (1 - y) log sigmoid(-x)`` in the cells whose label is not
    ``missing``, w = ``pos_weight``. ``average="classes"`` takes the mean of each class over its
    own observed cells first, then the mean of these: exactly C separate classifiers, where
    ``"cells"`` lets a class that is labelled often weigh more.

    Use when examples are labelled for some of the classes only. Not when a label that was not
    given means no (``binary_cross_entropy``).

    Shapes: logits, labels, mask and weight all the same ``[..., C]``; pos_weight a number or
    ``[C]``. With ``average="classes"``, "none" gives ``[C]`` and divisor is ``[C]``.

    Mean divides by: observed cells; with ``average="classes"``, the classes that have one. There,
    divisor holds the observed cells of each class in the whole batch, and the parts of a batch
    add up to it (its zeros say which classes have none).

    Errors: shapes that differ; a label that is neither in [0, 1] nor ``missing`` (which may be
    NaN); a divisor of the wrong shape.

    >>> logits = torch.tensor([[0.0, 7.0], [-7.0, 0.0]])
    >>> labels = torch.tensor([[1, -1], [-1, 0]])
    >>> masked_binary_cross_entropy(logits, labels)  # log 2, over two observed cells
    tensor(0.6931)

    Source: Schibsted 2023.
    """
    check_float(logits=logits)
    check_choice("average", average, ("cells", "classes"))
    check_same_shape(logits=logits, labels=labels, mask=mask, weight=weight)
    check_mask("mask", mask)
    (logits,) = upcast(logits)
    labels, observed = _observed(labels.to(logits.dtype), missing, mask)
    positive = core_labels.positive_weight(pos_weight, logits)
    cost = logistic_cost(torch.where(observed, logits, 0.0), labels, positive)
    if average == "cells":
        return reduce(cost, valid=observed, weight=weight, reduction=reduction, divisor=divisor)
    cells = reduce(cost, valid=observed, weight=weight, reduction="none")
    count = _class_counts(observed, divisor)
    per_class = _over_rows(cells) / torch.where(count > 0, count, 1).to(cells.dtype)
    # The counts have done a divisor's work; what is left is the mean over classes.
    divisor = None if reduction == "mean" else divisor
    return reduce(per_class, valid=count > 0, reduction=reduction, divisor=divisor)


@objective(
    family="tagging",
    module="PairwiseAUC",
    inputs="logits+partial",
    unit="classes with both answers",
    serves="AUC per class",
    limit="one class, every label given: ranknet (logistic) or pairwise_hinge of its column",
    invariances=("shift",),
    tune={"surrogate": Tune(choices=SURROGATES)},
    aliases=("AUC loss", "AUC maximization", "Wilcoxon-Mann-Whitney loss", "AUC hinge"),
    paper="Yan, Dodier, Mozer, Wolniewicz 2003; Gao, Zhou 2015, Consistency of AUC optimization",
    exempt=ORDER_ONLY,
    cost="n log n",
)
def pairwise_auc(
    logits: Tensor,
    labels: Tensor,
    *,
    surrogate: Surrogate = "squared_hinge",
    margin: float = 1.0,
    missing: float = -1,
    mask: Tensor | None = None,
    reduction: Reduction = "mean",
    divisor: Divisor | None = None,
) -> Tensor:
    """Score every example that has a label above every example that has it not.

    Formula: for each class, the mean of ``cost(x_i - x_j)`` over its pairs of a yes i and a no j
    of the batch. The cost of a gap d is ``max(0, margin - d) ** 2`` ("squared_hinge"), ``max(0,
    margin - d)`` ("hinge"), ``softplus(-d)`` ("logistic") or ``exp(-d)`` ("exponential"); with a
    step in its place it would be 1 - AUC.

    Use when classes are judged by AUC and most are rare: the share of positives does not enter.
    Not for decisions at a threshold, as scores have no zero (``masked_binary_cross_entropy``), nor
    with batches so small that a class has few of either. A batch of N costs a sort, not its pairs.

    Shapes: logits, labels and mask all the same ``[..., C]``; "none" gives ``[C]``. For one yes/no
    answer per example, ``logits[:, None]``. There is no weight: the unit is a class, not a cell.

    Mean divides by: classes with both answers in the batch.

    Errors: shapes that differ; a label that is neither 0, 1 nor ``missing`` (which may be NaN); a
    negative margin.

    >>> logits = torch.tensor([[2.0], [1.5], [-4.0]])
    >>> pairwise_auc(logits, torch.tensor([[1], [0], [-1]]))  # (1 - 0.5) ** 2
    tensor(0.2500)

    Source: Yan et al. 2003 (WMW); Gao, Zhou 2015 (which costs are consistent: not the hinge).
    """
    check_float(logits=logits)
    check_choice("surrogate", surrogate, SURROGATES)
    check_range("margin", margin, 0.0)
    check_same_shape(logits=logits, labels=labels, mask=mask)
    check_mask("mask", mask)
    (logits,) = upcast(logits)
    labels, observed = _observed(labels.to(logits.dtype), missing, mask)
    hard = (labels == 0) | (labels == 1)
    check_values("labels", labels, hard, f"0, 1 or missing={missing:g}")
    total, pairs = pair_costs(
        _columns(torch.where(observed, logits, 0.0)),
        _columns(labels),
        _columns(observed),
        surrogate,
        margin,
    )
    cost = total / pairs.clamp(min=1)
    return reduce(cost, valid=pairs > 0, reduction=reduction, divisor=divisor)


def _observed(labels: Tensor, missing: float, mask: Tensor | None) -> tuple[Tensor, Tensor]:
    """The labels, 0 where there is none, and where there is one."""
    observed = ~labels.isnan() if math.isnan(missing) else labels != missing
    observed = observed if mask is None else observed & mask
    found = torch.where(observed, labels, 0.0)
    expected = f"a label in [0, 1] or missing={missing:g}"
    if not math.isnan(missing):
        expected += ' (if NaN marks a missing label, type missing=float("nan"))'
    if not all_within(found, 0.0, 1.0):
        check_values("labels", found, (found >= 0) & (found <= 1), expected)
    return found, observed


def _columns(cells: Tensor) -> Tensor:
    """The cells ``[..., C]`` of each class as a row ``[C, N]``."""
    return cells.unsqueeze(0).flatten(0, -2).T


def _over_rows(cells: Tensor) -> Tensor:
    """Sum over every dimension but the last, of which there may be none."""
    return cells.unsqueeze(0).flatten(0, -2).sum(dim=0)


def _class_counts(observed: Tensor, divisor: Divisor | None) -> Tensor:
    """The observed cells of each class: here, or in the whole batch that this is a part of."""
    here = _over_rows(observed)
    if divisor is None:
        return here
    if not isinstance(divisor, Tensor) or divisor.shape != here.shape:
        got = shape_text(divisor) if isinstance(divisor, Tensor) else repr(divisor)
        raise ValueError(
            f'divisor {got} must be a tensor {shape_text(here)} with average="classes": the '
            "observed labels of each class in the whole batch. Try "
            "divisor=(labels != missing).sum(0) of that batch."
        )
    enough = (divisor > 0) | (here == 0)
    check_values("divisor", divisor, enough, "a count above 0, as this class has labels here")
    return divisor
