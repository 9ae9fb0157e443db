"""A loss that is computed outside the graph.

Published: "element 0 of tensors does not require grad" in a thousand threads; the quiet form adds
an accuracy, a rank or a ``.item()`` to a loss that has a gradient.
Costs: the term has no gradient path to the predictions: the curve moves and the model does not.
Mend: a loss that is differentiable in the predictions.
"""

from __future__ import annotations

import torch
from torch import Tensor

from lossmith.core.numerics import upcast
from lossmith.core.reduce import reduce
from lossmith.core.validate import check_float, check_same_shape, check_values

FAMILY = "ranking"
INPUTS = "scores+relevance"
CAUGHT_BY = ("gradient",)


def broken(scores: Tensor, relevance: Tensor) -> Tensor:
    """One minus the rank correlation."""
    place = scores.argsort(-1).argsort(-1).to(scores.dtype)
    wanted = relevance.argsort(-1).argsort(-1).to(scores.dtype)
    n = scores.shape[-1]
    gap = torch.tensor((place - wanted).square().sum(-1).mean().item(), requires_grad=True)
    return 6 * gap / (n * (n * n - 1))


def corrected(scores: Tensor, relevance: Tensor) -> Tensor:
    """The softmax of the scores against that of the grades."""
    check_float(scores=scores)
    check_same_shape(scores=scores, relevance=relevance)
    check_values("relevance", relevance, relevance.isfinite(), "a finite grade")
    (scores,) = upcast(scores)
    q = relevance.to(scores.dtype).softmax(-1)
    return reduce(-(q * scores.log_softmax(-1)).sum(-1))
