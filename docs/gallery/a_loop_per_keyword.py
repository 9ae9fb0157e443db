"""A keyword reward in two nested Python loops.

Published: a 2024 text on keyword use in sequence generation (placement reward, factor 0.25).
Costs: each term fills and adds a gradient the size of all logits: 9 minutes for one step of 64 x
128 tokens and 32,000 words, where the closed form takes 0.96 seconds, as cross-entropy does.
Mend: it is a cross-entropy with weight 1 + factor at the marked positions.
"""

from __future__ import annotations

import torch
from torch import Tensor

from lossmith.core.labels import class_index
from lossmith.core.numerics import pick, row_log_softmax, upcast
from lossmith.core.reduce import Divisor, Reduction, reduce
from lossmith.core.validate import check_float, check_leading_shape

FAMILY = "generation"
INPUTS = "logits+marked"
CAUGHT_BY = ("cost",)


def broken(logits: Tensor, target: Tensor, marked: Tensor, *, factor: float = 0.25) -> Tensor:
    """Cross-entropy, less a reward that is summed term by term."""
    log_p = logits.log_softmax(-1)
    reward = logits.new_zeros(())
    for row in range(target.shape[0]):
        for place in range(target.shape[1]):
            if marked[row, place]:
                reward = reward + log_p[row, place, target[row, place]]
    cross_entropy = -log_p.gather(-1, target.unsqueeze(-1)).mean()
    return cross_entropy - factor * reward / target.numel()


def corrected(
    logits: Tensor,
    target: Tensor,
    marked: Tensor,
    *,
    factor: float = 0.25,
    reduction: Reduction = "mean",
    divisor: Divisor | None = None,
) -> Tensor:
    """The same number, at the price of a cross-entropy."""
    check_float(logits=logits)
    check_leading_shape(logits, "logits", target=target, marked=marked)
    index, valid = class_index("target", target, logits.shape[-1])
    (logits,) = upcast(logits)
    cost = -pick(row_log_softmax(logits, valid), index)
    weight = torch.where(marked, 1.0 + factor, 1.0)
    return reduce(cost, weight=weight, reduction=reduction, divisor=divisor)
