"""A margin that switches the loss off with a step.

Published: Su 2017, cross-entropy multiplied by ``1 - theta(y - m) theta(p - m) - ...``, m = 0.6,
and its copies.
Costs: the value leaps by -log 0.6 = 0.511 when an answer passes the margin while its gradient says
nothing of it: loss curves, early stopping and plateau schedules see noise. On a saturated sigmoid
the gradient dies: logit 40 for label 0 costs 18.4 with gradient 0.
Mend: ``relu(log m - log p)``: the same gradient, continuous, from logits.
"""

from __future__ import annotations

import math

import torch.nn.functional as F
from torch import Tensor

from lossmith.core.labels import binary_inputs
from lossmith.core.numerics import signed_logits, softplus
from lossmith.core.reduce import reduce

FAMILY = "classification"
INPUTS = "logits+binary"
CAUGHT_BY = ("jumps",)


def broken(logits: Tensor, target: Tensor, *, margin: float = 0.6) -> Tensor:
    """Binary cross-entropy of the answers that are not yet safely right."""
    p = logits.sigmoid()
    p_right = target * p + (1 - target) * (1 - p)
    unsafe = (p_right <= margin).to(p.dtype)
    return (-unsafe * (p_right + 1e-8).log()).mean()


def corrected(logits: Tensor, target: Tensor, *, margin: float = 0.6) -> Tensor:
    """Cross-entropy less its value at the margin, never below 0."""
    logits, target = binary_inputs(logits, target, None, None)
    at_margin = -math.log(margin)
    return reduce(F.relu(softplus(-signed_logits(logits, target)) - at_margin))
