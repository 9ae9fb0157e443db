"""A masked cross-entropy that divides by zero, and ignores its reduction.

Published: a 2023 text on brand-safety tagging of news with one label per example (missing = -1).
Costs: a batch, or a micro-batch of gradient accumulation, without an observed label is 0 / 0: NaN,
and the model is lost. ``reduction="sum"`` and ``"none"`` return the mean without a word.
Mend: nothing observed is 0, connected to the graph; one reduction does all three words.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from lossmith.core.numerics import logistic_cost, upcast
from lossmith.core.reduce import Divisor, Reduction, reduce
from lossmith.core.validate import check_same_shape, check_values

FAMILY = "tagging"
INPUTS = "logits+partial"
CAUGHT_BY = ("nothing-valid", "reductions")


def broken(logits: Tensor, labels: Tensor, *, reduction: str = "mean") -> Tensor:
    """Mean over the cells that are labelled."""
    observed = (labels != -1).to(logits.dtype)
    cost = F.binary_cross_entropy_with_logits(logits, labels.clamp(min=0), reduction="none")
    return (cost * observed).sum() / observed.sum()


def corrected(
    logits: Tensor,
    labels: Tensor,
    *,
    reduction: Reduction = "mean",
    divisor: Divisor | None = None,
) -> Tensor:
    """Sum over the labelled cells, by their number, if there are any."""
    check_same_shape(logits=logits, labels=labels)
    (logits,) = upcast(logits)
    observed = labels != -1
    labels = torch.where(observed, labels.to(logits.dtype), 0.0)
    check_values("labels", labels, (labels >= 0) & (labels <= 1), "a label in [0, 1] or -1")
    cost = logistic_cost(torch.where(observed, logits, 0.0), labels)
    return reduce(cost, valid=observed, reduction=reduction, divisor=divisor)
