"""Lists laid end to end, each in the order of its scores: the form that the fast sums work on."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

# Infinite scores stand at the ends of this range, whose square times 1e6 is still a float64.
LARGEST = 1e140


@dataclass(frozen=True)
class SortedLists:
    """The items of all lists as one row, list after list, each ascending by score."""

    scores: Tensor  # [N], float64
    row: Tensor  # [N], the list of each
    start: Tensor  # [N], where its list begins
    end: Tensor  # [N], and ends
    place: Tensor  # [N], where it stood in the flattened input
    broken: Tensor  # [R], lists with a NaN among their scores
    shape: torch.Size  # [R, n], that of the input

    def spread(self, values: Tensor, dtype: torch.dtype) -> Tensor:
        """One value per item, back where the items stood; NaN throughout a broken list."""
        out = torch.zeros(self.shape.numel(), dtype=values.dtype, device=values.device)
        out = out.scatter(0, self.place, values).reshape(self.shape)
        return torch.where(self.broken.unsqueeze(-1), torch.nan, out).to(dtype)

    def total(self, values: Tensor, dtype: torch.dtype) -> Tensor:
        """The sum of one value per item over each list; NaN for a broken one."""
        out = sum_by(self.row, values, self.shape[0])
        return torch.where(self.broken, torch.nan, out).to(dtype)


def sort_lists(scores: Tensor, items: Tensor) -> SortedLists:
    """Lay out the items of lists ``[R, n]``; a NaN takes any place and marks its list."""
    broken = (scores.isnan() & items).any(dim=-1)
    finite = torch.where(items, scores.nan_to_num(nan=0.0), torch.inf)
    ordered, order = finite.sort(dim=-1)
    count = items.sum(dim=-1)
    n = scores.shape[-1]
    real = torch.arange(n, device=scores.device) < count.unsqueeze(-1)
    row = torch.repeat_interleave(count)
    end = count.cumsum(0)
    first = n * torch.arange(len(scores), device=scores.device).unsqueeze(-1)
    return SortedLists(
        scores=ordered[real].double().clamp(-LARGEST, LARGEST),
        row=row,
        start=(end - count)[row],
        end=end[row],
        place=(order + first)[real],
        broken=broken,
        shape=scores.shape,
    )


def rank_levels(relevance: Tensor, items: Tensor) -> tuple[Tensor, Tensor]:
    """The grade of each item as a number from 0 without gaps, and the pairs of each list."""
    if not relevance.is_floating_point():
        relevance = relevance.double()
    ordered, order = torch.where(items, relevance, torch.inf).sort(dim=-1)
    place = torch.arange(relevance.shape[-1], device=relevance.device).expand_as(order)
    new = torch.ones_like(items)
    new[..., 1:] = ordered[..., 1:] != ordered[..., :-1]
    level = torch.empty_like(order).scatter(-1, order, new.cumsum(dim=-1) - 1)
    lower = torch.where(new, place, 0).cummax(dim=-1).values
    real = place < items.sum(dim=-1, keepdim=True)
    return level, torch.where(real, lower, 0).sum(dim=-1)


def sum_by(key: Tensor, values: Tensor, size: int) -> Tensor:
    """The sum of the values of each key, added in the same order every time."""
    if key.device.type == "cpu":
        return torch.bincount(key, weights=values, minlength=size)
    out = torch.zeros(size, dtype=values.dtype, device=values.device)
    # Sorted by key there; scatter_add and bincount would add in the order of the threads.
    return out.index_put((key,), values, accumulate=True)


def sum_runs(values: Tensor, key: Tensor, length: Tensor) -> Tensor:
    """The sum of each run of values, given where they belong, ascending, and how long runs are."""
    if values.device.type == "cpu":  # to the same bits, in a third of the time
        return torch.segment_reduce(values, "sum", lengths=length, unsafe=True)
    return sum_by(key, values, len(length))


def run_starts(key: Tensor) -> Tensor:
    """True where a run of equal keys begins."""
    new = torch.ones_like(key, dtype=torch.bool)
    new[1:] = key[1:] != key[:-1]
    return new
