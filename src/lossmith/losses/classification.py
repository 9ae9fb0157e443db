"""Objectives for one label per example: classes, or yes and no."""

from __future__ import annotations

import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from lossmith.core import labels
from lossmith.core.numerics import (
    lead_over_others,
    logistic_cost,
    pick,
    row_log_softmax,
    signed_logits,
    softplus,
    times_log,
    unit_step,
    upcast,
)
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
)
from lossmith.kernels.collapse import target_log_p
from lossmith.kernels.total_costs import LOGISTIC, reduced_cost

MARGIN_PAPER = "Su 2017, a cross-entropy that stops at the margin; kexue.fm/archives/4293"
SAME_GRADIENT: dict[Law, str] = {
    "dead-knob": "continuous changes the value, not the gradient; that is its purpose",
    "jumps": "the published form leaps at the margin, which continuous=True mends",
}


@objective(
    family="classification",
    module="CrossEntropy",
    inputs=("logits+class", "logits+distribution"),
    unit="targets not ignored",
    serves="log loss",
    limit="two classes with logits (0, x): binary_cross_entropy(x)",
    invariances=("shift",),
    tune={"label_smoothing": Tune(0.0, 0.3)},
    aliases=("softmax loss", "negative log-likelihood", "log loss"),
    paper="Good 1952, Rational decisions",
)
def cross_entropy(
    logits: Tensor,
    target: Tensor,
    *,
    class_weight: Tensor | None = None,
    ignore_index: int = -100,
    label_smoothing: float = 0.0,
    mask: Tensor | None = None,
    weight: Tensor | None = None,
    reduction: Reduction = "mean",
    divisor: Divisor | None = None,
) -> Tensor:
    """Raise the probability of the right class.

    Formula: ``- sum_c q_c w_c log softmax(logits)_c``, where q is the target (a one-hot for a
    class index), smoothed to ``(1 - label_smoothing) q + label_smoothing / C``.

    Use when every example has one class and probabilities matter. Not when only the decision
    counts (``margin_cross_entropy``, ``hinge``) or when labels are missing per class
    (``masked_binary_cross_entropy``).

    Shapes: logits ``[..., C]``; target ``[...]`` class indices or ``[..., C]`` probabilities;
    mask and weight ``[...]``; class_weight ``[C]``.

    Mean divides by: the targets not ignored; with ``class_weight`` and class indices, by the sum
    of their class weights, as torch does.

    Errors: a shape that does not fit, an index outside [0, C), a row of probabilities that does
    not sum to 1.

    >>> logits = torch.tensor([[0.0, 0.0], [0.0, 100.0]])
    >>> cross_entropy(logits, torch.tensor([0, 1]))  # (log 2 + 0) / 2
    tensor(0.3466)

    Source: Good 1952; label smoothing, Szegedy et al. 2016.
    """
    labels.check_rows("logits", logits, mask, weight)
    check_range("label_smoothing", label_smoothing, 0.0, 1.0)
    (logits,) = upcast(logits)
    if class_weight is None and label_smoothing == 0.0:
        value = labels.plain_cost(logits, target, ignore_index, mask, weight, reduction, divisor)
        if value is not None:
            return value
    scale = labels.per_class("class_weight", 1.0 if class_weight is None else class_weight, logits)
    if target.is_floating_point() and target.dim() == logits.dim():
        check_same_shape(logits=logits, target=target)
        labels.check_distribution("target", target, mask)
        log_p = row_log_softmax(logits, mask)
        q = labels.rows_or_zero(target.to(log_p.dtype), mask)
        q = q * (1.0 - label_smoothing) + label_smoothing / logits.shape[-1]
        cost = -times_log(scale * q, log_p).sum(dim=-1)
        return reduce(cost, valid=mask, weight=weight, reduction=reduction, divisor=divisor)
    check_leading_shape(logits, "logits", target=target)
    index, valid = labels.class_index(
        "target", target, logits.shape[-1], ignore_index=ignore_index, mask=mask
    )
    own_weight = pick(scale.expand_as(logits), index)
    cost = -times_log(own_weight, target_log_p(logits, index, valid))
    if label_smoothing > 0:
        even = -times_log(scale, row_log_softmax(logits, valid)).mean(dim=-1)
        cost = (1.0 - label_smoothing) * cost + label_smoothing * even
    count = None if class_weight is None else own_weight
    return reduce(
        cost, valid=valid, weight=weight, count=count, reduction=reduction, divisor=divisor
    )


@objective(
    family="classification",
    module="KLDivergence",
    inputs="logits+distribution",
    unit="rows",
    serves="agreement with a teacher's probabilities",
    limit="one-hot targets: cross_entropy",
    invariances=("shift",),
    aliases=("kl", "distillation loss", "relative entropy"),
    paper="Kullback, Leibler 1951; distillation, Hinton, Vinyals, Dean 2015",
)
def kl_divergence(
    logits: Tensor,
    target_probs: Tensor,
    *,
    mask: Tensor | None = None,
    weight: Tensor | None = None,
    reduction: Reduction = "mean",
    divisor: Divisor | None = None,
) -> Tensor:
    """Bring a row of probabilities to a target distribution.

    Formula: ``sum_c t_c (log t_c - log softmax(logits)_c)`` with ``0 log 0 = 0``.

    Use to follow a teacher or a crowd of annotators; it is 0 when they agree, which cross-entropy
    with the same targets is not. Not for single labels, where it equals ``cross_entropy``.

    Shapes: logits and target_probs ``[..., C]``; mask and weight ``[...]``.

    Mean divides by: rows (torch's ``kl_div`` divides by elements unless told "batchmean").

    Errors: shapes that differ, a row of probabilities that does not sum to 1.

    >>> kl_divergence(torch.zeros(1, 2), torch.tensor([[1.0, 0.0]]))  # log 2
    tensor(0.6931)

    Source: Kullback, Leibler 1951.
    """
    check_float(target_probs=target_probs)
    labels.check_rows("logits", logits, mask, weight)
    check_same_shape(logits=logits, target_probs=target_probs)
    labels.check_distribution("target_probs", target_probs, mask)
    log_p = row_log_softmax(logits, mask)
    t = labels.rows_or_zero(target_probs.to(log_p.dtype), mask)
    log_t = torch.where(t > 0, t, 1.0).log()
    # One difference of logarithms: two sums of t log t and t log p would cancel near agreement.
    cost = -times_log(t, log_p - log_t).sum(dim=-1)
    return reduce(cost, valid=mask, weight=weight, reduction=reduction, divisor=divisor)


@objective(
    family="classification",
    module="BinaryCrossEntropy",
    inputs="logits+binary",
    unit="elements",
    serves="log loss",
    limit="cross_entropy over the two logits (0, x)",
    tune={"pos_weight": Tune(0.25, 16.0, log=True)},
    aliases=("BCE", "logistic loss", "sigmoid cross-entropy"),
    paper="Cox 1958, The regression analysis of binary sequences",
)
def binary_cross_entropy(
    logits: Tensor,
    target: Tensor,
    *,
    pos_weight: float | Tensor | None = None,
    mask: Tensor | None = None,
    weight: Tensor | None = None,
    reduction: Reduction = "mean",
    divisor: Divisor | None = None,
) -> Tensor:
    """Raise the probability of yes where the answer is yes, and lower it elsewhere.

    Formula: ``- w y log sigmoid(x) - (1 - y) log sigmoid(-x)``, w = ``pos_weight``.

    Use for yes/no answers, one or many per example, that are all known. Not where labels are
    missing (``masked_binary_cross_entropy``) or where only the decision counts
    (``margin_binary_cross_entropy``).

    Shapes: logits, target, mask and weight all the same ``[...]``; pos_weight a number or ``[C]``
    for a last dimension of C.

    Mean divides by: elements.

    Errors: shapes that differ, (N,) against (N, 1) included; a target outside [0, 1].

    >>> binary_cross_entropy(torch.zeros(2), torch.tensor([1.0, 0.0]))  # log 2
    tensor(0.6931)

    Source: Cox 1958.
    """
    logits, target = labels.binary_inputs(logits, target, mask, weight)
    if pos_weight is None:
        return reduced_cost(LOGISTIC, logits, target, mask, weight, reduction, divisor)
    cost = logistic_cost(logits, target, labels.positive_weight(pos_weight, logits))
    return reduce(cost, valid=mask, weight=weight, reduction=reduction, divisor=divisor)


@objective(
    family="classification",
    module="MarginBinaryCrossEntropy",
    inputs="logits+binary",
    unit="elements",
    serves="accuracy",
    limit="margin=1: binary_cross_entropy",
    tune={"margin": Tune(0.5, 0.95)},
    aliases=("theta cross-entropy", "truncated binary cross-entropy"),
    paper=MARGIN_PAPER,
    exempt=SAME_GRADIENT,
)
def margin_binary_cross_entropy(
    logits: Tensor,
    target: Tensor,
    *,
    margin: float = 0.6,
    continuous: bool = False,
    mask: Tensor | None = None,
    weight: Tensor | None = None,
    reduction: Reduction = "mean",
    divisor: Divisor | None = None,
) -> Tensor:
    """Stop pushing an answer once it is safely right.

    Formula: ``lambda BCE(p, y)`` with ``lambda = 1 - theta(y - m) theta(p - m)
    - theta(1 - m - y) theta(1 - m - p)``, theta(0) = 1/2, p = sigmoid(logits), m = ``margin``:
    a yes above m and a no below 1 - m cost nothing. ``continuous=True`` is the twin without the
    jump of -log m at the margin, ``relu(log m - log p_y)``, with the same gradient.

    Use when accuracy at a threshold is what counts and training goes on past it. Not when
    probabilities must be calibrated. Watch the loss curve only with ``continuous=True``.

    Shapes: logits, target, mask and weight all the same ``[...]``.

    Mean divides by: elements, the safe ones included.

    Errors: shapes that differ; a target outside [0, 1] (other than 0 and 1 with
    ``continuous=True``); a margin outside [0.5, 1].

    >>> logits = torch.tensor([3.0, 0.0])  # p = 0.95 is past the margin, p = 0.5 is not
    >>> margin_binary_cross_entropy(logits, torch.ones(2), reduction="none")
    tensor([0.0000, 0.6931])

    Source: Su 2017.
    """
    check_range("margin", margin, 0.5, 1.0)
    logits, target = labels.binary_inputs(logits, target, mask, weight)
    edge = math.inf if margin == 1.0 else math.log(margin) - math.log1p(-margin)
    if continuous:
        hard = (target == 0) | (target == 1)
        check_values("target", target, hard, "0 or 1 (continuous=True knows no other)")
        true_logit = signed_logits(logits, target)
        above = softplus(-true_logit) - softplus(torch.full_like(true_logit, -edge))
        cost = (1.0 - unit_step(true_logit - edge)) * above
    else:
        safe_yes = unit_step(target - margin) * unit_step(logits - edge)
        safe_no = unit_step(1.0 - margin - target) * unit_step(-edge - logits)
        cost = (1.0 - safe_yes - safe_no) * logistic_cost(logits, target)
    return reduce(cost, valid=mask, weight=weight, reduction=reduction, divisor=divisor)


@objective(
    family="classification",
    module="MarginCrossEntropy",
    inputs="logits+class",
    unit="targets not ignored",
    serves="accuracy",
    limit="margin=1: cross_entropy; two classes: margin_binary_cross_entropy",
    invariances=("shift",),
    tune={"margin": Tune(0.5, 0.95)},
    aliases=("truncated cross-entropy",),
    paper=MARGIN_PAPER,
    exempt=SAME_GRADIENT,
)
def margin_cross_entropy(
    logits: Tensor,
    target: Tensor,
    *,
    margin: float = 0.6,
    continuous: bool = False,
    ignore_index: int = -100,
    mask: Tensor | None = None,
    weight: Tensor | None = None,
    reduction: Reduction = "mean",
    divisor: Divisor | None = None,
) -> Tensor:
    """Raise the probability of the right class until it passes the margin.

    Formula: ``-log p_y (1 - theta(p_y - m))`` with p = softmax(logits), theta(0) = 1/2, m =
    ``margin``. ``continuous=True``: ``relu(log m - log p_y)``, the same gradient without the jump.

    Use when the argmax is what counts: with m >= 0.5 a free example is a right one. Not when
    probabilities must be calibrated.

    Shapes: logits ``[..., C]``; target, mask and weight ``[...]``.

    Mean divides by: the targets not ignored, the safe ones included.

    Errors: a shape that does not fit, an index outside [0, C), a margin outside (0, 1].

    >>> logits = torch.tensor([[0.0, 3.0], [0.0, 0.0]])
    >>> margin_cross_entropy(logits, torch.tensor([1, 1]), reduction="none")
    tensor([0.0000, 0.6931])

    Source: Su 2017 (which names the multi-class form and leaves it out).
    """
    labels.check_rows("logits", logits, mask, weight)
    check_range("margin", margin, 0.0, 1.0, low_open=True)
    check_leading_shape(logits, "logits", target=target)
    classes = logits.shape[-1]
    index, valid = labels.class_index(
        "target", target, classes, ignore_index=ignore_index, mask=mask
    )
    own = target_log_p(logits, index, valid)
    edge = math.inf if margin == 1.0 else math.log(margin)
    cost = math.log(margin) - own if continuous else -own
    cost = (1.0 - unit_step(own - edge)) * cost
    return reduce(cost, valid=valid, weight=weight, reduction=reduction, divisor=divisor)


@objective(
    family="classification",
    module="Hinge",
    inputs=("logits+binary", "logits+class"),
    unit="examples",
    serves="accuracy",
    limit="two classes with scores (-f/2, f/2): the binary form of f",
    tune={"power": Tune(choices=(1, 2))},
    aliases=("SVM loss", "max-margin loss", "Crammer-Singer loss"),
    paper="Cortes, Vapnik 1995; Crammer, Singer 2001",
)
def hinge(
    scores: Tensor,
    target: Tensor,
    *,
    power: Literal[1, 2] = 1,
    mask: Tensor | None = None,
    weight: Tensor | None = None,
    reduction: Reduction = "mean",
    divisor: Divisor | None = None,
) -> Tensor:
    """Push the right side of the decision to a distance of one, and no further.

    Formula: ``max(0, 1 - y f) ** power`` with y = -1 or 1; for scores over C classes,
    ``max(0, 1 - f_y + max of the other f) ** power`` (Crammer-Singer).

    Use when only the decision counts and scores need not be probabilities; ``power=2`` punishes
    large violations more. Not for calibrated probabilities.

    Shapes: binary, scores and target ``[...]``, labels {0, 1} or {-1, 1}; multi-class, scores
    ``[..., C]`` and target ``[...]`` class indices. Mask and weight have the shape of target.

    Mean divides by: examples (for scores ``[N, C]`` with targets ``[N, C]``, every cell is one).

    Errors: a shape that does not fit, labels that are neither {0, 1} nor {-1, 1}.

    >>> hinge(torch.tensor([0.25, 3.0]), torch.tensor([1, 1]))  # (0.75 + 0) / 2
    tensor(0.3750)

    Source: Cortes, Vapnik 1995; Crammer, Singer 2001.
    """
    check_float(scores=scores)
    check_choice("power", power, (1, 2))
    check_same_shape(target=target, mask=mask, weight=weight)
    check_mask("mask", mask)
    (scores,) = upcast(scores)
    if scores.dim() == target.dim() + 1:
        labels.check_many_classes("scores", scores, "target", target)
        index, valid = labels.class_index("target", target, scores.shape[-1], mask=mask)
        gap = lead_over_others(torch.where(valid.unsqueeze(-1), scores, 0.0), index)
    else:
        check_same_shape(scores=scores, target=target)
        labels.check_signs("target", target, mask)
        gap = signed_logits(scores if mask is None else torch.where(mask, scores, 0.0), target)
    cost = F.relu(1.0 - gap)
    cost = cost if power == 1 else cost.square()
    return reduce(cost, valid=mask, weight=weight, reduction=reduction, divisor=divisor)
