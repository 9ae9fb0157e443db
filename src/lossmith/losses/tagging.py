"""Objectives for many yes/no labels per example, of which some may be missing."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

from lossmith.core import labels as core_labels
from lossmith.core.numerics import logistic_cost, upcast
from lossmith.core.reduce import Divisor, Reduction, reduce
from lossmith.core.spec import Tune, objective
from lossmith.core.validate import (
    all_within,
    check_choice,
    check_float,
    check_mask,
    check_same_shape,
    check_values,
    shape_text,
)


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


def _observed(labels: Tensor, missing: float, mask: Tensor | None) -> tuple[Tensor, Tensor]:
    """The labels, 0 where there is none, and where there is one."""
    absent = labels.isnan() if math.isnan(missing) else labels == missing
    observed = ~absent if mask is None else ~absent & mask
    found = torch.where(observed, labels, 0.0)
    expected = f"a label in [0, 1] or missing={missing:g}"
    if not math.isnan(missing):
        expected += ' (if NaN marks a missing label, type missing=float("nan"))'
    if not all_within(found, 0.0, 1.0):
        check_values("labels", found, (found >= 0) & (found <= 1), expected)
    return found, observed


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
