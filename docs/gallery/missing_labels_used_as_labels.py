"""A binary loss that trains on the mark for "nobody knows".

Published: ASL (loss 38.5 on labels with -1, no error), ``BCEWithLogitsLoss`` (0.486, no error),
and every loss that does not look at its labels.
Costs: -1 is read as a label of "less than no": the cost is unbounded below, so the model runs
after the cells that nobody labelled, and the loss goes down all the while.
Mend: a label outside [0, 1] is an error with its value and place.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from lossmith.core.labels import binary_inputs
from lossmith.core.numerics import softplus
from lossmith.core.reduce import reduce

FAMILY = "tagging"
INPUTS = "logits+binary"
CAUGHT_BY = ("sentinels",)


def broken(logits: Tensor, target: Tensor) -> Tensor:
    """Any number is a label."""
    return F.binary_cross_entropy_with_logits(logits.float(), target.float())


def corrected(logits: Tensor, target: Tensor) -> Tensor:
    """The same formula, for labels."""
    logits, target = binary_inputs(logits, target, None, None)
    return reduce(target * softplus(-logits) + (1 - target) * softplus(logits))
