"""Hinge costs of all pairs of different grade: one sort, then O(n) for each bit of the grades.

Two different grades first differ at some bit. So all pairs are met once by going through the
bits from the highest: among the items that agree in the bits above, those with a one are more
relevant than those with a zero. A stable partition by each bit in turn (a wavelet matrix) keeps
such items together and in the order of their scores, and "the items above this score" is a
range whose ends move along by counting.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from lossmith.kernels.sorted_lists import SortedLists


@dataclass(frozen=True)
class _Ranges:
    """For each item, ranges of the items that agree with it so far in the bits of their grade."""

    first: Tensor  # where they begin
    last: Tensor  # where they end
    above: Tensor  # from here on they would violate, were they less relevant
    below: Tensor  # up to here they would be violated, were they more relevant

    def all(self) -> tuple[Tensor, ...]:
        return self.first, self.last, self.above, self.below

    def among(self, index: Tensor) -> _Ranges:
        return _Ranges(*(_at(position, index) for position in self.all()))

    def moved(self, ones: Tensor, zeros: int | None) -> _Ranges:
        """Behind the partition: among the ones, which follow the zeros; or, for None, the zeros."""
        before = [_at(ones, position) for position in self.all()]
        if zeros is None:
            return _Ranges(*(p - b for p, b in zip(self.all(), before, strict=True)))
        return _Ranges(*(b + zeros for b in before))

    def then(self, other: _Ranges) -> _Ranges:
        return _Ranges(*map(torch.cat, zip(self.all(), other.all(), strict=True)))


def violators(lists: SortedLists, margin: float) -> tuple[Tensor, Tensor]:
    """For each item, where the scores above its own less the margin begin, and whom it is above."""
    size = int((lists.end - lists.start).max()) if len(lists.row) else 0
    place = torch.arange(len(lists.row), device=lists.row.device)
    rows, width = lists.shape[0], max(size, 1)
    table = lists.scores.new_full((rows, width), torch.inf)
    table[lists.row, place - lists.start] = lists.scores
    above = torch.searchsorted(table, table - margin, right=True)
    # By counting, so that both agree about every pair whatever the rounding.
    index = torch.arange(width, device=table.device).expand(rows, width).contiguous()
    below = torch.searchsorted(above, index, right=True)
    inside = (lists.row, place - lists.start)
    above = torch.minimum(above[inside] + lists.start, lists.end)
    return above, below[inside] + lists.start


def ordered_sums(
    lists: SortedLists, level: Tensor, above: Tensor, below: Tensor, margin: float, squared: bool
) -> tuple[Tensor, Tensor]:
    """What each item adds to the costs of its list, and the gradient.

    A cost that is homogeneous in (scores, margin) is the sum of these times their gradients, so
    the counts of the violating pairs (and for squares the sums of their scores) are all it takes.
    """
    centred = lists.scores - _middle(lists)
    scores = centred
    gradient = torch.zeros_like(centred)
    pull = torch.zeros_like(centred)  # of the margin, on the more relevant item
    ranges = _Ranges(lists.start, lists.end, above, below)
    order = torch.arange(len(level), device=level.device)
    bits = int(level.max()).bit_length() if len(level) else 0
    for place in reversed(range(bits)):
        bit = level.index_select(0, order) >> place & 1
        ones = _before(bit)
        less, more = (1 - bit).nonzero().squeeze(-1), bit.nonzero().squeeze(-1)
        partition = torch.cat([less, more])
        # Where the ranges lie after the partition, among the items with the same bit.
        old_less, old_more = ranges.among(less), ranges.among(more)
        new_less, new_more = old_less.moved(ones, None), old_more.moved(ones, len(less))
        # What left the ranges is on the other side of a pair.
        cost_less = _lost(old_less.first, old_less.below, new_less.first, new_less.below)
        cost_more = _lost(old_more.above, old_more.last, new_more.above, new_more.last)
        cost_less, cost_more = cost_less.to(scores.dtype), cost_more.to(scores.dtype)
        if squared:
            of_more, of_less = _before(scores * bit), _before(scores * (1 - bit))
            theirs = _at(of_more, old_less.below) - _at(of_more, old_less.first)
            cost_less = 2.0 * (cost_less * (margin + _at(scores, less)) - theirs)
            theirs = _at(of_less, old_more.last) - _at(of_less, old_more.above)
            cost_more = 2.0 * (cost_more * (margin - _at(scores, more)) + theirs)
            scores = _at(scores, partition)
        gradient = torch.cat([_at(gradient, less) + cost_less, _at(gradient, more) - cost_more])
        pull = torch.cat([_at(pull, less), _at(pull, more) + cost_more])
        ranges = new_less.then(new_more)
        order = _at(order, partition)
    gradient, pull = (torch.empty_like(x).scatter_(0, order, x) for x in (gradient, pull))
    share = centred * gradient + margin * pull
    return share / 2.0 if squared else share, gradient


def _lost(old_begin: Tensor, old_end: Tensor, new_begin: Tensor, new_end: Tensor) -> Tensor:
    return (old_end - old_begin) - (new_end - new_begin)


def _at(values: Tensor, index: Tensor) -> Tensor:
    """``values[index]``, several times faster."""
    return values.index_select(0, index)


def _before(values: Tensor) -> Tensor:
    """The sum of what stands before each position, and at the end of all."""
    return torch.cat([values.new_zeros(1), values.cumsum(0)])


def _middle(lists: SortedLists) -> Tensor:
    """The median of each list: a mean would follow a single score far away."""
    return lists.scores[(lists.start + lists.end) // 2] if len(lists.row) else lists.scores
