"""An epsilon that float16 rounds to zero.

Published: Alibaba-MIIL/ASL issue 53, and timm's copy: ``clamp(min=1e-8)`` in the dtype of the
input.
Costs: 1e-8 is 0 in float16, so a confidently *right* answer costs 0 * log 0 = NaN and takes the
model with it. Under autocast this is every run that goes well.
Mend: compute in float32, in log space.
"""

from __future__ import annotations

from torch import Tensor

from lossmith.core.labels import binary_inputs
from lossmith.core.numerics import softplus
from lossmith.core.reduce import reduce

FAMILY = "tagging"
INPUTS = "logits+binary"
CAUGHT_BY = ("half-precision",)


def broken(logits: Tensor, target: Tensor) -> Tensor:
    """Probabilities, and both logs."""
    p = logits.sigmoid()
    yes, no = p.clamp(min=1e-8).log(), (1 - p).clamp(min=1e-8).log()
    return -(target.to(p.dtype) * yes + (1 - target.to(p.dtype)) * no).mean()


def corrected(logits: Tensor, target: Tensor) -> Tensor:
    """Logits, at least float32."""
    logits, target = binary_inputs(logits, target, None, None)
    return reduce(target * softplus(-logits) + (1 - target) * softplus(logits))
