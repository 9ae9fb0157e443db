"""A loss that adds a bias to the caller's logits, in place.

Published: Roche/BalancedLossNLP (``logits += self.init_bias``); recpack masks an input in place.
Costs: the metric computed next, from the same logits, is another model's; a second call of the
loss adds the bias again.
Mend: a new tensor.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from lossmith.core.labels import binary_inputs
from lossmith.core.numerics import softplus
from lossmith.core.reduce import reduce

FAMILY = "tagging"
INPUTS = "logits+binary"
CAUGHT_BY = ("mutation",)


def broken(logits: Tensor, target: Tensor, *, bias: float = 0.1) -> Tensor:
    """The prior goes into the logits themselves."""
    logits.data += bias
    return F.binary_cross_entropy_with_logits(logits, target)


def corrected(logits: Tensor, target: Tensor, *, bias: float = 0.1) -> Tensor:
    """The prior goes into a copy."""
    logits, target = binary_inputs(logits, target, None, None)
    logits = logits + bias
    return reduce(target * softplus(-logits) + (1 - target) * softplus(logits))
