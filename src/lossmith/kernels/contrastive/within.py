"""Sums over the other rows of one labelled set of embeddings, whose similarities are symmetric.

Rows are sorted by group. Pairs of different groups take the upper triangle of the matrix alone.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from lossmith.kernels.contrastive import near
from lossmith.kernels.contrastive.companions import MOST, Bands, Table
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
from lossmith.kernels.contrastive.far import Far
from lossmith.kernels.contrastive.groups import NOBODY, Sorted
from lossmith.kernels.contrastive.near import Near
from lossmith.kernels.contrastive.transform import PLAIN, Transform


class Masses(NamedTuple):
    """Of each row ``(N,)``; without a pair the log masses are near -1e30."""

    others: Tensor  # log-sum-exp over the rows of other groups
    companions: Tensor  # the same over the other rows of its own
    total: Tensor  # the sum of the similarities to companions


def label_masses(
    rows: Tensor,
    group: Tensor,
    others: Transform = PLAIN,
    companions: Transform = PLAIN,
    mining_margin: float | None = None,
) -> Masses:
    """The sums of each row over the others and over its companions.

    ``mining_margin``: only others nearer than the farthest companion, and companions farther than
    the nearest other, by that much at least, count in the masses.
    """
    margin = [] if mining_margin is None else [mining_margin]
    numbers = [*others, *companions, *margin]
    found = evaluate("label_masses", [rows], [group], numbers, entries=len(rows) * len(rows))
    return Masses(*found[:3])


def _parts(numbers: Numbers) -> tuple[Transform, Transform, float | None]:
    size = len(PLAIN)
    others, companions = Transform(*numbers[:size]), Transform(*numbers[size : 2 * size])
    return others, companions, numbers[2 * size] if len(numbers) > 2 * size else None


class _LabelMasses:
    def direct(self, inputs: Tensors, constants: Optionals, numbers: Numbers) -> Tensors:
        (rows,), (group,) = inputs, constants
        assert group is not None
        others, companions, margin = _parts(numbers)
        similarity = rows @ rows.T
        real = (group != NOBODY) & (group != NOBODY).unsqueeze(1)
        same = (group.unsqueeze(1) == group) & real
        apart, same = real & ~same, same & ~torch.ones_like(same).tril().triu()
        total = torch.where(same, similarity, 0.0).sum(dim=1)
        fixed = similarity.detach()
        # The first column is there for the maximum of an empty batch, which has none.
        farthest = _padded(torch.where(same, fixed, -ABSENT), -ABSENT).amin(dim=1)
        nearest = _padded(torch.where(apart, fixed, ABSENT), ABSENT).amax(dim=1)
        if margin is not None:  # a NaN stays
            apart = apart & ~(fixed <= (farthest - margin).unsqueeze(1))
            same = same & ~(fixed >= (nearest + margin).unsqueeze(1))
        masses = [
            _padded(torch.where(pairs, how.of(similarity), ABSENT), ABSENT).logsumexp(dim=1)
            for pairs, how in ((apart, others), (same, companions))
        ]
        return [*masses, total, nearest]

    def forward(
        self, inputs: Tensors, constants: Optionals, numbers: Numbers, hint: Tensor | None
    ) -> tuple[Tensors, Tensors]:
        kept = self.keep(inputs) if hint is not None else []
        batch = _Batch(inputs, constants, numbers)
        values = [torch.full_like(inputs[0][:, 0], ABSENT) for _ in range(4)]
        values[2].zero_()
        if not len(batch.rows):
            return values, kept
        if isinstance(batch.others, Near):
            batch.others.keep(kept)
        apart, nearest = batch.others.sums()
        below = None
        if nearest is not None and batch.margin is not None:
            below = nearest + batch.margin
            values[3][batch.order] = nearest
        pairs = batch.pairs
        for value, made in zip(
            values, (apart, pairs.mass(batch.how, below), pairs.total()), strict=False
        ):
            value[batch.order] = made
        return values, kept

    def backward(
        self,
        inputs: Tensors,
        constants: Optionals,
        numbers: Numbers,
        values: Tensors,
        slopes: Tensors,
    ) -> Tensors:
        return self.backward_of(inputs, constants, numbers, values, slopes, [])

    def keep(self, inputs: Tensors) -> Tensors:
        """Room for the similarities of all pairs, where these are few enough."""
        entries = len(inputs[0]) ** 2
        return [inputs[0].new_empty(entries)] if entries <= SWITCH.kept else []

    def backward_of(
        self,
        inputs: Tensors,
        constants: Optionals,
        numbers: Numbers,
        values: Tensors,
        slopes: Tensors,
        kept: Tensors,
    ) -> Tensors:
        batch = _Batch(inputs, constants, numbers)
        result = torch.zeros_like(inputs[0])
        if not len(batch.rows):
            return [result]
        mass, companions, _, nearest = (value[batch.order] for value in values)
        down, up, total, _ = (slope[batch.order] for slope in slopes)
        below = None if batch.margin is None else nearest + batch.margin
        made = torch.zeros_like(batch.rows)
        others = batch.others
        known = (batch.how, below, companions, up, total)
        if isinstance(others, Near):
            others.keep(kept, made=True)
            others.push(made, mass, down, batch.pairs.push(made, *known, ride=True))
        else:
            batch.pairs.push(made, *known, ride=False)
            others.push(made, mass, down)
        result[batch.order] = made
        return [result]

    def shapes(self, inputs: Tensors) -> Tensors:
        return [torch.empty_like(inputs[0][:, 0]) for _ in range(4)]


def _padded(values: Tensor, value: float) -> Tensor:
    return torch.nn.functional.pad(values, (1, 0), value=value)


class _Batch:
    """The rows that are not masked, by group, with the better way to go over either kind of pair.

    Groups may be small or large, and exponentials of similarities fit as they are or not.
    """

    def __init__(self, inputs: Tensors, constants: Optionals, numbers: Numbers) -> None:
        (group,) = constants
        assert group is not None
        apart, self.how, self.margin = _parts(numbers)
        by_group = Sorted.of(group)
        self.order = by_group.order
        self.rows = rows = inputs[0][self.order]
        if not len(rows):
            return
        largest = by_group.largest
        small = largest <= min(MOST, SWITCH.rows)
        spans = by_group.whole_groups(SWITCH.rows) if small else blocks(len(rows))
        table = Table.of(rows, by_group, largest, spans) if small else None
        self.pairs = Bands(rows, by_group, largest) if table is None else table
        above = None if self.margin is None else self.pairs.farthest() - self.margin
        self.others: Near | Far
        square = near.largest_square(rows, apart)
        if square is not None:
            self.others = Near(rows, by_group, apart, above, table, spans, square)
        else:
            self.others = Far(rows, by_group, apart, above)


statistic("label_masses", _LabelMasses())
