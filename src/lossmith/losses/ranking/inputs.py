"""What every ranking objective is fed with: scores, grades and where there is an item."""

from __future__ import annotations

import torch
from torch import Tensor

from lossmith.core.numerics import upcast
from lossmith.core.validate import (
    check_finite,
    check_float,
    check_leading_shape,
    check_mask,
    check_same_shape,
)


def list_inputs(
    scores: Tensor, relevance: Tensor, mask: Tensor | None, weight: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    """Checked scores and relevance, 0 where there is no item, and where there is one."""
    check_float(scores=scores)
    check_same_shape(scores=scores, relevance=relevance, mask=mask)
    check_leading_shape(scores, "scores", weight=weight)
    check_mask("mask", mask)
    (scores,) = upcast(scores)
    if mask is None:
        items = torch.ones_like(scores, dtype=torch.bool)
    else:
        items = mask
        scores = torch.where(mask, scores, 0.0)
        relevance = torch.where(mask, relevance, 0)
    if relevance.is_floating_point():
        check_finite("relevance", relevance, "a finite grade; leave it out with mask=")
    return scores, relevance, items
