"""Triplets of a labelled batch: the hardest of each anchor, and the hinge of all of them.

Distances come as ``D^2 = |a|^2 + |b|^2 - 2 a b`` from one matrix product; rows are sorted by group,
so that the positives of a row stand side by side.
"""

from __future__ import annotations

import torch
from torch import Tensor

from lossmith.core.numerics import full_precision
from lossmith.core.validate import under_transform
from lossmith.kernels.contrastive.engine import (
    ABSENT,
    SWITCH,
    blocks,
)
from lossmith.kernels.contrastive.groups import NOBODY, Sorted

FAR = -ABSENT


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
        for start, stop in blocks(len(sorted_rows), len(sorted_rows), rows):
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
