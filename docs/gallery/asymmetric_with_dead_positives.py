"""An asymmetric loss that gives up on the positives it misses.

Published: Alibaba-MIIL/ASL (and timm's copy): probabilities clamped at 1e-8 before the log.
Costs: a positive with logit -18 has gradient -1, with -19 exactly 0 (timm: -1e-7), where -1 is
right: a label that the model has ruled out is never learnt again.
Mend: log sigmoid of the logit.
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
CAUGHT_BY = ("saturation",)


def broken(logits: Tensor, target: Tensor, *, gamma: float = 4.0) -> Tensor:
    """Positives by log p, negatives by p^gamma log(1 - p), each clamped."""
    p = logits.sigmoid()
    positive = target * p.clamp(min=1e-8).log()
    negative = (1 - target) * (1 - p).clamp(min=1e-8).log() * p**gamma
    return -(positive + negative).mean()


def corrected(logits: Tensor, target: Tensor, *, gamma: float = 4.0) -> Tensor:
    """The same from logits; the focus of a confident mistake is 1, not a clamp."""
    logits, target = binary_inputs(logits, target, None, None)
    focus = torch.exp(gamma * F.logsigmoid(logits))
    return reduce(target * softplus(-logits) + (1 - target) * focus * softplus(logits))
