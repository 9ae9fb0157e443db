"""A ListMLE whose padding stands in the denominator.

Published: sentence-transformers (``ListMLELoss`` until pull request 3827).
Costs: the same list costs 0.263, 0.976 or 1.467 with 0, 1 or 2 places of padding, and the sign of
the gradient turns: the loss depends on the longest list of the batch.
Mend: padding out of the numerator and the denominator.
"""

from __future__ import annotations

import torch
from torch import Tensor

from lossmith.core.numerics import upcast
from lossmith.core.reduce import reduce
from lossmith.core.validate import check_float, check_mask, check_same_shape, check_values

FAMILY = "ranking"
INPUTS = "scores+relevance"
CAUGHT_BY = ("padding",)


def broken(scores: Tensor, relevance: Tensor, *, mask: Tensor | None = None) -> Tensor:
    """Padding costs nothing itself, but everybody competes with it."""
    real = torch.ones_like(scores, dtype=torch.bool) if mask is None else mask
    not_better = relevance.unsqueeze(-2) <= relevance.unsqueeze(-1)
    rivals = torch.where(not_better, scores.unsqueeze(-2), -torch.inf).logsumexp(-1)
    return torch.where(real, rivals - scores, 0.0).sum(-1).mean()


def corrected(scores: Tensor, relevance: Tensor, *, mask: Tensor | None = None) -> Tensor:
    """Only what is real competes; lists without an item are not counted."""
    check_float(scores=scores)
    check_same_shape(scores=scores, relevance=relevance, mask=mask)
    check_mask("mask", mask)
    (scores,) = upcast(scores)
    real = torch.ones_like(scores, dtype=torch.bool) if mask is None else mask
    scores, relevance = torch.where(real, scores, 0.0), torch.where(real, relevance, 0)
    check_values("relevance", relevance, relevance.isfinite(), "a finite grade")
    rival = (relevance.unsqueeze(-2) <= relevance.unsqueeze(-1)) & real.unsqueeze(-2)
    rival = rival | ~real.unsqueeze(-1)  # a row of padding stays finite and is dropped
    rivals = torch.where(rival, scores.unsqueeze(-2), -torch.inf).logsumexp(-1)
    cost = torch.where(real, rivals - scores, 0.0).sum(-1)
    return reduce(cost, valid=real.any(-1))
