"""A pair loss that returns zero for a batch with one pair of each kind.

Published: pytorch-metric-learning 2.9.0 (every pair loss: zero if all index lists have at most one
entry).
Costs: one positive and one negative pair cost 0.0 with Contrastive, NT-Xent, MultiSimilarity,
Circle, SupCon and Lifted, where 1.2 and more is right: small batches and last batches teach
nothing.
Mend: zero pairs cost zero; one pair is a pair.
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
CAUGHT_BY = ("single",)


def broken(x1: Tensor, x2: Tensor, same: Tensor, *, margin: float = 1.0) -> Tensor:
    """A guard against the empty batch that catches one too many."""
    if (same == 1).sum() <= 1 and (same == 0).sum() <= 1:
        return (x1.sum() + x2.sum()) * 0
    d = distance(x1, x2, "euclidean")
    return 0.5 * torch.where(same == 1, d, F.relu(margin - d)).square().mean()


def corrected(x1: Tensor, x2: Tensor, same: Tensor, *, margin: float = 1.0) -> Tensor:
    """No guard needed."""
    check_same_shape(x1=x1, x2=x2)
    check_leading_shape(x1, "x1", same=same)
    check_values("same", same, (same == 0) | (same == 1), "1 (together) or 0 (apart)")
    x1, x2 = upcast(x1, x2)
    d = distance(x1, x2, "euclidean")
    return reduce(0.5 * torch.where(same == 1, d, F.relu(margin - d)).square())
