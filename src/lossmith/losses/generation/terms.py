"""The terms of the keyword losses, computed on short rows, and the checks that they share.

A short row has the log-probabilities of the tokens that the terms look at, and of all others
together (see :mod:`lossmith.kernels.collapse`).
"""

from __future__ import annotations

import math
from typing import Any, Literal

import torch
from torch import Tensor

from lossmith.core.validate import (
    check_class_index,
    check_float,
    check_leading_shape,
    check_mask,
    shape_text,
)
from lossmith.kernels.alphabets import Alphabets
from lossmith.kernels.collapse import LOG_ZERO
from lossmith.kernels.keywords import occurrence

Require = Literal["any", "each"]
Form = Literal["expected", "nll"]


def presence_cost(
    log_p: Tensor, made: Alphabets, real: Tensor, prefix_aware: bool, require: Require, form: Form
) -> Tensor:
    """The cost of each sequence's missing keywords ``[B]``, from short rows ``[B, T, k + 1]``."""
    reference = made.place if prefix_aware else None
    found = occurrence(log_p, made.keywords, real, require=require, reference=reference)
    if form == "expected":
        cost = found.log_none.exp()
    else:
        # A keyword that logits of -inf rule out costs inf; its gradient stays 0, not NaN.
        ruled_out = found.log_occurs <= 0.5 * LOG_ZERO
        cost = torch.where(ruled_out, math.inf, -found.log_occurs)
    count = found.asked.sum(dim=-1).clamp(min=1)
    return torch.where(found.asked, cost, 0.0).sum(dim=-1) / count


def sequences_of(tokens: Tensor) -> Tensor:
    """``[..., T]`` as ``[B, T]``."""
    return tokens.reshape(math.prod(tokens.shape[:-1]), tokens.shape[-1])


def real_positions(
    name: str,
    rows: Tensor,
    vocabulary: int,
    target: Tensor | None,
    ignore_index: int,
    mask: Tensor | None,
) -> Tensor:
    """Which positions of ``rows [..., T, _]`` count, after checking them against the labels."""
    check_float(**{name: rows})
    if rows.dim() < 2:
        raise ValueError(
            f"{name} {shape_text(rows)} must be [..., T, V]: one row of V logits for each of the "
            "T positions of a sequence."
        )
    check_leading_shape(rows, name, target=target, mask=mask)
    check_mask("mask", mask)
    real = torch.ones_like(rows[..., 0], dtype=torch.bool) if mask is None else mask
    if target is None:
        return real
    counted = torch.where(real, target, ignore_index)
    check_class_index("target", counted, vocabulary, ignore_index)
    return counted != ignore_index


def check_per_sequence(name: str, rows: Tensor, weight: Tensor | None) -> None:
    """Raise unless there is one weight for each sequence."""
    if weight is not None and weight.shape != rows.shape[:-2]:
        raise ValueError(
            f"weight {shape_text(weight)} must hold one value for each sequence, "
            f"{tuple(rows.shape[:-2])}: {name} {shape_text(rows)} without the last two "
            "dimensions."
        )


def check_triple(divisor: object) -> tuple[Any, Any, Any]:
    """The three counts of a hybrid, each None without a divisor."""
    if divisor is None:
        return (None, None, None)
    if not isinstance(divisor, (tuple, list)) or len(divisor) != 3:
        raise TypeError(
            "divisor must be three counts, (tokens, sequences asked for a keyword, marked "
            f"positions), as each term has its own unit; got {divisor!r}."
        )
    tokens, sequences, marked = divisor
    return tokens, sequences, marked
