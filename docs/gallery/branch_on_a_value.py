"""A Python branch on the value of a tensor.

Published: guards such as ``if mask.sum() > 0`` and ``.item()`` in many losses; Liger-Kernel waited
on the device two or three times per call until pull request 1292.
Costs: the accelerator waits for the host at each step, ``torch.compile(fullgraph=True)`` breaks
the graph and ``vmap`` refuses.
Mend: ``where``, whose cost is nothing.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from lossmith.core.labels import binary_inputs
from lossmith.core.numerics import signed_logits
from lossmith.core.reduce import reduce

FAMILY = "classification"
INPUTS = "logits+binary"
CAUGHT_BY = ("compile", "vmap")


def broken(logits: Tensor, target: Tensor) -> Tensor:
    """Hinge, unless everybody is safe."""
    cost = F.relu(1.0 - logits * (2 * target - 1))
    if cost.sum() > 0:
        return cost.mean()
    return logits.sum() * 0


def corrected(logits: Tensor, target: Tensor) -> Tensor:
    """Hinge; the mean of zeros is zero."""
    logits, target = binary_inputs(logits, target, None, None)
    return reduce(F.relu(1.0 - signed_logits(logits, target)))
