"""A mean over the tokens of a micro-batch.

Published: everywhere; found in Hugging Face's Trainer in 2024 (``num_items_in_batch`` is the
mend).
Costs: with gradient accumulation each micro-batch divides by its own number of labels, so a token
in a short batch weighs more. The same data with another accumulation step train another model.
Mend: divide by a count that is known before the pass (``divisor``).
"""

from __future__ import annotations

from torch import Tensor

from lossmith.losses.classification import cross_entropy

FAMILY = "generation"
INPUTS = "logits+class"
CAUGHT_BY = ("micro-batches",)


def broken(logits: Tensor, target: Tensor, *, ignore_index: int = -100) -> Tensor:
    """Right for one batch, wrong for its parts."""
    return cross_entropy(logits, target, ignore_index=ignore_index)


def corrected(
    logits: Tensor,
    target: Tensor,
    *,
    ignore_index: int = -100,
    divisor: float | Tensor | None = None,
) -> Tensor:
    """Right for one batch, and exact for its parts when they share a divisor."""
    return cross_entropy(logits, target, ignore_index=ignore_index, divisor=divisor)
