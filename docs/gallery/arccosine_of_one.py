"""An angular margin through the arc cosine.

Published: pytorch-metric-learning 2.9.0 and arcface-pytorch (issues 32, 68): ``acos`` of a cosine.
Costs: where query and positive point the same way the derivative of acos is infinite: loss 0 and
NaN gradients for embeddings and weights. Identical views, duplicates and good models all do that.
Mend: cos(a + m) = cos a cos m - sin a sin m, with a root that has a gradient at 0.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from lossmith.core.numerics import euclidean_from_squared, full_precision, unit_vectors, upcast
from lossmith.core.reduce import reduce
from lossmith.core.validate import check_same_shape

FAMILY = "retrieval"
INPUTS = "queries+positives"
CAUGHT_BY = ("extremes",)


def broken(
    queries: Tensor, positives: Tensor, *, margin: float = 0.2, scale: float = 16.0
) -> Tensor:
    """In-batch softmax with the angle of each own pair widened by a margin."""
    cosine = (F.normalize(queries, dim=-1) @ F.normalize(positives, dim=-1).T).clamp(-1, 1)
    own = torch.eye(len(queries), dtype=torch.bool, device=queries.device)
    angle = torch.acos(cosine)
    logits = scale * torch.where(own, torch.cos(angle + margin), cosine)
    return F.cross_entropy(logits, torch.arange(len(queries), device=queries.device))


def corrected(
    queries: Tensor, positives: Tensor, *, margin: float = 0.2, scale: float = 16.0
) -> Tensor:
    """The same angle, by the addition theorem."""
    check_same_shape(queries=queries, positives=positives)
    queries, positives = map(unit_vectors, upcast(queries, positives))
    with full_precision(queries):
        cosine = queries @ positives.T
    own = cosine.diagonal()
    sine = euclidean_from_squared((1.0 - own.square()).relu())
    wider = own * math.cos(margin) - sine * math.sin(margin)
    eye = torch.eye(len(queries), dtype=torch.bool, device=queries.device)
    logits = scale * torch.where(eye, wider.unsqueeze(-1), cosine)
    return reduce(-logits.log_softmax(-1).diagonal())
