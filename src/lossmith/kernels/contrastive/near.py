"""The pairs of different groups where exponentials can be added up as they are.

The upper triangle of the similarities, which are symmetric: a tile of it serves its rows and its
columns. No maximum is taken off, so that a tile takes one product and a few operations each way.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from lossmith.kernels.contrastive.candidates import LOG2_E, SPREAD, log_of
from lossmith.kernels.contrastive.companions import Table
from lossmith.kernels.contrastive.engine import ABSENT, SWITCH, Tensors, tiles
from lossmith.kernels.contrastive.groups import Sorted
from lossmith.kernels.contrastive.transform import Transform

Span = tuple[int, int]


def largest_square(rows: Tensor, how: Transform) -> float | None:
    """The squared length that none of the rows exceeds, where :class:`Near` may take them.

    That is where exponentials of all that similarities may count as stay in float32, and their
    sums. A weighted similarity ``gamma (s - o) (s + o)`` is a square with something taken off, and
    has room for exponents from 0 to twice :data:`SPREAD`, half of which is taken off.
    """
    if how.gamma and not (how.scale == 1.0 and how.origin == -how.centre):
        return None
    largest = float(torch.linalg.vector_norm(rows, dim=1).amax()) ** 2
    exponent = abs(how.scale) * largest
    if how.gamma:
        exponent = 0.5 * how.gamma * max(largest, abs(how.centre)) ** 2
    return largest if exponent <= SPREAD else None  # nor a NaN


class Near:
    """Sums of exponentials over the rows of other groups, and what they make of the gradient."""

    def __init__(
        self,
        rows: Tensor,
        order: Sorted,
        how: Transform,
        above: Tensor | None,
        table: Table | None,
        spans: list[Span],
        largest: float,
    ) -> None:
        self.rows, self.sorted, self.how, self.table = rows, order, how, table
        self.spans = spans
        # Similarities come out of the product as powers of 2, or as roots of them.
        factor = how.gamma * LOG2_E
        self.factor = math.sqrt(factor) if how.gamma else how.scale * LOG2_E
        self.floor = -abs(self.factor * how.centre)
        # Half of the largest square goes, so that exponents lie around 0.
        lift = 0.5 * max(largest * self.factor, -self.floor) ** 2 if how.gamma else 0.0
        self.lift = rows.new_tensor(-lift)
        # What was added to every exponent, as a natural logarithm.
        self.added = ((self.floor**2 if how.gamma else 0.0) - lift) / LOG2_E
        self.above = None if above is None else above * self.factor
        size = max(stop - start for start, stop in spans)
        self._size = size * min(len(rows), max(2 * SWITCH.columns, 2 * size))
        self._spaces: dict[str, Tensor] = {}
        self.kept: Tensor | None = None
        self.made = False

    def space(self, use: str, rows: int, columns: int) -> Tensor:
        """Room for a tile, used again for the next: fresh pages cost more than the arithmetic."""
        if use not in self._spaces or len(self._spaces[use]) < rows * columns:
            self._spaces[use] = self.rows.new_empty(max(self._size, rows * columns))
        return self._spaces[use][: rows * columns].view(rows, columns)

    def keep(self, kept: Tensors, made: bool = False) -> None:
        """Room for all similarities, if there is any, and whether they are in it already."""
        self.kept, self.made = (kept[0] if kept else None), made

    def _tiles(self, start: int, stop: int) -> list[Span]:
        """Of the columns from ``start`` on; the first holds those of the rows themselves."""
        return tiles(start, len(self.rows), stop - start)

    def _product(self, start: int, stop: int, low: int, high: int) -> Tensor:
        some = self.space("values", stop - start, high - low)
        left, right = self.rows[start:stop], self.rows[low:high].T
        if self.kept is None:
            return some.addmm_(left, right, beta=0.0, alpha=self.factor)
        first = start * len(self.rows) + (stop - start) * low
        place = self.kept[first : first + some.numel()].view(some.shape)
        if not self.made:
            place.addmm_(left, right, beta=0.0, alpha=self.factor)
        return some.copy_(place)

    def _fill(self, some: Tensor, start: int, low: int, value: float) -> None:
        """Write over the pairs of one group and each row's own."""
        stop, high = start + len(some), low + some.shape[1]
        if self.table is not None:
            if low == start:
                some.scatter_(1, self.table.place[start:stop] - start, value)
            return
        high = min(high, self.sorted.band(start, stop)[1])
        if high > low:
            same = self.sorted.group[start:stop, None] == self.sorted.group[low:high]
            some[:, : high - low].masked_fill_(same, value)

    def _power(self, some: Tensor) -> Tensor:
        """The exponentials, in place."""
        if self.how.gamma:
            torch.addcmul(self.lift, some, some, out=some)
        return some.exp2_()

    def sums(self) -> tuple[Tensor, Tensor | None]:
        """The log masses, and with a limit the nearest other of each row."""
        mass = self.rows.new_zeros(len(self.rows))
        nearest = None if self.above is None else torch.full_like(mass, ABSENT)
        ones = torch.ones_like(mass)
        for start, stop in self.spans:
            for low, high in self._tiles(start, stop):
                some = self._product(start, stop, low, high)
                beyond = max(stop - low, 0)  # the first column past the strip's own
                if nearest is not None:
                    self._fill(some, start, low, ABSENT)
                    by_row, by_column = self._kept(some, start, low, beyond)
                    here, there = nearest[start:stop], nearest[low + beyond : high]
                    torch.maximum(here, some.amax(dim=1), out=here)
                    if len(there):
                        torch.maximum(there, some[:, beyond:].amax(dim=0), out=there)
                    by_row.mul_(self._power(some))
                    by_column.mul_(some[:, beyond:])
                else:
                    if self.how.gamma:
                        some.clamp_(min=self.floor)
                    by_row = self._power(some)
                    self._fill(some, start, low, 0.0)
                    by_column = some[:, beyond:]
                mass[start:stop] += by_row.sum(dim=1)
                # Faster than to sum down the columns.
                mass[low + beyond : high].addmv_(by_column.T, ones[start:stop])
        if nearest is not None:
            nearest = torch.where(nearest > 0.5 * ABSENT, nearest / self.factor, ABSENT)
        return log_of(mass) - self.added, nearest

    def _kept(self, some: Tensor, start: int, low: int, beyond: int) -> tuple[Tensor, Tensor]:
        """1 where a similarity is above the limit of its row, and above that of its column."""
        assert self.above is not None
        stop, high = start + len(some), low + some.shape[1]
        by_row = self.space("by row", *some.shape)
        torch.gt(some, self.above[start:stop, None], out=by_row)
        by_column = self.space("by column", len(some), some.shape[1] - beyond)
        torch.gt(some[:, beyond:], self.above[low + beyond : high], out=by_column)
        return by_row, by_column

    def push(self, made: Tensor, mass: Tensor, down: Tensor, pairs: Tensor | None) -> None:
        """Add to the gradient of the rows, ``down`` being the slope of each row's log mass.

        ``pairs``: the slopes of the table's similarities, which ride along.
        """
        there = mass > 0.5 * ABSENT
        share = down * torch.where(there, -(mass + self.added), ABSENT).exp()
        # What a tile's numbers are to be multiplied by to be slopes of similarities.
        unit = self.how.scale if not self.how.gamma else self.how.gamma / self.factor
        pairs = None if pairs is None else pairs / unit
        for start, stop in self.spans:
            for low, high in self._tiles(start, stop):
                some = self._slopes(share, start, stop, low, high)
                if pairs is not None and low == start:
                    assert self.table is not None
                    some.scatter_(1, self.table.place[start:stop] - start, pairs[start:stop])
                else:
                    self._fill(some, start, low, 0.0)
                beyond = max(stop - low, 0)
                made[start:stop].addmm_(some, self.rows[low:high], alpha=unit)
                across = some[:, beyond:].T
                made[low + beyond : high].addmm_(across, self.rows[start:stop], alpha=unit)

    def _slopes(self, share: Tensor, start: int, stop: int, low: int, high: int) -> Tensor:
        """Those of a tile's similarities, but for one factor and for pairs of one group."""
        some = self._product(start, stop, low, high)
        factor = self.space("by row", *some.shape)
        up, across = share[start:stop, None], share[low:high]
        if self.above is not None:
            # Of no row twice: within the strip's own rows each pair stands on both sides.
            factor, by_column = self._kept(some, start, low, 0)
            factor.mul_(up).addcmul_(by_column, across.expand_as(by_column))
            return self._power(some).mul_(factor)
        if self.how.gamma:
            some.clamp_(min=self.floor)
            torch.sub(some, self.floor, out=factor)
            self._power(some).mul_(factor)
        else:
            self._power(some)
        return some.mul_(torch.add(up, across, out=factor))
