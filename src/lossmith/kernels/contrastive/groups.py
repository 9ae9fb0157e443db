"""Rows that carry labels: which belong together, and what can be said of them in linear memory."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

NOBODY = -1  # the group of a masked row


def groups(labels: Tensor, mask: Tensor | None) -> Tensor:
    """Labels as whole numbers from 0, counted without a hole; :data:`NOBODY` where masked.

    >>> groups(torch.tensor([7, 3, 7, 9]), torch.tensor([True, True, True, False]))
    tensor([ 1,  0,  1, -1])
    """
    order = labels.argsort(stable=True)
    ordered = labels[order]
    steps = torch.ones_like(order)
    steps[:1] = 0
    steps[1:] = ordered[1:] != ordered[:-1]
    group = torch.empty_like(order).scatter(0, order, steps.cumsum(0))
    return group if mask is None else torch.where(mask, group, NOBODY)


def group_size(group: Tensor) -> Tensor:
    """How many rows share the group of each row; 0 for a masked row."""
    real = (group != NOBODY).long()
    inside = group.clamp(min=0)
    total = torch.zeros_like(group).index_add(0, inside, real)
    return total[inside] * real


def group_sum(rows: Tensor, group: Tensor) -> Tensor:
    """The sum of the rows of the group of each row; masked rows count nowhere."""
    real = (group != NOBODY).unsqueeze(-1)
    inside = group.clamp(min=0)
    total = torch.zeros_like(rows).index_add(0, inside, torch.where(real, rows, 0.0))
    return total.index_select(0, inside)


class Sorted(NamedTuple):
    """The rows that are not masked, those of one group side by side."""

    order: Tensor  # where each stood
    group: Tensor
    first: Tensor  # where its group starts
    last: Tensor  # where its group ends

    @staticmethod
    def of(group: Tensor) -> Sorted:
        """Sort; rows of one group keep their order."""
        order = group.argsort(stable=True)
        order = order[int((group == NOBODY).sum()) :]
        ordered = group[order]
        first = torch.searchsorted(ordered, ordered)
        last = torch.searchsorted(ordered, ordered, right=True)
        return Sorted(order, ordered, first, last)

    @property
    def largest(self) -> int:
        """How many rows the largest group has."""
        return int((self.last - self.first).amax()) if len(self.order) else 0

    def band(self, start: int, stop: int) -> tuple[int, int]:
        """The columns that hold every companion of rows ``start`` to ``stop``."""
        return int(self.first[start]), int(self.last[stop - 1])

    def whole_groups(self, rows: int) -> list[tuple[int, int]]:
        """Blocks of at most so many rows that split no group; none may be larger."""
        first, count = self.first.tolist(), len(self.order)
        spans, start = [], 0
        while start < count:
            stop = count if start + rows >= count else first[start + rows]
            spans.append((start, stop))
            start = stop
        return spans
