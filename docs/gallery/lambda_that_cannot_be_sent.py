"""A loss object that holds a lambda.

Published: sentence-transformers (distance metrics as lambdas on a class, found again by name), and
any ``self.distance = lambda a, b: ...``.
Costs: the object cannot be pickled: it does not travel to a data-parallel worker, a spawned
process or a checkpoint, and says so only there.
Mend: a named function, or a word that chooses one.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from lossmith.core.numerics import distance, upcast
from lossmith.core.reduce import reduce
from lossmith.core.validate import check_range, check_same_shape

FAMILY = "retrieval"
INPUTS = "triplet"
CAUGHT_BY = ("pickle",)


class Broken(nn.Module):
    """A triplet loss with its distance as an attribute."""

    def __init__(self, margin: float = 1.0) -> None:
        super().__init__()
        self.margin = margin
        self.distance = lambda a, b: (a - b).square().sum(-1)

    def forward(self, anchor: Tensor, positive: Tensor, negative: Tensor) -> Tensor:
        """Hinge of the two distances."""
        gap = self.distance(anchor, positive) - self.distance(anchor, negative)
        return F.relu(gap + self.margin).mean()


class Corrected(nn.Module):
    """A triplet loss with its distance as a word."""

    def __init__(self, margin: float = 1.0) -> None:
        super().__init__()
        check_range("margin", margin, 0.0)
        self.margin = margin

    def forward(self, anchor: Tensor, positive: Tensor, negative: Tensor) -> Tensor:
        """Hinge of the two distances."""
        check_same_shape(anchor=anchor, positive=positive, negative=negative)
        anchor, positive, negative = upcast(anchor, positive, negative)
        near = distance(anchor, positive, "squared_euclidean")
        far = distance(anchor, negative, "squared_euclidean")
        return reduce(F.relu(near - far + self.margin))


broken, corrected = Broken(), Corrected()
