"""Triplets of a labelled batch: the hardest of each anchor, and the hinge of all of them.

Distances come as ``D^2 = |a|^2 + |b|^2 - 2 a b`` from one matrix product; rows are sorted by group,
so that the positives of a row stand side by side.
"""

from __future__ import annotations

import torch
from torch import Tensor

from lossmith.core.numerics import euclidean_from_squared, full_precision
from lossmith.core.validate import under_transform
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
from lossmith.kernels.contrastive.groups import NOBODY, Sorted
from lossmith.kernels.contrastive.hinges import FAR, all_hinges, semi_hard_hinges


def hardest(rows: Tensor, group: Tensor) -> tuple[Tensor, Tensor]:
    """The farthest companion and the nearest other of each row, by euclidean distance.

    A row without one gets some row: the sizes of the groups say where.
    """
    rows = rows.detach()
    if len(rows) ** 2 < SWITCH.entries or under_transform(rows):
        with full_precision(rows):
            return _hardest_direct(rows, group)
    found: tuple[Tensor, Tensor] = torch.ops.lossmith.hardest_triplets(rows, group)
    return found


def _hardest_direct(rows: Tensor, group: Tensor) -> tuple[Tensor, Tensor]:
    nearness = _order(rows, rows.T, rows.square().sum(dim=-1))
    real = group != NOBODY
    same = (group.unsqueeze(1) == group) & real
    others = torch.where(same | ~real, torch.full_like(nearness, ABSENT), nearness)
    alone = torch.ones_like(same).tril().triu()
    companions = torch.where(same & ~alone, nearness, torch.full_like(nearness, FAR))
    if not len(rows):
        return torch.zeros_like(group), torch.zeros_like(group)
    return companions.argmin(dim=1), others.argmax(dim=1)


def _order(some: Tensor, columns: Tensor, squares: Tensor) -> Tensor:
    """What orders the columns of a row from far to near: 2 a b - |b|^2."""
    return torch.addmm(squares, some, columns, beta=-1.0, alpha=2.0)


def _hardest_blocks(rows: Tensor, group: Tensor) -> tuple[Tensor, Tensor]:
    with full_precision(rows):
        ordered = Sorted.of(group)
        sorted_rows = rows[ordered.order]
        squares = sorted_rows.square().sum(dim=-1)
        positive, negative = torch.zeros_like(group), torch.zeros_like(group)
        for start, stop in blocks(len(sorted_rows)):
            nearness = _order(sorted_rows[start:stop], sorted_rows.T, squares)
            low, high = ordered.band(start, stop)
            band = nearness[:, low:high].clone()
            same = ordered.group[start:stop, None] == ordered.group[low:high]
            nearness[:, low:high].masked_fill_(same, ABSENT)
            band.masked_fill_(~same, FAR).diagonal(offset=start - low).fill_(FAR)
            here = ordered.order[start:stop]
            positive[here] = ordered.order[low + band.argmin(dim=1)]
            negative[here] = ordered.order[nearness.argmax(dim=1)]
        return positive, negative


_operator = torch.library.custom_op(
    "lossmith::hardest_triplets",
    _hardest_blocks,
    mutates_args=(),
    schema="(Tensor rows, Tensor group) -> (Tensor, Tensor)",
)


@_operator.register_fake
def _(rows: Tensor, group: Tensor) -> tuple[Tensor, Tensor]:
    return torch.empty_like(group), torch.empty_like(group)


def batch_all_cost(
    rows: Tensor, group: Tensor, margin: float, rooted: bool, hint: Tensor
) -> Tensor:
    """The sum over all triplets of an anchor of max(0, D(a, p) - D(a, n) + margin).

    D is the euclidean distance if ``rooted``, else its square.
    """
    return _hinges("batch_all_triplets", rows, group, margin, rooted, hint)


def semi_hard_cost(
    rows: Tensor, group: Tensor, margin: float, rooted: bool, hint: Tensor
) -> Tensor:
    """The same with one negative for each positive: the nearest that is not nearer than it, or
    the farthest of all.
    """
    return _hinges("semi_hard_triplets", rows, group, margin, rooted, hint)


def _hinges(
    name: str, rows: Tensor, group: Tensor, margin: float, rooted: bool, hint: Tensor
) -> Tensor:
    # The direct form holds every triple of rows.
    (cost,) = evaluate(
        name, [rows], [group], [margin, float(rooted)], entries=len(rows) ** 3, hint=hint
    )
    return cost


class _Triplets:
    def _parts(
        self, inputs: Tensors, constants: Optionals, numbers: Numbers
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Distances, and which pairs are positive and negative."""
        (rows,), (group,) = inputs, constants
        assert group is not None
        squares = rows.square().sum(dim=-1)
        squared = torch.addmm(squares, rows, rows.T, alpha=-2.0) + squares.unsqueeze(1)
        squared = squared.clamp(min=0.0)
        distance = euclidean_from_squared(squared) if numbers[1] else squared
        real = (group != NOBODY) & (group != NOBODY).unsqueeze(1)
        same = (group.unsqueeze(1) == group) & real
        return distance, same & ~torch.ones_like(same).tril().triu(), ~same & real

    def shapes(self, inputs: Tensors) -> Tensors:
        return [torch.empty_like(inputs[0][:, 0])]


class _BatchAll(_Triplets):
    def direct(self, inputs: Tensors, constants: Optionals, numbers: Numbers) -> Tensors:
        distance, positive, negative = self._parts(inputs, constants, numbers)
        hinge = (distance.unsqueeze(2) - distance.unsqueeze(1) + numbers[0]).relu()
        counted = positive.unsqueeze(2) & negative.unsqueeze(1)
        return [torch.where(counted, hinge, 0.0).sum(dim=(1, 2))]

    def forward(
        self, inputs: Tensors, constants: Optionals, numbers: Numbers, hint: Tensor | None
    ) -> tuple[Tensors, Tensors]:
        return all_hinges(inputs, constants, numbers, hint)

    def backward(
        self,
        inputs: Tensors,
        constants: Optionals,
        numbers: Numbers,
        values: Tensors,
        slopes: Tensors,
    ) -> Tensors:
        return all_hinges(inputs, constants, numbers, slopes[0])[1]


class _SemiHard(_Triplets):
    def direct(self, inputs: Tensors, constants: Optionals, numbers: Numbers) -> Tensors:
        distance, positive, negative = self._parts(inputs, constants, numbers)
        if not len(distance):
            return [distance.sum(dim=1)]
        fixed = distance.detach()
        # (anchor, positive, candidate)
        enough = negative.unsqueeze(1) & (fixed.unsqueeze(1) >= fixed.unsqueeze(2))
        found = torch.where(
            enough, fixed.unsqueeze(1), torch.full_like(enough, FAR, dtype=fixed.dtype)
        )
        farthest = torch.where(negative, fixed, torch.full_like(fixed, -1.0)).argmax(dim=1)
        chosen = torch.where(enough.any(dim=2), found.argmin(dim=2), farthest.unsqueeze(1))
        hinge = (distance - distance.gather(1, chosen) + numbers[0]).relu()
        counted = positive & negative.any(dim=1, keepdim=True)
        return [torch.where(counted, hinge, 0.0).sum(dim=1)]

    def forward(
        self, inputs: Tensors, constants: Optionals, numbers: Numbers, hint: Tensor | None
    ) -> tuple[Tensors, Tensors]:
        return semi_hard_hinges(inputs, constants, numbers, hint)

    def backward(
        self,
        inputs: Tensors,
        constants: Optionals,
        numbers: Numbers,
        values: Tensors,
        slopes: Tensors,
    ) -> Tensors:
        return semi_hard_hinges(inputs, constants, numbers, slopes[0])[1]


statistic("batch_all_triplets", _BatchAll())
statistic("semi_hard_triplets", _SemiHard())
