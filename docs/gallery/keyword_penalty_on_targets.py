"""A keyword penalty that looks at the reference instead of the output.

Published: a 2024 text on keyword use in sequence generation (presence penalty, factor 0.5).
Costs: the term is constant in the logits: it moves the reported loss and no weight. Training with
factor 1.0 and without the term give the same model, bit for bit.
Mend: penalise the probability that the model's own distributions say no keyword.
"""

from __future__ import annotations

import torch
from torch import Tensor

from lossmith.core.labels import class_index
from lossmith.core.numerics import pick, row_log_softmax, upcast
from lossmith.core.reduce import Divisor, reduce
from lossmith.core.validate import check_float, check_leading_shape

FAMILY = "generation"
INPUTS = "logits+marked"  # what is marked here: the tokens that are real
CAUGHT_BY = ("dead-knob",)
KEYWORD = 3


def broken(logits: Tensor, target: Tensor, real: Tensor, *, factor: float = 0.5) -> Tensor:
    """Cross-entropy, plus the share of references that lack the keyword."""
    log_p = logits.log_softmax(-1).gather(-1, target.unsqueeze(-1)).squeeze(-1)
    said = ((target == KEYWORD) & real).any(-1)
    return -(log_p * real).sum() / real.sum() + factor * (~said).float().mean()


def corrected(
    logits: Tensor,
    target: Tensor,
    real: Tensor,
    *,
    factor: float = 0.5,
    divisor: Divisor | None = None,
) -> Tensor:
    """Cross-entropy, plus what each output lacks of a keyword that its reference has."""
    check_float(logits=logits)
    check_leading_shape(logits, "logits", target=target, real=real)
    index, _ = class_index("target", target, logits.shape[-1], mask=real)
    (logits,) = upcast(logits)
    log_p = row_log_softmax(logits, real)
    wanted = ((index == KEYWORD) & real).any(-1, keepdim=True)
    silent = torch.where(real, -torch.expm1(log_p[..., KEYWORD]), 1.0).prod(-1, keepdim=True)
    # Spread over the real tokens of its sequence, so that there is one unit: the token.
    share = real / real.sum(-1, keepdim=True).clamp(min=1)
    cost = -pick(log_p, index) + factor * torch.where(wanted, silent, 0.0) * share
    return reduce(cost, valid=real, divisor=divisor)
