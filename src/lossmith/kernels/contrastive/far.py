"""The pairs of different groups where the largest of a row goes before any exponential.

The upper triangle of the similarities, which are symmetric, in strips: each serves its rows and its
columns.
"""

from __future__ import annotations

import torch
from torch import Tensor

from lossmith.kernels.contrastive.candidates import middle_of
from lossmith.kernels.contrastive.engine import ABSENT, blocks
from lossmith.kernels.contrastive.exclusion import STEEP
from lossmith.kernels.contrastive.groups import Sorted
from lossmith.kernels.contrastive.transform import Transform


class Far:
    """Log-sum-exps over the rows of other groups, and what they make of the gradient."""

    def __init__(self, rows: Tensor, order: Sorted, how: Transform, above: Tensor | None) -> None:
        self.sorted, self.rows, self.how = order, rows, how
        self.above = None if above is None else above * how.scale
        self.spans = blocks(len(rows))
        self._spaces: dict[str, Tensor] = {}

    def space(self, use: str, rows: int, columns: int) -> Tensor:
        """Room for a block, used again for the next: fresh pages cost more than the arithmetic."""
        if use not in self._spaces:
            self._spaces[use] = self.rows.new_empty(self.spans[0][1] * len(self.rows))
        return self._spaces[use][: rows * columns].view(rows, columns)

    def values(self, start: int, stop: int) -> tuple[Tensor, Tensor | None]:
        """What rows start..stop and the columns from start on count as, and its slope."""
        some = self.space("values", stop - start, len(self.rows) - start)
        torch.mm(self.rows[start:stop], self.rows[start:].T, out=some)
        room = some if self.how.gamma == 0.0 else self.space("slope", *some.shape)
        slope = self.how.apply(some, room)
        end = self.sorted.band(start, stop)[1]
        group = self.sorted.group
        together = group[start:stop, None] == group[start:end]
        some[:, : end - start].masked_fill_(together, ABSENT)
        return some, slope

    def sums(self) -> tuple[Tensor, Tensor | None]:
        """The log masses, and with a limit the nearest other of each row."""
        mass, largest = self.rows.new_full((2, len(self.rows)), ABSENT)
        for start, stop in self.spans:
            some, _ = self.values(start, stop)
            top = some.amax(dim=1)
            largest[start:stop] = torch.maximum(largest[start:stop], top)
            beyond = some[:, stop - start :].amax(dim=0)
            largest[stop:] = torch.maximum(largest[stop:], beyond)
            found, below = self.log_sums(some, top, start, stop)
            mass[start:stop] = torch.logaddexp(mass[start:stop], found)
            mass[stop:] = torch.logaddexp(mass[stop:], below)
        if self.above is None:
            return mass, None
        return mass, torch.where(largest > 0.5 * ABSENT, largest / self.how.scale, ABSENT)

    def push(self, made: Tensor, mass: Tensor, slope: Tensor) -> None:
        """Add to the gradient of the rows, ``slope`` being that of each row's log mass."""
        rows = self.rows
        there = mass > 0.5 * ABSENT
        mass = torch.where(there, mass, STEEP)
        middle, together = middle_of(mass)
        # A row whose own sum is empty may still count for a column when limits differ.
        together = together and (self.above is None or bool(there.all()))
        lift = torch.where(there, (mass - middle).exp(), 0.0)
        down = slope * (middle - mass).exp()
        found = torch.zeros_like(rows)
        for start, stop in self.spans:
            some, change = self.values(start, stop)
            if together:
                factor = self.factor(some, slope, lift, down, start, stop)
                some.sub_(mass[start:stop, None]).exp_().mul_(factor)
            else:
                some = self.separately(some, mass, slope, start, stop)
            if change is not None:
                some.mul_(change)
            found[start:stop].addmm_(some, rows[start:])
            found[stop:].addmm_(some[:, stop - start :].T, rows[start:stop])
        made.add_(found, alpha=self.how.constant)

    def log_sums(self, some: Tensor, top: Tensor, start: int, stop: int) -> tuple[Tensor, Tensor]:
        """log-sum-exp of each row of a strip, and of the columns past the strip's own rows."""
        size, above = stop - start, self.above
        highest = top.amax()
        scale = (top - highest).exp()
        if above is None:
            mass = some.sub_(top.unsqueeze(1)).exp_()
            found, below = mass.sum(dim=1), mass[:, size:].T @ scale
            certain = below
        else:
            mass = self.space("mass", *some.shape)
            torch.sub(some, top.unsqueeze(1), out=mass).exp_()
            certain = mass[:, size:].T @ scale
            kept = self.space("kept", *some.shape)
            found = _step(some, above[start:stop, None], kept).mul_(mass).sum(dim=1)
            below = _step(some, above[start:], kept).mul_(mass)[:, size:].T @ scale
        if bool((certain > 1e-28).all()):
            return top + found.log(), highest + below.log()
        some = self.values(start, stop)[0]
        if above is not None:
            some = torch.where(some > above[start:], some, ABSENT)
        return top + found.log(), some[:, size:].logsumexp(dim=0)

    def factor(
        self, some: Tensor, slope: Tensor, lift: Tensor, down: Tensor, start: int, stop: int
    ) -> Tensor:
        """What the row's share of each value, exp(value - its log mass), is to be multiplied by."""
        up, out = slope[start:stop, None], self.space("kept", *some.shape)
        if self.above is None:
            return torch.mul(lift[start:stop, None], down[start:], out=out).add_(up)
        by_column = self.space("mass", *some.shape)
        _step(some, self.above[start:stop, None], out).mul_(up)
        _step(some, self.above[start:], by_column).mul_(down[start:])
        return out.addcmul_(by_column, lift[start:stop, None])

    def separately(
        self, some: Tensor, mass: Tensor, slope: Tensor, start: int, stop: int
    ) -> Tensor:
        """The slope of each value, with one exponential for rows and one for columns."""
        by_row = torch.sub(some, mass[start:stop, None], out=self.space("mass", *some.shape))
        by_row.exp_().mul_(slope[start:stop, None])
        kept = self.space("kept", *some.shape)
        if self.above is not None:
            by_row.mul_(_step(some, self.above[start:stop, None], kept))
            _step(some, self.above[start:], kept).mul_(slope[start:])
            return by_row.addcmul_(some.sub_(mass[start:]).exp_(), kept)
        return by_row.addcmul_(some.sub_(mass[start:]).exp_(), slope[start:].expand_as(some))


def _step(values: Tensor, limit: Tensor, out: Tensor) -> Tensor:
    """1 where a value is above the limit and 0 elsewhere, by arithmetic."""
    return torch.sub(values, limit, out=out).mul_(STEEP).clamp_(0.0, 1.0)
