"""A softmax over the batch instead of the classes.

Published: ``softmax(x)`` without ``dim``, and ``dim=0`` for a batch of rows: torch warns of the
first.
Costs: the rows of a batch compete with each other: the loss of an example depends on who else is
there, and a batch of one always costs 0.
Mend: ``dim=-1``.
"""

from __future__ import annotations

from torch import Tensor

from lossmith.losses.classification import cross_entropy

FAMILY = "classification"
INPUTS = "logits+class"
CAUGHT_BY = ("micro-batches",)


def broken(logits: Tensor, target: Tensor) -> Tensor:
    """The first dimension is the batch."""
    return -logits.log_softmax(0).gather(-1, target.unsqueeze(-1)).mean()


def corrected(logits: Tensor, target: Tensor) -> Tensor:
    """The last dimension holds the classes."""
    return cross_entropy(logits, target)
