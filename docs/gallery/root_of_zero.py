"""A distance whose gradient is NaN where two vectors coincide.

Published: many contrastive and triplet losses with ``sqrt(sum((a - b)^2))``.
Costs: duplicates in a batch, or a collapsed model, have distance 0, where the derivative of the
root is infinite and times 0 is NaN. The loss looks fine; the weights are gone one step later.
Mend: gradient 0 at distance 0, where no direction is better than another.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from lossmith.core.numerics import euclidean_from_squared, upcast
from lossmith.core.reduce import reduce
from lossmith.core.validate import check_same_shape

FAMILY = "retrieval"
INPUTS = "triplet"
CAUGHT_BY = ("extremes",)


def broken(anchor: Tensor, positive: Tensor, negative: Tensor, *, margin: float = 1.0) -> Tensor:
    """Euclidean distances by the textbook."""
    near = torch.sqrt((anchor - positive).square().sum(-1))
    far = torch.sqrt((anchor - negative).square().sum(-1))
    return F.relu(near - far + margin).mean()


def corrected(anchor: Tensor, positive: Tensor, negative: Tensor, *, margin: float = 1.0) -> Tensor:
    """The same values, with a gradient everywhere."""
    check_same_shape(anchor=anchor, positive=positive, negative=negative)
    anchor, positive, negative = upcast(anchor, positive, negative)
    near = euclidean_from_squared((anchor - positive).square().sum(-1))
    far = euclidean_from_squared((anchor - negative).square().sum(-1))
    return reduce(F.relu(near - far + margin))
