"""A loss that is NaN where the model is perfectly right.

Published: Hill (xinyu1205, robust loss for multi-label learning): NaN for a negative whose logit
is below -88 in float32 or -17 in float16.
Costs: the term of the other label is 0 * log 0. Training fails when it succeeds: the surer the
model, the sooner.
Mend: the log of a sigmoid as one function of the logit, whose product with 0 is 0.
"""

from __future__ import annotations

from torch import Tensor

from lossmith.core.labels import binary_inputs
from lossmith.core.numerics import softplus
from lossmith.core.reduce import reduce

FAMILY = "tagging"
INPUTS = "logits+binary"
CAUGHT_BY = ("extremes",)


def broken(logits: Tensor, target: Tensor, *, gamma: float = 2.0) -> Tensor:
    """A focal loss of probabilities."""
    p = logits.sigmoid()
    yes = target * (1 - p) ** gamma * p.log()
    no = (1 - target) * p**gamma * (1 - p).log()
    return -(yes + no).mean()


def corrected(logits: Tensor, target: Tensor, *, gamma: float = 2.0) -> Tensor:
    """A focal loss of logits."""
    logits, target = binary_inputs(logits, target, None, None)
    yes = target * (-logits).sigmoid() ** gamma * softplus(-logits)
    no = (1 - target) * logits.sigmoid() ** gamma * softplus(logits)
    return reduce(yes + no)
