"""Logistic costs of all pairs of different grade, and soft ranks, in O(n log n).

With d = s_i - s_j, ``softplus(-d) = max(0, -d) + r(|d|)`` where ``r(a) = log(1 + exp(-a))``. The
first part is a hinge without margin, which counting solves exactly at any distance. The second is
even, so it does not know which of the two is more relevant: its sum over pairs of different grade
is that over all pairs less that over the pairs of each grade.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from lossmith.kernels.hinge_pairs import ordered_sums
from lossmith.kernels.panels import (
    Cells,
    Panels,
    cells_of,
    evaluate,
    logistic_remainder,
    logistic_slope,
    moments,
    panels_of,
    sigmoid_slope,
    spread_over,
)
from lossmith.kernels.sorted_lists import SortedLists, run_starts, sum_by

SMALL_GRADE = 32  # items of one grade and list from which panels beat its pairs one by one


def logistic_sums(lists: SortedLists, level: Tensor) -> tuple[Tensor, Tensor]:
    """What each item adds to the costs of its list, and the gradient."""
    place = torch.arange(len(level), device=level.device)
    # Equal scores are taken as in the order of their places, here and in the remainder.
    cost, gradient = ordered_sums(lists, level, place + 1, place, margin=0.0, squared=False)
    panels = panels_of(lists)
    every = _remainder(panels, panels.panel)
    same = _remainder_of_grades(lists, level, panels)
    return cost + every[0] - same[0], gradient + every[1] - same[1]


def _remainder(panels: Panels, key: Tensor) -> tuple[Tensor, Tensor]:
    """The sums of r over the pairs of ascending keys within reach, each item half, and slopes."""
    cells = cells_of(key)
    sources = moments(cells, panels.inside)
    values, slopes = spread_over(
        cells, sources, (logistic_remainder, logistic_slope), panels.widest
    )
    total = (sources * values).sum(dim=-1)
    slope = evaluate(cells, panels.inside, slopes)
    # Within a cell the matrices stand for r plus half the distance.
    first, last = _ends(cells)
    place = torch.arange(len(key), device=key.device)
    lead = (2 * place - (first + last)[cells.cell] + 1).to(slope.dtype)  # below less above
    slope = slope - lead / 2.0
    share = torch.zeros_like(slope)
    share[first] = total
    cost = (share - lead * panels.inside - math.log(2.0)) / 2.0  # an item is no pair with itself
    return cost, slope


def _ends(cells: Cells) -> tuple[Tensor, Tensor]:
    count = torch.bincount(cells.cell, minlength=len(cells.key))
    last = count.cumsum(0)
    return last - count, last


def _remainder_of_grades(
    lists: SortedLists, level: Tensor, panels: Panels
) -> tuple[Tensor, Tensor]:
    """The same over the pairs of one grade."""
    cost, slope = torch.zeros_like(lists.scores), torch.zeros_like(lists.scores)
    if not len(level):
        return cost, slope
    levels = int(level.max()) + 1
    order = (lists.row * levels + level).argsort(stable=True)
    key = (lists.row * levels + level)[order]
    size = torch.bincount(run_starts(key).cumsum(0) - 1)
    of_many = (size > SMALL_GRADE).repeat_interleave(size)
    far = panels.panel[-1] + 1 + panels.widest
    large = order[of_many]
    some = Panels(panels.panel[large], panels.inside[large], panels.widest)
    if len(large):
        cost[large], slope[large] = _remainder(some, key[of_many] * far + some.panel)
    small = order[~of_many]
    if len(small):
        most = int(torch.where(size > SMALL_GRADE, 0, size).max())
        cost[small], slope[small] = _pair_by_pair(lists.scores[small], key[~of_many], most)
    return cost, slope


def _pair_by_pair(scores: Tensor, key: Tensor, most: int) -> tuple[Tensor, Tensor]:
    """Sums and slopes of r over the pairs of equal key, of which there are never more than most."""
    cost, slope = torch.zeros_like(scores), torch.zeros_like(scores)
    for step in range(1, most):
        together = key[step:] == key[:-step]
        distance = torch.where(together, scores[step:] - scores[:-step], torch.inf)
        cost[step:] += F.softplus(-distance, threshold=60.0)
        pull = (-distance).sigmoid()
        slope[step:] -= pull
        slope[:-step] += pull
    return cost, slope


def soft_ranks(lists: SortedLists) -> Tensor:
    """``1 + sum over the others of sigmoid(s_j - s_i)`` for each item."""
    panels = panels_of(lists)
    cells = cells_of(panels.panel)
    sources = moments(cells, panels.inside)
    (slopes,) = spread_over(cells, sources, (logistic_slope,), panels.widest)
    slope = evaluate(cells, panels.inside, slopes)
    place = torch.arange(len(slope), device=slope.device)
    first, last = _ends(cells)
    lead = (2 * place - (first + last)[cells.cell] + 1).to(slope.dtype)
    return (lists.end - place).to(slope.dtype) - (slope - lead / 2.0)


def soft_ranks_backward(lists: SortedLists, gradient: Tensor) -> Tensor:
    """The gradient of the scores, given that of the soft ranks."""
    panels = panels_of(lists)
    cells = cells_of(panels.panel)
    sources = torch.cat(
        [moments(cells, panels.inside), moments(cells, panels.inside, gradient)], dim=0
    )
    half = len(cells.key)
    (ones,) = spread_over(cells, sources[:half], (sigmoid_slope,), panels.widest)
    (weighted,) = spread_over(cells, sources[half:], (sigmoid_slope,), panels.widest)
    density = evaluate(cells, panels.inside, ones)
    return evaluate(cells, panels.inside, weighted) - gradient * density
