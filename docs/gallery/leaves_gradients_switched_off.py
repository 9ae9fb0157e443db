"""A loss that switches gradients off for everybody.

Published: ASL (``torch.set_grad_enabled(False)`` around its focusing weight, then ``True``).
Costs: it sets the *global* mode and not what it was: after an error inside, nothing in the process
has a gradient any more; after a call under ``no_grad``, everything has, and evaluation fills
memory.
Mend: ``with torch.no_grad():`` or ``detach``.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from lossmith.core.labels import binary_inputs
from lossmith.core.numerics import softplus
from lossmith.core.reduce import reduce

FAMILY = "tagging"
INPUTS = "logits+binary"
CAUGHT_BY = ("side-effects",)


def broken(logits: Tensor, target: Tensor, *, gamma: float = 2.0) -> Tensor:
    """Binary cross-entropy with a focus that is not differentiated."""
    torch.set_grad_enabled(False)
    focus = (target - logits.sigmoid()).abs() ** gamma
    torch.set_grad_enabled(True)
    return (focus * F.binary_cross_entropy_with_logits(logits, target, reduction="none")).mean()


def corrected(logits: Tensor, target: Tensor, *, gamma: float = 2.0) -> Tensor:
    """The same focus, differentiated."""
    logits, target = binary_inputs(logits, target, None, None)
    wrong = target * (-logits).sigmoid() + (1 - target) * logits.sigmoid()
    cost = target * softplus(-logits) + (1 - target) * softplus(logits)
    return reduce(wrong**gamma * cost)
