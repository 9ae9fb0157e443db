"""A logistic ranking loss written log2(1 + exp(x)).

Published: pytorchltr (``PairwiseLogisticLoss``, ``LambdaNDCGLoss1/2``, ``LambdaARPLoss1/2``).
Costs: infinite loss and NaN gradient at a score gap of 100; in float16 at 12.
Mend: softplus, divided by log 2.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from lossmith.core.numerics import softplus, upcast
from lossmith.core.reduce import reduce
from lossmith.core.validate import check_float, check_same_shape, check_values

FAMILY = "ranking"
INPUTS = "scores+relevance"
CAUGHT_BY = ("extremes",)


def broken(scores: Tensor, relevance: Tensor) -> Tensor:
    """Sum over the pairs of a list, mean over lists."""
    gap = scores.unsqueeze(-1) - scores.unsqueeze(-2)
    pair = relevance.unsqueeze(-1) > relevance.unsqueeze(-2)
    cost = torch.log2(1.0 + torch.exp(-gap))
    return torch.where(pair, cost, 0.0).sum((-2, -1)).mean()


def corrected(scores: Tensor, relevance: Tensor) -> Tensor:
    """The same, in a form that is linear where it is large."""
    check_float(scores=scores)
    check_same_shape(scores=scores, relevance=relevance)
    check_values("relevance", relevance, relevance.isfinite(), "a finite grade")
    (scores,) = upcast(scores)
    gap = scores.unsqueeze(-1) - scores.unsqueeze(-2)
    pair = relevance.unsqueeze(-1) > relevance.unsqueeze(-2)
    cost = softplus(-gap) / math.log(2.0)
    return reduce(torch.where(pair, cost, 0.0).sum((-2, -1)))
