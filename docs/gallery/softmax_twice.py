"""A cross-entropy of probabilities: softmax twice.

Published: a model that ends with softmax, trained with ``CrossEntropyLoss``; all over the web.
Costs: the loss of a perfect model is not 0 but log(1 + (C - 1) / e): 0.744 for four classes, and
gradients vanish for confident mistakes, which is when they are needed.
Mend: logits.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from lossmith.losses.classification import cross_entropy

FAMILY = "classification"
INPUTS = "logits+class"
CAUGHT_BY = ("saturation",)


def broken(logits: Tensor, target: Tensor) -> Tensor:
    """The model's last layer and the loss's first."""
    return F.cross_entropy(logits.softmax(-1), target)


def corrected(logits: Tensor, target: Tensor) -> Tensor:
    """One softmax."""
    return cross_entropy(logits, target)
