"""Metrics for many yes/no labels per example, some of them missing.

All take logits ``[N, C]`` and labels ``[N, C]`` of 1, 0 and -1 = missing. A missing cell is left
out: its logit reaches no number. All compute in float64.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from lossmith.core.metric import metric
from lossmith.core.validate import check_float, check_same_shape, check_values, shape_text
from lossmith.kernels.rank_auc import count_true, finite_scores, rank_auc

MISSING = -1


@metric(family="tagging", higher_is_better=True)
def macro_auc(logits: Tensor, labels: Tensor) -> Tensor:
    """Probability that a yes scores above a no of the same class, averaged over classes.

    Formula: the mean of :func:`auc_per_class` over the classes that have both.

    Ties: a pair of equal logits counts 1/2. A class without an observed yes or without an
    observed no is left out; NaN when that is every class.

    Averages over: classes.

    >>> logits = torch.tensor([[2.0, 0.0], [1.0, 0.0], [0.0, 9.0]])
    >>> macro_auc(logits, torch.tensor([[1, 1], [0, 0], [0, -1]]))  # (1 + 1/2) / 2
    tensor(0.7500, dtype=torch.float64)
    """
    return auc_per_class(logits, labels).nanmean()


@metric(family="tagging", higher_is_better=True)
def macro_average_precision(logits: Tensor, labels: Tensor) -> Tensor:
    """Precision averaged over the places of the yes labels in each class's ranking.

    Formula: the mean of :func:`average_precision_per_class` over the classes that have both
    a yes and a no.

    Ties: equal logits share one place, the last of theirs. A class without an observed yes or
    without an observed no is left out; NaN when that is every class.

    Averages over: classes.

    >>> logits = torch.tensor([[3.0], [2.0], [1.0]])
    >>> macro_average_precision(logits, torch.tensor([[1], [0], [1]]))  # (1/1 + 2/3) / 2
    tensor(0.8333, dtype=torch.float64)
    """
    return average_precision_per_class(logits, labels).nanmean()


@metric(family="tagging", higher_is_better=True)
def macro_f1(logits: Tensor, labels: Tensor) -> Tensor:
    """F1 of each class at the threshold 0, averaged so that rare classes weigh as much as others.

    Formula: ``F1_c = 2 TP_c / (2 TP_c + FP_c + FN_c)`` over the observed cells of class c.

    Ties: a logit of exactly 0 says no. A class with no observed yes and none predicted has
    nothing to find and is left out; NaN when that is every class.

    Averages over: classes.

    >>> logits = torch.tensor([[1.0, -1.0], [1.0, 1.0]])
    >>> macro_f1(logits, torch.tensor([[1, 1], [0, 1]]))  # (2/3 + 2/3) / 2
    tensor(0.6667, dtype=torch.float64)
    """
    right, total = _f1_counts(logits, labels)
    return torch.where(total > 0, 2.0 * right / total, math.nan).nanmean()


@metric(family="tagging", higher_is_better=True)
def micro_f1(logits: Tensor, labels: Tensor) -> Tensor:
    """F1 of all observed cells together at the threshold 0.

    Formula: ``2 TP / (2 TP + FP + FN)``, the counts summed over classes.

    Ties: a logit of exactly 0 says no. NaN when nothing is to be found and nothing was.

    Averages over: nothing; it is one count over all cells, in which frequent classes weigh most.

    >>> logits = torch.tensor([[1.0, -1.0], [1.0, 1.0]])
    >>> micro_f1(logits, torch.tensor([[1, 1], [0, -1]]))  # TP 1, FP 1, FN 1
    tensor(0.5000, dtype=torch.float64)
    """
    right, total = _f1_counts(logits, labels)
    return 2.0 * right.sum() / total.sum()


def auc_per_class(logits: Tensor, labels: Tensor) -> Tensor:
    """Probability that a yes scores above a no, for each class: ``[C]``.

    Formula: ``1 / (P Q) sum over yes i, no j of [x_i > x_j] + [x_i = x_j] / 2``, for P observed yes
    and Q observed no. NaN where P or Q is 0.

    >>> auc_per_class(torch.tensor([[2.0, 0.0], [1.0, 0.0]]), torch.tensor([[1, 1], [0, -1]]))
    tensor([1., nan], dtype=torch.float64)
    """
    logits, yes, observed = _by_class(logits, labels)
    return rank_auc(logits, yes, observed)


def average_precision_per_class(logits: Tensor, labels: Tensor) -> Tensor:
    """Precision at the place of each yes, averaged over the yes labels of each class: ``[C]``.

    Formula: ``1 / P sum over yes i of #{yes j: x_j >= x_i} / #{observed j: x_j >= x_i}``. This is
    the step-wise area under the precision-recall curve. NaN where a class has no observed yes or
    no observed no.

    >>> logits = torch.tensor([[3.0, 1.0], [2.0, 0.0]])
    >>> average_precision_per_class(logits, torch.tensor([[0, 1], [1, 1]]))
    tensor([0.5000,    nan], dtype=torch.float64)
    """
    logits, yes, observed = _by_class(logits, labels)
    x = finite_scores(logits)
    found = _at_or_above(x, yes).double()
    precision = found / _at_or_above(x, observed).clamp(min=1)
    p, n = count_true(yes), count_true(observed)
    value = torch.where(yes, precision, 0.0).sum(dim=-1) / p
    return torch.where((p > 0) & (p < n), value, math.nan)


def _at_or_above(x: Tensor, counted: Tensor) -> Tensor:
    """How many counted entries of a row are at or above each entry of it."""
    ordered = torch.where(counted, x, -math.inf).sort(dim=-1).values
    return x.shape[-1] - torch.searchsorted(ordered, x)


def _f1_counts(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """TP and 2 TP + FP + FN of each class."""
    logits, yes, observed = _by_class(logits, labels)
    predicted = (logits > 0) & observed
    right = (predicted & yes).sum(dim=-1)
    total = predicted.sum(dim=-1) + yes.sum(dim=-1)
    return right.double(), total.double()


def _by_class(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Checked logits, which cells say yes and which are observed, all ``[C, N]``."""
    check_float(logits=logits)
    check_same_shape(logits=logits, labels=labels)
    if logits.dim() != 2:
        raise ValueError(f"logits {shape_text(logits)} must be [N, C]: a row for each example.")
    observed = labels != MISSING
    good = (labels == 0) | (labels == 1) | ~observed
    check_values("labels", labels, good, f"0, 1 or {MISSING} = missing")
    good = ~logits.isnan() | ~observed
    check_values("logits", logits, good, "a number; a model that diverged gives NaN")
    by_class = logits.T, (labels == 1).T, observed.T
    logits, yes, observed = (cells.contiguous() for cells in by_class)
    return logits, yes, observed
