"""A softmax over a list that is all padding.

Published: allRank (``listNet``, ``binary_listNet``).
Costs: one list without a document, as the last batch of an epoch or a filter leaves behind, makes
the loss of the whole batch NaN: softmax over nothing is 0 / 0.
Mend: a list without items costs 0 and is not counted.
"""

from __future__ import annotations

import torch
from torch import Tensor

from lossmith.losses.ranking import listnet

FAMILY = "ranking"
INPUTS = "scores+relevance"
CAUGHT_BY = ("nothing-valid",)


def broken(scores: Tensor, relevance: Tensor, *, mask: Tensor | None = None) -> Tensor:
    """Padded scores and grades are -inf in both softmaxes."""
    real = torch.ones_like(scores, dtype=torch.bool) if mask is None else mask
    q = relevance.to(scores.dtype).masked_fill(~real, -torch.inf).softmax(-1)
    p = scores.masked_fill(~real, -torch.inf).softmax(-1)
    return -(q * (p + 1e-10).log()).sum(-1).mean()


def corrected(
    scores: Tensor,
    relevance: Tensor,
    *,
    mask: Tensor | None = None,
    weight: Tensor | None = None,
) -> Tensor:
    """Lists with an item, by their number."""
    return listnet(scores, relevance, mask=mask, weight=weight)
