"""A loss that returns a constant zero when there is nothing to learn.

Published: torchtune (``LinearCrossEntropyLoss`` returns ``torch.tensor(0.0)`` when all is
ignored).
Costs: the constant has no graph: ``backward()`` raises, on the first batch that is all padding,
hours into a run; under data parallel training the other ranks wait for ever.
Mend: a zero that is connected: the sum of nothing.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from lossmith.losses.classification import cross_entropy

FAMILY = "generation"
INPUTS = "logits+class"
CAUGHT_BY = ("nothing-valid",)


def broken(logits: Tensor, target: Tensor, *, ignore_index: int = -100) -> Tensor:
    """Guarded against 0 / 0, by leaving the graph."""
    kept = target != ignore_index
    if not kept.any():
        return torch.tensor(0.0)
    return F.cross_entropy(logits[kept], target[kept])


def corrected(
    logits: Tensor,
    target: Tensor,
    *,
    ignore_index: int = -100,
    divisor: float | Tensor | None = None,
) -> Tensor:
    """Ignored rows are replaced before the maths and cost 0."""
    return cross_entropy(logits, target, ignore_index=ignore_index, divisor=divisor)
