"""The area under the ROC curve of many rows at once, in O(n log p) for a row with p positives."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from lossmith.core.numerics import upcast


def finite_scores(scores: Tensor) -> Tensor:
    """At least float32, with infinities at the ends of the finite range: they stay in order,
    and infinity is free to mean "not there".
    """
    (scores,) = upcast(scores)
    limits = torch.finfo(scores.dtype)
    return scores.clamp(limits.min, limits.max)


def count_true(mask: Tensor) -> Tensor:
    """How many entries of each row are True, as int64 ``[R]``.

    torch first copies a bool tensor to the type of the sum; int32 halves that copy.
    """
    return mask.sum(dim=-1, dtype=torch.int32).long()


def rank_auc(scores: Tensor, positive: Tensor, counted: Tensor) -> Tensor:
    """Share of (positive, negative) pairs of each row in the right order, a tie counting 1/2.

    ``scores``, ``positive`` and ``counted`` are ``[R, n]``; entries that are not counted are left
    out, and every positive is a counted one. NaN where a row lacks a positive or a negative.
    """
    twice_right, pairs = pairs_in_order(scores, positive, counted)
    value = twice_right.double() / (2 * pairs).clamp(min=1).double()
    return torch.where(pairs > 0, value, math.nan)


def pairs_in_order(scores: Tensor, positive: Tensor, counted: Tensor) -> tuple[Tensor, Tensor]:
    """Twice the pairs of :func:`rank_auc` in the right order (a tie is one), and all pairs.

    Whole numbers, int64 ``[R]``, so they are the same on any device and for any division of the
    rows.
    """
    scores = finite_scores(scores).contiguous()
    p, n = count_true(positive), count_true(counted)
    # An entry with l positives below it and r at or below it loses to p - (l + r) / 2 of them.
    # A positive is below it when the next number after the positive is at or below it, so one
    # search in the positives and their next numbers gives l + r.
    positives = _positives(scores, positive, p)
    next_numbers = positives.nextafter(torch.full_like(positives, math.inf))
    twice = torch.cat([positives, next_numbers], dim=-1).sort(dim=-1).values
    below = torch.searchsorted(twice, scores, right=True)
    twice_below = below.masked_fill_(~counted, 0).sum(dim=-1)
    # Of all those losses, p * p / 2 are positives among themselves.
    return 2 * p * n - twice_below - p * p, p * (n - p)


def _positives(scores: Tensor, positive: Tensor, counts: Tensor) -> Tensor:
    """The scores of each row's positives, filled up with infinity."""
    row, column = positive.nonzero(as_tuple=True)
    first = counts.cumsum(dim=0) - counts
    place = torch.arange(len(row), device=row.device) - first[row]
    width = max(1, int(counts.max()) if len(counts) else 0)
    table = scores.new_full((len(counts), width), math.inf)
    table[row, place] = scores[row, column]
    return table
