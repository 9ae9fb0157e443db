"""Logistic costs of all pairs of different grade in O(n log n).

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
    Panels,
    cell_ends,
    cells_of,
    evaluate,
    lead_in_cell,
    logistic_remainder,
    logistic_slope,
    moments,
    panels_of,
    spread_over,
)
from lossmith.kernels.sorted_lists import SortedLists, run_starts

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
    (slope,) = evaluate(cells, panels.inside, slopes)
    # Within a cell the matrices stand for r plus half the distance.
    lead = lead_in_cell(cells)
    slope = slope - lead / 2.0
    share = torch.zeros_like(slope)
    share[cell_ends(cells)[0]] = total
    cost = (share - lead * panels.inside - math.log(2.0)) / 2.0  # an item is no pair with itself
    return cost, slope


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
