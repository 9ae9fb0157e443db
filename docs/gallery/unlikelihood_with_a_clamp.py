"""An unlikelihood whose clamp protects the tokens it should forbid.

Published: facebookresearch/unlikelihood_training (``clamp(1 - p, min=1e-5)``).
Costs: the gradient grows with p and then, for p > 1 - 1e-5, is 0: a repeated token that the model
is certain of is exactly the one that is not unlearnt. At p = .999995 / .9999 / .9 it is 0 / 9998 /
10.
Mend: ``-log(1 - p)`` from the logit.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from lossmith.core.labels import binary_inputs
from lossmith.core.numerics import softplus
from lossmith.core.reduce import reduce

FAMILY = "generation"
INPUTS = "logits+binary"  # 1: the token is wanted there; 0: it is forbidden
CAUGHT_BY = ("saturation",)


def broken(logits: Tensor, wanted: Tensor) -> Tensor:
    """Likelihood of what is wanted, clamped unlikelihood of what is not."""
    unlikely = (1.0 - logits.sigmoid()).clamp(min=1e-5).log()
    return -(wanted * F.logsigmoid(logits) + (1 - wanted) * unlikely).mean()


def corrected(logits: Tensor, wanted: Tensor) -> Tensor:
    """Both sides in log space."""
    logits, wanted = binary_inputs(logits, wanted, None, None)
    return reduce(wanted * softplus(-logits) + (1 - wanted) * softplus(logits))
