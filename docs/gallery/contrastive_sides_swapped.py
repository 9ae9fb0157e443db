"""A contrastive loss with its sides swapped.

Published: an overview of objectives for NLP, search and recommendation: ``y max(0, D^2 - m^2) + (1
- y) D^2``.
Costs: pairs that differ are pulled together and pairs that belong together are left alone until
they are farther apart than the margin. At D = 0.6 (same) and 0.4 (apart), margin 1, the gradients
are 0 and 0.8 where 0.6 and -0.6 are right.
Mend: ``1/2 [ y D^2 + (1 - y) max(0, m - D)^2 ]`` (Hadsell, Chopra, LeCun 2006).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from lossmith.core.numerics import distance, upcast
from lossmith.core.reduce import reduce
from lossmith.core.validate import check_leading_shape, check_same_shape, check_values

FAMILY = "retrieval"
INPUTS = "pair+same"
CAUGHT_BY = ("descent",)


def broken(x1: Tensor, x2: Tensor, same: Tensor, *, margin: float = 1.0) -> Tensor:
    """The formula as printed, with same = 1 for a pair that belongs together."""
    squared = (x1 - x2).square().sum(-1)
    return (same * F.relu(squared - margin**2) + (1 - same) * squared).mean()


def corrected(x1: Tensor, x2: Tensor, same: Tensor, *, margin: float = 1.0) -> Tensor:
    """Hadsell's formula; coinciding vectors have gradient 0."""
    check_same_shape(x1=x1, x2=x2)
    check_leading_shape(x1, "x1", same=same)
    check_values("same", same, (same == 0) | (same == 1), "1 (together) or 0 (apart)")
    x1, x2 = upcast(x1, x2)
    d = distance(x1, x2, "euclidean")
    return reduce(0.5 * torch.where(same == 1, d, F.relu(margin - d)).square())
