"""Metrics for one label per example: classes, or yes and no.

All take logits ``[N, C]`` with class indices ``[N]``, or logits ``[N]`` with 0 and 1; the binary
form is the two-class form with logits ``(0, x)``. All compute in float64.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from lossmith.core.metric import metric
from lossmith.core.validate import (
    check_class_index,
    check_float,
    check_leading_shape,
    check_same_shape,
    check_values,
    shape_text,
)

CALIBRATION_BINS = 15


@metric(family="classification", higher_is_better=True)
def accuracy(logits: Tensor, target: Tensor) -> Tensor:
    """Share of examples whose highest logit is the right class.

    Formula: ``1/N sum_i [argmax_c logits_ic = target_i]``.

    Ties: the lowest class wins; a binary logit of exactly 0 says no. No examples: NaN.

    Averages over: examples.

    >>> accuracy(torch.tensor([2.0, -1.0, 0.5, 0.0]), torch.tensor([1, 0, 0, 0]))
    tensor(0.7500, dtype=torch.float64)
    """
    logits, target = _two_or_more_columns(logits, target)
    return (logits.argmax(dim=-1) == target).double().mean()


@metric(family="classification", higher_is_better=True)
def macro_f1(logits: Tensor, target: Tensor) -> Tensor:
    """F1 of each class, averaged so that small classes weigh as much as large ones.

    Formula: ``F1_c = 2 TP_c / (2 TP_c + FP_c + FN_c)``.

    Ties: the lowest class wins. A class that is neither true nor predicted anywhere is left out;
    with no examples nothing is left and the value is NaN.

    Averages over: classes (both of them in the binary form).

    >>> logits = torch.tensor([2.0, -1.0, 0.5])
    >>> macro_f1(logits, torch.tensor([1, 0, 0]))  # no: 2/3, yes: 2/3
    tensor(0.6667, dtype=torch.float64)
    """
    logits, target = _two_or_more_columns(logits, target)
    classes = logits.shape[-1]
    predicted = logits.argmax(dim=-1)
    right = torch.bincount(target[predicted == target], minlength=classes)
    # 2 TP + FP + FN: every example counts once for its class and once for the predicted one.
    total = torch.bincount(target, minlength=classes) + torch.bincount(predicted, minlength=classes)
    seen = total > 0
    f1 = torch.where(seen, 2.0 * right.double() / total.clamp(min=1), 0.0)
    return f1.sum() / seen.sum()


@metric(family="classification", higher_is_better=False)
def log_loss(logits: Tensor, target: Tensor) -> Tensor:
    """How surprised the predicted probabilities are by the right class.

    Formula: ``- 1/N sum_i log softmax(logits_i)[target_i]``, natural logarithm, nothing clipped.

    No examples: NaN.

    Averages over: examples.

    >>> log_loss(torch.zeros(2), torch.tensor([1, 0]))  # log 2
    tensor(0.6931, dtype=torch.float64)
    """
    logits, target = _two_or_more_columns(logits, target)
    log_p = logits.log_softmax(dim=-1)
    return -log_p.gather(-1, target.unsqueeze(-1)).mean()


@metric(family="classification", higher_is_better=False)
def calibration(logits: Tensor, target: Tensor) -> Tensor:
    """Expected calibration error: how far confidence is from accuracy, over 15 equal-width bins.

    Formula: ``sum_b n_b / N |accuracy_b - confidence_b|``, where confidence is the probability of
    the predicted class, in the binary form max(p, 1 - p), and bin b holds the confidences in
    ``((b - 1) / 15, b / 15]`` (Guo et al. 2017).

    Ties: the lowest class is the predicted one. No examples: NaN.

    Averages over: examples, bin by bin.

    >>> calibration(torch.zeros(4), torch.tensor([0, 0, 0, 1]))  # |3/4 - 1/2|
    tensor(0.2500, dtype=torch.float64)
    """
    logits, target = _two_or_more_columns(logits, target)
    confidence, predicted = logits.softmax(dim=-1).amax(dim=-1), logits.argmax(dim=-1)
    edges = torch.arange(1, CALIBRATION_BINS, device=logits.device).double() / CALIBRATION_BINS
    bins = F.one_hot(torch.bucketize(confidence, edges), CALIBRATION_BINS)
    gap = (predicted == target).double() - confidence
    return (bins * gap.unsqueeze(-1)).sum(dim=0).abs().sum() / len(target)


def _two_or_more_columns(logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Checked float64 logits ``[N, C]`` with class indices; binary logits become ``(0, x)``."""
    check_float(logits=logits)
    if logits.dim() not in (1, 2) or logits.shape[1:] in ((0,), (1,)):
        hint = " Try logits.squeeze(-1)." if logits.shape[1:] == (1,) else ""
        raise ValueError(
            f"logits {shape_text(logits)} must be [N] for yes and no or [N, C] with a column for "
            f"each of two or more classes.{hint}"
        )
    check_values("logits", logits, ~logits.isnan(), "a number; a model that diverged gives NaN")
    logits = logits.double()
    if logits.dim() == 2:
        check_leading_shape(logits, "logits", target=target)
        check_class_index("target", target, logits.shape[-1])
        return logits, target.long()
    check_same_shape(logits=logits, target=target)
    check_values("target", target, (target == 0) | (target == 1), "0 or 1")
    return torch.stack([torch.zeros_like(logits), logits], dim=-1), target.long()
