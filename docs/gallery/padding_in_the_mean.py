"""A mean that counts what was ignored.

Published: kornia (``focal_loss`` divides by all elements), segmentation_models.pytorch (issue
852), Keras' "mean" under masks for years (tensorflow issue 34491).
Costs: the loss, and so the step, shrinks with the share of padding: a batch that is half padding
learns at half the rate.
Mend: divide by what counts.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from lossmith.losses.classification import cross_entropy

FAMILY = "classification"
INPUTS = "logits+class"
CAUGHT_BY = ("padding",)


def broken(logits: Tensor, target: Tensor, *, mask: Tensor | None = None) -> Tensor:
    """Masked rows cost 0 and are counted."""
    if mask is None:
        return F.cross_entropy(logits, target)
    logits, target = torch.where(mask[:, None], logits, 0.0), torch.where(mask, target, 0)
    cost = torch.where(mask, F.cross_entropy(logits, target, reduction="none"), 0.0)
    return cost.mean()


def corrected(
    logits: Tensor,
    target: Tensor,
    *,
    mask: Tensor | None = None,
    divisor: float | Tensor | None = None,
) -> Tensor:
    """Masked rows cost 0 and are not counted."""
    return cross_entropy(logits, target, mask=mask, divisor=divisor)
