"""A NaN that is replaced by zero.

Published: ``if torch.isnan(loss): loss = 0`` and ``nan_to_num`` in many training loops and losses.
Costs: a model that has diverged reports a loss of 0, the best there is: early stopping keeps it.
Mend: no NaN from a legitimate batch, and a NaN that was in the input is shown.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from lossmith.losses.classification import cross_entropy

FAMILY = "classification"
INPUTS = "logits+class"
CAUGHT_BY = ("nan-not-hidden",)


def broken(logits: Tensor, target: Tensor) -> Tensor:
    """Never NaN."""
    return torch.nan_to_num(F.cross_entropy(logits, target, reduction="none")).mean()


def corrected(logits: Tensor, target: Tensor) -> Tensor:
    """NaN in, NaN out."""
    return cross_entropy(logits, target)
