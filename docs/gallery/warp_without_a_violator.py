"""A batched WARP that is NaN for a row without a violator.

Published: NegatioN/WARP-Pytorch (PyPI ``warp_loss``), copied in RePlay.
Costs: a row that is right takes all T draws; with T + 1 or fewer items its weight is log 0, times
a cost of 0: NaN loss and NaN gradients, for the rows that need no training.
Mend: a row without a violator costs 0 before its weight is looked up.
"""

from __future__ import annotations

import torch
from torch import Tensor

from lossmith import WARP

FAMILY = "recommendation"
INPUTS = "positive+draws"
CAUGHT_BY = ("extremes",)
ARGS = {"num_items": 9}  # one more than there are draws


def broken(positive: Tensor, negatives: Tensor, *, num_items: int = 9) -> Tensor:
    """The first violator of each row by argmax; trials = T + 1 where there is none."""
    violates = negatives > positive.unsqueeze(-1) - 1.0
    found = violates.any(-1)
    first = violates.to(torch.int8).argmax(-1, keepdim=True)
    trials = torch.where(found, first.squeeze(-1) + 1, negatives.shape[-1] + 1)
    weight = ((num_items - 1) // trials).to(positive.dtype).log()
    excess = 1.0 - positive + negatives.gather(-1, first).squeeze(-1)
    return (weight * excess * found).mean()


# Harmonic, as log 1 = 0 would leave late violators out.
corrected = WARP(num_items=9, weighting="harmonic")
