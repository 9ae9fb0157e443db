"""A rebalanced loss that divides by the number of positives of a row.

Published: Roche/BalancedLossNLP (``ResampleLoss`` in its class-balanced mode).
Costs: a text with no label at all, common in long-tailed tagging, has weight 1 / 0: NaN.
Mend: divide by at least one.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from lossmith.core.labels import binary_inputs
from lossmith.core.numerics import softplus
from lossmith.core.reduce import reduce

FAMILY = "tagging"
INPUTS = "logits+binary"
CAUGHT_BY = ("extremes",)


def broken(logits: Tensor, target: Tensor) -> Tensor:
    """The positives of a row share its weight."""
    share = target / target.sum(-1, keepdim=True)
    return ((share + 1 - target) * F.softplus(logits * (1 - 2 * target))).mean()


def corrected(logits: Tensor, target: Tensor) -> Tensor:
    """The same for rows with a positive."""
    logits, target = binary_inputs(logits, target, None, None)
    share = target / target.sum(-1, keepdim=True).clamp(min=1.0)
    cost = share * softplus(-logits) + (1 - target) * softplus(logits)
    return reduce(cost)
