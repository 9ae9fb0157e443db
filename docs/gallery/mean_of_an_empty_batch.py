"""A mean over a batch without rows.

Published: sentence-transformers (``MultipleNegativesRankingLoss`` at B = 0: NaN), and most others.
Costs: a filter or a shard that is empty on one rank makes its loss NaN, and all-reduce spreads it.
Mend: an empty batch costs 0, connected to the graph.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from lossmith.core.numerics import upcast
from lossmith.core.reduce import reduce
from lossmith.core.validate import check_float, check_same_shape

FAMILY = "regression"
INPUTS = "prediction+number"
CAUGHT_BY = ("empty-batch",)


def broken(prediction: Tensor, target: Tensor) -> Tensor:
    """0 / 0."""
    return F.smooth_l1_loss(prediction, target)


def corrected(prediction: Tensor, target: Tensor) -> Tensor:
    """0 / 1."""
    check_float(prediction=prediction)
    check_same_shape(prediction=prediction, target=target)
    prediction, target = upcast(prediction, target)
    return reduce(F.smooth_l1_loss(prediction, target, reduction="none"))
