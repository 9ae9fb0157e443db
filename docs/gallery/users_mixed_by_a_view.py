"""An adaptive hinge that mixes the rows of its batch.

Published: Spotlight (factorization model: ``expand(B, n)`` laid out by row, read back as ``(n,
B)``).
Costs: the negatives of one user are scored for another: with 4 users and 4 draws the rows are [0 0
0 1], [1 1 2 2], [2 3 3 3] instead of [0 1 2 3] each.
Mend: keep the row as the first dimension.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from lossmith.core.numerics import upcast
from lossmith.core.reduce import reduce
from lossmith.core.validate import check_float, check_leading_shape

FAMILY = "recommendation"
INPUTS = "positive+draws"
CAUGHT_BY = ("order",)


def broken(positive: Tensor, negatives: Tensor) -> Tensor:
    """The hardest negative of each row, after a view that is not a transpose."""
    hardest = negatives.reshape(negatives.shape[1], negatives.shape[0]).amax(0)
    return F.relu(hardest - positive + 1.0).mean()


def corrected(positive: Tensor, negatives: Tensor) -> Tensor:
    """The hardest negative of each row."""
    check_float(positive=positive, negatives=negatives)
    check_leading_shape(negatives, "negatives", positive=positive)
    positive, negatives = upcast(positive, negatives)
    return reduce(F.relu(negatives.amax(-1) - positive + 1.0))
