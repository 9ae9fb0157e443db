"""A ListMLE that learns the order in which the file lists equal documents.

Published: sentence-transformers (``ListMLELoss``, ``PListMLELoss``), rax without ``key``.
Costs: ties are put in input order and then learnt: three documents of equal grade and equal score
have the gradient of a strict preference, [-0.67, -0.17, 0.83], so whoever is first in the file
wins.
Mend: equal documents compete with each other and stand in each other's denominator (Breslow).
"""

from __future__ import annotations

import torch
from torch import Tensor

from lossmith.core.numerics import upcast
from lossmith.core.reduce import reduce
from lossmith.core.validate import check_float, check_same_shape, check_values

FAMILY = "ranking"
INPUTS = "scores+relevance"
CAUGHT_BY = ("item-order",)


def broken(scores: Tensor, relevance: Tensor) -> Tensor:
    """Plackett-Luce along the sorted list."""
    order = relevance.argsort(dim=-1, descending=True, stable=True)
    ranked = scores.gather(-1, order)
    rest = ranked.flip(-1).logcumsumexp(-1).flip(-1)
    return (rest - ranked).sum(-1).mean()


def corrected(scores: Tensor, relevance: Tensor) -> Tensor:
    """Each document against all that are not better."""
    check_float(scores=scores)
    check_same_shape(scores=scores, relevance=relevance)
    check_values("relevance", relevance, relevance.isfinite(), "a finite grade")
    (scores,) = upcast(scores)
    not_better = relevance.unsqueeze(-2) <= relevance.unsqueeze(-1)
    rivals = torch.where(not_better, scores.unsqueeze(-2), -torch.inf).logsumexp(-1)
    return reduce((rivals - scores).sum(-1))
