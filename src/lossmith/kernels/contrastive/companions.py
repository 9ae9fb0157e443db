"""The pairs within a group, which lie side by side once rows are sorted by group.

Where groups are small their similarities make a table with a few columns for each row, and their
slopes are written into the blocks of all pairs, whose products then serve them as well. Where a
group is large they are blocks of their own.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from lossmith.kernels.contrastive.engine import ABSENT, SWITCH
from lossmith.kernels.contrastive.groups import Sorted
from lossmith.kernels.contrastive.transform import Transform

Span = tuple[int, int]
# As many rows of a group as a table has columns for.
MOST = 64
# Up to so many, sums of products of the rows so many places apart cost less than blocks.
FEW = 16


class Table(NamedTuple):
    """A row for each sorted row, a column for each row of its group."""

    rows: Tensor
    place: Tensor  # which sorted row that is; the row itself where its group has fewer
    there: Tensor  # where that is another row
    mirror: Tensor  # where the flat table has the same pair, seen from the other row
    similarity: Tensor

    @staticmethod
    def of(rows: Tensor, order: Sorted, width: int, spans: list[Span]) -> Table:
        """``width``: the largest group; ``spans``: blocks of rows that split no group."""
        count = len(rows)
        here = torch.arange(count, device=rows.device).unsqueeze(1)
        place = order.first.unsqueeze(1) + torch.arange(width, device=rows.device)
        there = (place < order.last.unsqueeze(1)) & (place != here)
        place = torch.where(there, place, here)
        mirror = place * width + (here - order.first.unsqueeze(1))
        if width > FEW:
            similarity = rows.new_empty(place.shape)
            for start, stop in spans:
                block = rows[start:stop] @ rows[start:stop].T
                similarity[start:stop] = block.gather(1, place[start:stop] - start)
            return Table(rows, place, there, mirror, similarity)
        ahead = rows.new_zeros(count, width)
        for step in range(1, width):
            ahead[:-step, step] = (rows[:-step] * rows[step:]).sum(dim=1)
        first = torch.minimum(place, here)
        index = first * width + (place - here).abs()
        return Table(rows, place, there, mirror, ahead.view(-1)[index])

    def farthest(self) -> Tensor:
        """The lowest similarity of each row to a companion."""
        return self.similarity.masked_fill(~self.there, -ABSENT).amin(dim=1)

    def total(self) -> Tensor:
        """The sum of the similarities to companions."""
        return torch.where(self.there, self.similarity, 0.0).sum(dim=1)

    def _values(self, how: Transform, below: Tensor | None) -> tuple[Tensor, Tensor | None]:
        values = self.similarity.clone()
        slope = how.apply(values, torch.empty_like(values))
        out = ~self.there
        if below is not None:
            out |= self.similarity >= below.unsqueeze(1)
        return values.masked_fill_(out, ABSENT), slope

    def mass(self, how: Transform, below: Tensor | None) -> Tensor:
        """log-sum-exp of what the companions count as that are ``below`` a limit."""
        return self._values(how, below)[0].logsumexp(dim=1)

    def push(
        self,
        made: Tensor,
        how: Transform,
        below: Tensor | None,
        mass: Tensor,
        down: Tensor,
        total: Tensor,
        *,
        ride: bool,
    ) -> Tensor | None:
        """Add what the slopes make of the gradient of the rows, or hand them out for a ``ride``.

        Each is of both rows' sums in the similarity of the pair.
        """
        values, change = self._values(how, below)
        lowest = torch.where(mass > 0.5 * ABSENT, mass, -ABSENT)
        share = values.sub_(lowest.unsqueeze(1)).exp_().mul_(down.unsqueeze(1))
        share.mul_(how.scale if change is None else change)
        share.add_(torch.where(self.there, total.unsqueeze(1), 0.0))
        share.add_(share.view(-1)[self.mirror])
        if ride:
            return share
        for column in range(share.shape[1]):
            made.addcmul_(self.rows[self.place[:, column]], share[:, column, None])
        return None


class Bands:
    """The same for large groups, block by block of sorted rows."""

    def __init__(self, rows: Tensor, order: Sorted, largest: int) -> None:
        self.sorted, self.rows = order, rows
        count = len(rows)
        # As many rows as a group: more would be compared in vain.
        step = min(largest, SWITCH.rows)
        self.spans = [(start, min(start + step, count)) for start in range(0, count, step)]

    def _similarities(self, start: int, stop: int) -> tuple[Tensor, Tensor, Span]:
        """Those of a block, which of them are of other groups or a row's own, and its columns."""
        low, high = self.sorted.band(start, stop)
        some = self.rows[start:stop] @ self.rows[low:high].T
        out = self.sorted.group[start:stop, None] != self.sorted.group[low:high]
        out.diagonal(offset=start - low).fill_(True)
        return some, out, (low, high)

    def farthest(self) -> Tensor:
        """As that of :class:`Table`."""
        parts = []
        for start, stop in self.spans:
            some, out, _ = self._similarities(start, stop)
            parts.append(some.masked_fill_(out, -ABSENT).amin(dim=1))
        return torch.cat(parts)

    def total(self) -> Tensor:
        """As that of :class:`Table`."""
        return (self.rows * (self._sums(self.rows) - self.rows)).sum(dim=1)

    def _sums(self, rows: Tensor) -> Tensor:
        """The sum of the rows of each row's group."""
        return torch.zeros_like(rows).index_add_(0, self.sorted.first, rows)[self.sorted.first]

    def _values(
        self, start: int, stop: int, how: Transform, below: Tensor | None
    ) -> tuple[Tensor, Tensor | None, Span]:
        some, out, span = self._similarities(start, stop)
        if below is not None:
            out |= some >= below[start:stop, None]
        slope = how.apply(some, torch.empty_like(some))
        return some.masked_fill_(out, ABSENT), slope, span

    def mass(self, how: Transform, below: Tensor | None) -> Tensor:
        """As that of :class:`Table`."""
        parts = [self._values(*span, how, below)[0].logsumexp(dim=1) for span in self.spans]
        return torch.cat(parts)

    def push(
        self,
        made: Tensor,
        how: Transform,
        below: Tensor | None,
        mass: Tensor,
        down: Tensor,
        total: Tensor,
        *,
        ride: bool,
    ) -> None:
        """Add what the slopes make of the gradient of the rows."""
        lowest = torch.where(mass > 0.5 * ABSENT, mass, -ABSENT).unsqueeze(1)
        for start, stop in self.spans:
            some, change, (low, high) = self._values(start, stop, how, below)
            some.sub_(lowest[start:stop]).exp_().mul_(down[start:stop, None])
            some.mul_(how.scale if change is None else change)
            made[start:stop].addmm_(some, self.rows[low:high])
            made[low:high].addmm_(some.T, self.rows[start:stop])
        weighted = self.rows * total.unsqueeze(1)
        made.addcmul_(self._sums(self.rows) - self.rows, total.unsqueeze(1))
        made.add_(self._sums(weighted).sub_(weighted))
