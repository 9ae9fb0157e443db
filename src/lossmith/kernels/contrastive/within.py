"""Sums over the other rows of one set of embeddings, whose similarities are symmetric.

Pairs of different groups take the upper triangle of the matrix alone: each block of it serves its
rows and its columns. Pairs of one group lie in a band once rows are sorted by group.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from lossmith.kernels.contrastive.candidates import LOG2_E, bounded, log_of, middle_of
from lossmith.kernels.contrastive.engine import (
    ABSENT,
    SWITCH,
    Numbers,
    Optionals,
    Tensors,
    blocks,
    evaluate,
    statistic,
)
from lossmith.kernels.contrastive.exclusion import STEEP
from lossmith.kernels.contrastive.groups import NOBODY, Sorted

Span = tuple[int, int]


class Transform(NamedTuple):
    """What a similarity counts as: ``s``, ``- s``, or ``sign gamma [sign (s - o)]+ (s - c)``.

    The last is the circle loss's, whose factor in brackets is a weight without a gradient.
    """

    sign: float = 1.0
    gamma: float = 0.0  # 0: no weight
    origin: float = 0.0
    centre: float = 0.0

    def of(self, similarity: Tensor) -> Tensor:
        """The differentiable form."""
        if self.gamma == 0.0:
            return self.sign * similarity
        weight = (self.sign * self.gamma * (similarity.detach() - self.origin)).relu()
        return self.sign * weight * (similarity - self.centre)

    def apply(self, similarity: Tensor, out: Tensor) -> Tensor | None:
        """The form in place; the slope in ``out``, or None for the constant ``sign``."""
        if self.gamma == 0.0:
            if self.sign != 1.0:
                similarity.neg_()
            return None
        slope = torch.sub(similarity, self.origin, out=out)
        slope.mul_(self.sign * self.gamma).clamp_(min=0.0)
        if self.sign != 1.0:
            slope.neg_()
        similarity.sub_(self.centre).mul_(slope)
        return slope


PLAIN = Transform()


def log_mass_of_others(
    rows: Tensor, group: Tensor, transform: Transform = PLAIN, above: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """log-sum-exp over rows of other groups, ``(N,)``, and their largest value (no gradient).

    ``above``: only values above this limit of the row count in the sum.
    """
    return _evaluate("mass_of_others", rows, group, transform, above)


def log_mass_of_companions(
    rows: Tensor, group: Tensor, transform: Transform = PLAIN, above: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """The same over the other rows of a row's own group."""
    return _evaluate("mass_of_companions", rows, group, transform, above)


def _evaluate(
    name: str, rows: Tensor, group: Tensor, transform: Transform, above: Tensor | None
) -> tuple[Tensor, Tensor]:
    mass, largest = evaluate(
        name, [rows], [group, above], list(transform), entries=len(rows) * len(rows)
    )
    return mass, largest.detach()


class _Masses:
    same: bool

    def direct(self, inputs: Tensors, constants: Optionals, numbers: Numbers) -> Tensors:
        (rows,), (group, above) = inputs, constants
        assert group is not None
        values = Transform(*numbers).of(rows @ rows.T)
        real = group != NOBODY
        pairs = (group.unsqueeze(1) == group) == self.same
        pairs = pairs & real & real.unsqueeze(1) & ~torch.ones_like(pairs).tril().triu()
        values = torch.where(pairs, values, torch.full_like(values, ABSENT))
        # The first column is there for the maximum of an empty batch, which has none.
        values = torch.nn.functional.pad(values, (1, 0), value=ABSENT)
        largest = values.detach().amax(dim=1)
        if above is not None:
            kept = ~(values <= above.unsqueeze(1))  # a NaN stays
            values = torch.where(kept, values, torch.full_like(values, ABSENT))
        return [values.logsumexp(dim=1), largest]

    def shapes(self, inputs: Tensors) -> Tensors:
        return [torch.empty_like(inputs[0][:, 0]) for _ in range(2)]


class _Others(_Masses):
    same = False

    def forward(
        self, inputs: Tensors, constants: Optionals, numbers: Numbers, hint: Tensor | None
    ) -> tuple[Tensors, Tensors]:
        triangle = _Triangle.of(inputs, constants, numbers)
        mass, largest = triangle.near_sums() if triangle.near else triangle.far_sums()
        values = inputs[0].new_full((2, len(inputs[0])), ABSENT)
        values[0][triangle.order], values[1][triangle.order] = mass, largest
        return [values[0].clone(), values[1].clone()], []

    def backward(
        self,
        inputs: Tensors,
        constants: Optionals,
        numbers: Numbers,
        values: Tensors,
        slopes: Tensors,
    ) -> Tensors:
        triangle = _Triangle.of(inputs, constants, numbers)
        rows, order = triangle.rows, triangle.order
        mass, slope = values[0][order], slopes[0][order]
        there = mass > 0.5 * ABSENT
        if triangle.near:
            result = torch.zeros_like(inputs[0])
            result[order] = triangle.near_slope(slope * torch.where(there, -mass, ABSENT).exp())
            return [result]
        mass = torch.where(there, mass, STEEP)
        middle, together = middle_of(mass)
        # A row whose own sum is empty may still count for a column when limits differ.
        together = together and (triangle.above is None or bool(there.all()))
        lift = torch.where(there, (mass - middle).exp(), 0.0)
        down = slope * (middle - mass).exp()
        made = torch.zeros_like(rows)
        for start, stop in triangle.spans:
            some, change = triangle.values(start, stop)
            if together:
                factor = triangle.factor(some, slope, lift, down, start, stop)
                some.sub_(mass[start:stop, None]).exp_().mul_(factor)
            else:
                some = triangle.separately(some, mass, slope, start, stop)
            if change is not None:
                some.mul_(change)
            made[start:stop].addmm_(some, rows[start:])
            made[stop:].addmm_(some[:, stop - start :].T, rows[start:stop])
        result = torch.zeros_like(inputs[0])
        sign = 1.0 if triangle.transform.gamma else triangle.transform.sign
        result[order] = made.mul_(sign)
        return [result]


class _Triangle:
    """The upper triangle of the similarities, in strips."""

    def __init__(self, rows: Tensor, group: Tensor, above: Tensor | None, how: Transform) -> None:
        self.sorted = Sorted.of(group)
        self.order = self.sorted.order
        self.rows = rows[self.order]
        self.above = None if above is None else above[self.order]
        self.transform = how
        self.spans = blocks(len(self.rows))
        # Exponentials of plain similarities are added up as they are where none is large.
        self.near = how == PLAIN and above is None and len(self.rows) > 0
        self.near = self.near and bounded(self.rows, self.rows, None)
        self.left = self.rows * LOG2_E if self.near else self.rows
        self._spaces: dict[str, Tensor] = {}

    @staticmethod
    def of(inputs: Tensors, constants: Optionals, numbers: Numbers) -> _Triangle:
        assert constants[0] is not None
        return _Triangle(inputs[0], constants[0], constants[1], Transform(*numbers))

    def space(self, use: str, rows: int, columns: int) -> Tensor:
        """Room for a block, used again for the next: fresh pages cost more than the arithmetic."""
        if use not in self._spaces:
            self._spaces[use] = self.rows.new_empty(self.spans[0][1] * len(self.rows))
        return self._spaces[use][: rows * columns].view(rows, columns)

    def values(self, start: int, stop: int) -> tuple[Tensor, Tensor | None]:
        """What rows start..stop and the columns from start on count as, and its slope."""
        some = self.space("values", stop - start, len(self.rows) - start)
        torch.mm(self.left[start:stop], self.rows[start:].T, out=some)
        room = some if self.transform.gamma == 0.0 else self.space("slope", *some.shape)
        slope = self.transform.apply(some, room)
        end = self.sorted.band(start, stop)[1]
        group = self.sorted.group
        together = group[start:stop, None] == group[start:end]
        some[:, : end - start].masked_fill_(together, ABSENT)
        return some, slope

    def near_sums(self) -> tuple[Tensor, Tensor]:
        """The log masses, and the largest value of each row."""
        mass, largest = self.rows.new_zeros(2, len(self.rows))
        ones = torch.ones_like(mass)
        for start, stop in self.spans:
            some = self.values(start, stop)[0].exp2_()
            below = some[:, stop - start :]
            mass[start:stop] += some.sum(dim=1)
            mass[stop:] += below.T @ ones[start:stop]  # faster than to sum down the columns
            largest[start:stop] = torch.maximum(largest[start:stop], some.amax(dim=1))
            largest[stop:] = torch.maximum(largest[stop:], below.amax(dim=0))
        return log_of(mass), log_of(largest)

    def near_slope(self, share: Tensor) -> Tensor:
        """The gradient of the rows, ``share`` being the slope of each row's mass."""
        made = torch.zeros_like(self.rows)
        for start, stop in self.spans:
            some = self.values(start, stop)[0].exp2_()
            factor = self.space("kept", *some.shape)
            some.mul_(torch.add(share[start:stop, None], share[start:], out=factor))
            made[start:stop].addmm_(some, self.rows[start:])
            made[stop:].addmm_(some[:, stop - start :].T, self.rows[start:stop])
        return made

    def far_sums(self) -> tuple[Tensor, Tensor]:
        """The same, with the largest of each row taken off before the exponential."""
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
        return mass, largest

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


class _Companions(_Masses):
    same = True

    def forward(
        self, inputs: Tensors, constants: Optionals, numbers: Numbers, hint: Tensor | None
    ) -> tuple[Tensors, Tensors]:
        band = _Band(inputs, constants, numbers)
        mass = inputs[0].new_full((len(inputs[0]),), ABSENT)
        largest = mass.clone()
        for start, stop in band.spans:
            some, _, _ = band.values(start, stop)
            here = band.sorted.order[start:stop]
            largest[here] = some.amax(dim=1)
            mass[here] = band.limit(some, start, stop).logsumexp(dim=1)
        return [mass, largest], []

    def backward(
        self,
        inputs: Tensors,
        constants: Optionals,
        numbers: Numbers,
        values: Tensors,
        slopes: Tensors,
    ) -> Tensors:
        band = _Band(inputs, constants, numbers)
        order = band.sorted.order
        mass, slope = values[0][order].unsqueeze(1), slopes[0][order].unsqueeze(1)
        mass = torch.where(mass > 0.5 * ABSENT, mass, STEEP)
        made = torch.zeros_like(band.rows)
        for start, stop in band.spans:
            some, change, (low, high) = band.values(start, stop)
            some = band.limit(some, start, stop)
            some = some.sub_(mass[start:stop]).exp_().mul_(slope[start:stop])
            some.mul_(band.transform.sign if change is None else change)
            made[start:stop].addmm_(some, band.rows[low:high])
            made[low:high].addmm_(some.T, band.rows[start:stop])
        result = torch.zeros_like(inputs[0])
        result[order] = made
        return [result]


class _Band:
    """The pairs within a group, block by block of sorted rows."""

    ROWS = 32

    def __init__(self, inputs: Tensors, constants: Optionals, numbers: Numbers) -> None:
        group, above = constants
        assert group is not None
        self.sorted = Sorted.of(group)
        self.rows = inputs[0][self.sorted.order]
        self.above = None if above is None else above[self.sorted.order]
        self.transform = Transform(*numbers)
        count = len(self.rows)
        # As many rows as a group: more would be compared in vain, fewer make small products.
        largest = int((self.sorted.last - self.sorted.first).amax()) if count else 0
        step = min(max(self.ROWS, largest), SWITCH.rows)
        self.spans = [(start, min(start + step, count)) for start in range(0, count, step)]

    def values(self, start: int, stop: int) -> tuple[Tensor, Tensor | None, Span]:
        """What companions count as, ABSENT for others and for the row itself; its slope; where."""
        low, high = self.sorted.band(start, stop)
        some = self.rows[start:stop] @ self.rows[low:high].T
        slope = self.transform.apply(some, torch.empty_like(some))
        group = self.sorted.group
        some.masked_fill_(group[start:stop, None] != group[low:high], ABSENT)
        some.diagonal(offset=start - low).fill_(ABSENT)
        return some, slope, (low, high)

    def limit(self, some: Tensor, start: int, stop: int) -> Tensor:
        """The values with those not above the row's limit taken out."""
        if self.above is None:
            return some
        return some.masked_fill_(some <= self.above[start:stop, None], ABSENT)


statistic("mass_of_others", _Others())
statistic("mass_of_companions", _Companions())
