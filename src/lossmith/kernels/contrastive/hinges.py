"""Hinges over the triplets of a labelled batch, by blocks of its distances.

Rows are sorted by group, so that the companions of a row stand side by side; their distances, at
most a group's size for each row, come first. After that every pair of groups' rows is seen once.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from lossmith.kernels.contrastive.engine import (
    ABSENT,
    SWITCH,
    Numbers,
    Optionals,
    Tensors,
    blocks,
    tiles,
)
from lossmith.kernels.contrastive.exclusion import STEEP
from lossmith.kernels.contrastive.groups import Sorted

FAR = -ABSENT
# Up to so many companions, a pass over the block for each is cheaper than to search and to sort.
FEW = 16
# Whole numbers up to here are exact in float32.
EXACT = 1 << 24


class Anchors:
    """Sorted rows with the distances to their companions, and the gradient as it grows."""

    def __init__(self, inputs: Tensors, constants: Optionals, numbers: Numbers) -> None:
        (group,) = constants
        assert group is not None
        self.margin, self.rooted = numbers[0], bool(numbers[1])
        self.sorted = Sorted.of(group)
        self.rows = inputs[0][self.sorted.order]
        self.squares = self.rows.square().sum(dim=1)
        self.made = torch.zeros_like(self.rows)
        count = len(self.rows)
        self.spans = blocks(count)
        first, last = self.sorted.first, self.sorted.last
        here = torch.arange(count, device=first.device).unsqueeze(1)
        width = max(self.sorted.largest - 1, 1)
        place = first.unsqueeze(1) + torch.arange(width, device=first.device)
        place += place >= here  # a row is no companion of its own
        self.there = place < last.unsqueeze(1)
        self.place = torch.where(self.there, place, here)
        self.near = torch.empty_like(self.place, dtype=self.rows.dtype)

    def measure_companions(self) -> None:
        """Distances to companions, where no block holds them anyway."""
        for start, stop in self.spans:
            low, high = self.sorted.band(start, stop)
            band = self.distances(start, stop, low, high)
            self.near[start:stop] = band.gather(1, self.place[start:stop] - low)

    def distances(
        self, start: int, stop: int, low: int, high: int, out: Tensor | None = None
    ) -> Tensor:
        """From rows start..stop to rows low..high."""
        squared = self.squared_distances(start, stop, low, high, out)
        return squared.sqrt_() if self.rooted else squared

    def squared_distances(
        self, start: int, stop: int, low: int, high: int, out: Tensor | None = None
    ) -> Tensor:
        """The same before the root."""
        some, others = self.rows[start:stop], self.rows[low:high]
        squared = torch.addmm(self.squares[low:high], some, others.T, alpha=-2.0, out=out)
        return squared.add_(self.squares[start:stop, None]).clamp_(min=0.0)

    def fill_companions(self, block: Tensor, start: int, stop: int, low: int, value: float) -> None:
        """Write over the pairs of one group, in a block whose columns begin at ``low``."""
        first, last = self.sorted.band(start, stop)
        first, last = max(first, low), min(last, low + block.shape[1])
        if first < last:
            same = self.sorted.group[start:stop, None] == self.sorted.group[first:last]
            block[:, first - low : last - low].masked_fill_(same, value)

    def push(self, slope: Tensor, distance: Tensor, start: int, low: int) -> None:
        """Carry the slope of a block of distances (spoiled on the way) back to the rows."""
        if self.rooted:
            if not bool(distance.amin() > 0):
                distance.masked_fill_(distance == 0, FAR)  # no direction where points coincide
            slope.div_(distance)
        else:
            slope.mul_(2.0)
        stop, high = start + len(slope), low + slope.shape[1]
        some, others = self.rows[start:stop], self.rows[low:high]
        self.made[start:stop].addmm_(slope, others, alpha=-1.0)
        self.made[start:stop].addcmul_(some, slope.sum(dim=1, keepdim=True))
        self.made[low:high].addmm_(slope.T, some, alpha=-1.0)
        self.made[low:high].addcmul_(others, slope.sum(dim=0).unsqueeze(1))

    def push_few(self, slope: Tensor, distance: Tensor, place: Tensor) -> None:
        """The same for a few columns of each row, ``place``."""
        if not place.numel():
            return
        scale = slope / torch.where(distance > 0, distance, FAR) if self.rooted else 2.0 * slope
        self.made.addcmul_(self.rows, scale.sum(dim=1, keepdim=True))
        self.made -= F.embedding_bag(place, self.rows, mode="sum", per_sample_weights=scale)
        # What a row is to those that chose it: pairs by the place they chose.
        chosen, order = place.flatten().sort(stable=True)
        here = torch.arange(len(self.rows), device=place.device)
        weight = scale.flatten()[order]
        self.made.addcmul_(
            self.rows, torch.zeros_like(scale[:, :1]).index_add_(0, chosen, weight[:, None])
        )
        self.made -= F.embedding_bag(
            order // place.shape[1],
            self.rows,
            torch.searchsorted(chosen, here),
            mode="sum",
            per_sample_weights=weight,
        )

    def push_companions(self, slope: Tensor) -> None:
        """Carry the slope of every distance to a companion back to the rows."""
        if slope.shape[1] <= FEW:
            self.push_few(slope, self.near, self.place)
            return
        for start, stop in self.spans:
            place = self.place[start:stop]
            low, high = self.sorted.band(start, stop)
            band = slope.new_zeros(stop - start, high - low)
            band.scatter_add_(1, place - low, slope[start:stop])
            self.push(band, self.distances(start, stop, low, high), start, low)

    def gradient(self, like: Tensor) -> Tensor:
        """The gradient in the order of the batch."""
        result = torch.zeros_like(like)
        result[self.sorted.order] = self.made
        return result

    def spread(self, values: Tensor, count: int) -> Tensor:
        """A value for each row in the order of the batch, 0 for masked rows."""
        result = values.new_zeros(count)
        result[self.sorted.order] = values
        return result


def all_hinges(
    inputs: Tensors, constants: Optionals, numbers: Numbers, hint: Tensor | None
) -> tuple[Tensors, Tensors]:
    """The sum over positives p and negatives n of max(0, D(a, p) - D(a, n) + margin)."""
    anchors = Anchors(inputs, constants, numbers)
    anchors.measure_companions()
    count = len(anchors.rows)
    limit = torch.where(anchors.there, anchors.near + anchors.margin, ABSENT)
    passes = _Passes(limit) if limit.shape[1] <= FEW else _Placed(limit)
    cost, active = limit.new_zeros(count), torch.zeros_like(limit)
    slope = None if hint is None else hint[anchors.sorted.order]
    if count:
        largest = anchors.spans[0][1]
        space = limit.new_empty(3, largest * min(count, 2 * max(largest, SWITCH.columns)))
    for start, stop in anchors.spans:
        size = stop - start
        for low, high in tiles(start, count, size):
            shape = size, high - low
            block, change, room = (s[: size * (high - low)].view(shape) for s in space)
            anchors.distances(start, stop, low, high, out=block)
            anchors.fill_companions(block, start, stop, low, FAR)
            change.zero_()
            passes.rows(block, start, stop, cost, active, slope, change, room)
            # The columns of the strip's own rows were anchors already.
            beyond = max(stop - low, 0)
            if low + beyond < high:
                inner = room.view(-1)[: size * (high - low - beyond)].view(size, -1)
                others = block[:, beyond:], low + beyond
                passes.columns(*others, cost, active, slope, change[:, beyond:], inner)
            if slope is not None:
                anchors.push(change, block, start, low)
    total = anchors.spread(cost, len(inputs[0]))
    if slope is None:
        return [total], []
    anchors.push_companions(active * slope.unsqueeze(1))
    return [total], [anchors.gradient(inputs[0])]


class _Passes:
    """Few positives: for each of them a pass over the block."""

    def __init__(self, limit: Tensor) -> None:
        self.limit = limit

    def rows(
        self,
        block: Tensor,
        start: int,
        stop: int,
        cost: Tensor,
        active: Tensor,
        slope: Tensor | None,
        change: Tensor,
        room: Tensor,
    ) -> None:
        for k in range(self.limit.shape[1]):
            excess = torch.sub(self.limit[start:stop, k, None], block, out=room)
            cost[start:stop] += excess.clamp_(min=0.0).sum(dim=1)
            if slope is not None:
                hit = excess.mul_(STEEP).clamp_(max=1.0)
                active[start:stop, k] += hit.sum(dim=1)
                change.addcmul_(hit, slope[start:stop, None], value=-1.0)

    def columns(
        self,
        block: Tensor,
        start: int,
        cost: Tensor,
        active: Tensor,
        slope: Tensor | None,
        change: Tensor,
        room: Tensor,
    ) -> None:
        stop, ones = start + block.shape[1], block.new_ones(len(block))
        for k in range(self.limit.shape[1]):
            excess = torch.sub(self.limit[start:stop, k], block, out=room)
            cost[start:stop].addmv_(excess.clamp_(min=0.0).T, ones)  # faster than down the columns
            if slope is not None:
                hit = excess.mul_(STEEP).clamp_(max=1.0)
                active[start:stop, k] += hit.T @ ones
                change.addcmul_(hit, slope[start:stop].expand_as(hit), value=-1.0)


class _Placed:
    """Many positives: each negative finds its place among them, and sums from there on."""

    def __init__(self, limit: Tensor) -> None:
        self.limit, self.order = limit.sort(dim=1)
        real = torch.where(self.limit > 0.5 * ABSENT, self.limit, 0.0)
        from_here = real.flip(1).cumsum(1).flip(1)
        self.from_here = torch.nn.functional.pad(from_here, (0, 1))

    def rows(
        self,
        block: Tensor,
        start: int,
        stop: int,
        cost: Tensor,
        active: Tensor,
        slope: Tensor | None,
        change: Tensor,
        room: Tensor,
    ) -> None:
        limit, width = self.limit[start:stop], self.limit.shape[1]
        place = torch.searchsorted(limit, block, right=True)
        beyond = (width - place).to(block.dtype)
        sums = self.from_here[start:stop].gather(1, place)
        cost[start:stop] += sums.sub_(block * beyond).sum(dim=1)
        if slope is None:
            return
        change.addcmul_(beyond, slope[start:stop, None], value=-1.0)
        found = torch.zeros_like(self.from_here[start:stop])
        found.scatter_add_(1, place, torch.ones_like(block))
        here = torch.zeros_like(limit).scatter(
            1, self.order[start:stop], found.cumsum(1)[:, :width]
        )
        active[start:stop] += here

    def columns(
        self,
        block: Tensor,
        start: int,
        cost: Tensor,
        active: Tensor,
        slope: Tensor | None,
        change: Tensor,
        room: Tensor,
    ) -> None:
        turned = block.T.contiguous()
        self.rows(turned, start, start + len(turned), cost, active, slope, change.T, room)


def semi_hard_hinges(
    inputs: Tensors, constants: Optionals, numbers: Numbers, hint: Tensor | None
) -> tuple[Tensors, Tensors]:
    """The sum over positives p of max(0, D(a, p) - D(a, n) + margin), n the semi-hard one."""
    anchors = Anchors(inputs, constants, numbers)
    count, width = anchors.near.shape
    chosen, far = anchors.place.clone(), torch.zeros_like(anchors.near)
    hinge = torch.zeros_like(far)
    slope = None if hint is None else hint[anchors.sorted.order].unsqueeze(1)
    if count:
        space = far.new_empty(2, anchors.spans[0][1], count)
    for start, stop in anchors.spans:
        block, room = space[0, : stop - start], space[1, : stop - start]
        anchors.squared_distances(start, stop, 0, count, out=block)
        place = anchors.place[start:stop]
        near = block.gather(1, place)
        block.scatter_(1, place, FAR).diagonal(offset=start).fill_(FAR)
        here = _few_semi_hard(block, near, room, start) if width <= FEW else _semi_hard(block, near)
        distance = block.gather(1, here)
        missing = distance >= 0.5 * FAR
        if bool(missing.any()):
            room.copy_(block).scatter_(1, place, -1.0).diagonal(offset=start).fill_(-1.0)
            farthest = room.argmax(dim=1, keepdim=True)
            here = torch.where(missing, farthest, here)
            # A row that has no negative finds a companion instead, at FAR: it costs nothing.
            distance = block.gather(1, here)
        if anchors.rooted:
            near, distance = near.sqrt_(), distance.sqrt_()
        chosen[start:stop], far[start:stop], anchors.near[start:stop] = here, distance, near
        hinge[start:stop] = (near - distance + anchors.margin).clamp_(min=0.0)
        hinge[start:stop] *= anchors.there[start:stop]
        if slope is not None and width > FEW:
            step = (hinge[start:stop] > 0).to(near.dtype).mul_(slope[start:stop])
            change = room.zero_().scatter_add_(1, here, -step)
            anchors.push(change, block.sqrt_() if anchors.rooted else block, start, 0)
    total = anchors.spread(hinge.sum(dim=1), len(inputs[0]))
    if slope is None:
        return [total], []
    active = (hinge > 0).to(hinge.dtype).mul_(slope)
    if width <= FEW:
        anchors.push_few(-active, far, chosen)
    anchors.push_companions(active)
    return [total], [anchors.gradient(inputs[0])]


def _few_semi_hard(block: Tensor, near: Tensor, room: Tensor, start: int) -> Tensor:
    itself = torch.arange(start, start + len(block), device=block.device)
    column = torch.arange(block.shape[1], device=block.device, dtype=block.dtype)
    found = []
    for k in range(near.shape[1]):
        # Those nearer than the positive move behind all others.
        torch.lt(block, near[:, k, None], out=room)
        torch.add(block, room, alpha=FAR, out=room)
        nearest = room.amin(dim=1)
        # Where it stands: faster than a minimum that remembers, if it stands once.
        torch.eq(room, nearest[:, None], out=room)
        index = (room @ column).long()
        there = nearest < 0.5 * FAR
        once = (room.sum(dim=1) == 1.0) | ~there
        if not bool(once.all()) or block.shape[1] > EXACT:
            index = room.argmax(dim=1)
        found.append(torch.where(there, index, itself))
    return torch.stack(found, dim=1)


def _semi_hard(block: Tensor, near: Tensor) -> Tensor:
    ordered, order = block.sort(dim=1)
    place = torch.searchsorted(ordered, near.contiguous()).clamp_(max=block.shape[1] - 1)
    return order.gather(1, place)
