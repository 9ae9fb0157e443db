"""A cross-entropy that is NaN when every label is ignored.

Published: ``torch.nn.functional.cross_entropy`` (reduction="mean").
Costs: one micro-batch of padding alone, or of prompts without an answer, makes the loss NaN; with
torch 2.13's chunked ``linear_cross_entropy`` the gradients are NaN too and the model is lost.
Mend: nothing to learn costs 0, connected to the graph.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from lossmith.losses.classification import cross_entropy

FAMILY = "classification"
INPUTS = "logits+class"
CAUGHT_BY = ("nothing-valid",)


def broken(logits: Tensor, target: Tensor, *, ignore_index: int = -100) -> Tensor:
    """The mean over the labels that are left."""
    return F.cross_entropy(logits, target, ignore_index=ignore_index)


def corrected(
    logits: Tensor,
    target: Tensor,
    *,
    ignore_index: int = -100,
    divisor: float | Tensor | None = None,
) -> Tensor:
    """The mean over the labels that are left, if there are any."""
    return cross_entropy(logits, target, ignore_index=ignore_index, divisor=divisor)
