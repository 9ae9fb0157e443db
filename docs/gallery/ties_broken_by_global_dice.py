"""A ListMLE that shuffles with the global random state.

Published: allRank (``listMLE``: one ``randperm`` for the whole batch, from the global generator).
Costs: the same batch gives another loss at each call, so a curve cannot be repeated and a gradient
check fails; every call also moves the global generator, so adding the loss changes dropout.
Mend: a definition of ties that needs no dice.
"""

from __future__ import annotations

import torch
from torch import Tensor

from lossmith.core.numerics import upcast
from lossmith.core.reduce import reduce
from lossmith.core.validate import check_float, check_same_shape, check_values

FAMILY = "ranking"
INPUTS = "scores+relevance"
CAUGHT_BY = ("side-effects",)


def broken(scores: Tensor, relevance: Tensor) -> Tensor:
    """Plackett-Luce along the sorted list, after a shuffle."""
    shuffle = torch.randperm(scores.shape[-1])
    scores, relevance = scores[..., shuffle], relevance[..., shuffle]
    ranked = scores.gather(-1, relevance.argsort(dim=-1, descending=True, stable=True))
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
