"""Sums of a smooth function of all differences of scores, in time linear in their number.

Scores are put into panels of width 2. Within a panel a function of the score is a sum of a few
Chebyshev polynomials, so what a panel does to another is a small matrix times the moments of its
scores (the sums of those polynomials), and panels further apart than 40 do nothing: everything
summed here has vanished there. Only panels that hold scores exist, so outliers cost nothing.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from lossmith.kernels.sorted_lists import SortedLists, run_starts, sum_runs

WIDTH = 2.0
ORDER = 14  # polynomials a panel; the error of a sum is 1e-12 of what the pairs add to it
CHUNK = 2**19  # numbers at work at a time
REACH = 20  # panels; exp(-WIDTH * (REACH - 1)) is 3e-17

Kernel = Callable[[Tensor, int], Tensor]


@dataclass(frozen=True)
class Panels:
    """Sorted scores, each with its panel (numbered upwards, far ones far apart) and its place."""

    panel: Tensor  # [N], int64
    inside: Tensor  # [N], from -1 to 1
    widest: int  # the number of panels within reach of each other, at most


def panels_of(lists: SortedLists) -> Panels:
    """Panels of a grid that starts anew at each list and behind each wide gap."""
    scores = lists.scores
    place = torch.arange(len(scores), device=scores.device)
    new = place == lists.start
    new[1:] |= scores[1:] - scores[:-1] > WIDTH * REACH
    origin = torch.where(new, place, 0).cummax(dim=0).values
    offset = scores - scores[origin]
    local = (offset / WIDTH).floor()
    inside = 2.0 * (offset - WIDTH * local) / WIDTH - 1.0
    local = local.long()
    # A grid begins beyond the reach of the one before it.
    step = torch.zeros_like(local)
    step[1:] = torch.where(new[1:], local[:-1] + 1 + REACH, 0)
    widest = int(local.max()) + 1 if len(scores) else 1
    return Panels(local + step.cumsum(0), inside, min(widest, REACH))


@dataclass(frozen=True)
class Cells:
    """Groups of scores that share a key; keys that differ by d are d panels apart."""

    cell: Tensor  # [N], the cell of each score
    key: Tensor  # [M], ascending


def cells_of(key: Tensor) -> Cells:
    """The cells of ascending keys."""
    new = run_starts(key)
    return Cells(new.cumsum(0) - 1, key[new])


def cell_ends(cells: Cells) -> tuple[Tensor, Tensor]:
    """Where the scores of each cell begin, and end."""
    last = torch.bincount(cells.cell, minlength=len(cells.key)).cumsum(0)
    return torch.cat([last.new_zeros(1), last[:-1]]), last


def lead_in_cell(cells: Cells) -> Tensor:
    """How many more scores of its cell stand before each than behind it, as float64."""
    first, last = cell_ends(cells)
    place = torch.arange(len(cells.cell), device=cells.cell.device)
    return (2 * place + 1 - (first + last).index_select(0, cells.cell)).double()


def moments(cells: Cells, inside: Tensor, weight: Tensor | None = None) -> Tensor:
    """The sum of each polynomial over the scores of each cell, ``[M, ORDER]``."""
    first, last = cell_ends(cells)
    room = torch.empty_like(inside)
    columns = [
        sum_runs(t if weight is None else torch.mul(weight, t, out=room), cells.cell, last - first)
        for t in _chebyshev(inside)
    ]
    return torch.stack(columns, dim=-1)


def evaluate(cells: Cells, inside: Tensor, *functions: Tensor) -> tuple[Tensor, ...]:
    """At each score, the functions that its cell has as ``[M, ORDER]`` coefficients each."""
    out, here = tuple(torch.zeros_like(inside) for _ in functions), torch.empty_like(inside)
    columns = [coefficients.T.contiguous() for coefficients in functions]
    for degree, t in enumerate(_chebyshev(inside)):
        for value, column in zip(out, columns, strict=True):
            value.addcmul_(t, torch.index_select(column[degree], 0, cells.cell, out=here))
    return out


def spread_over(
    cells: Cells, sources: Tensor, kernels: tuple[Kernel, ...], widest: int
) -> tuple[Tensor, ...]:
    """For each kernel, the coefficients in each cell of ``x -> sum of kernel(x - source)``.

    A kernel is told on which side the sources are: it gets ``x - source`` and the number of
    panels d by which the sources are above.
    """
    matrix = torch.cat([_panel_matrices(k, widest, sources.device) for k in kernels], dim=-1)
    around = torch.arange(1 - widest, widest, device=sources.device)
    step = max(1, CHUNK // matrix.shape[0])
    parts = []
    for begin in range(0, max(len(cells.key), 1), step):  # without any score there is one, empty
        key = cells.key[begin : begin + step]
        wanted = key.unsqueeze(-1) + around
        there = torch.searchsorted(cells.key, wanted).clamp_(max=len(cells.key) - 1)
        theirs = sources[there] * (cells.key[there] == wanted).unsqueeze(-1)
        parts.append(theirs.flatten(1) @ matrix)
    out = torch.cat(parts)
    return tuple(out[:, i : i + ORDER] for i in range(0, out.shape[1], ORDER))


@functools.cache
def _panel_matrices(kernel: Kernel, widest: int, device: torch.device) -> Tensor:
    """From moments of the panels around to coefficients here, ``[panels * ORDER, ORDER]``."""
    degree = torch.arange(ORDER, dtype=torch.float64)
    angle = (degree + 0.5) * (math.pi / ORDER)
    nodes = angle.cos()
    to_coefficients = (2.0 / ORDER) * torch.outer(degree, angle).cos()
    to_coefficients[0] /= 2.0
    apart = WIDTH / 2.0 * (nodes.unsqueeze(0) - nodes.unsqueeze(1))
    matrices = [
        to_coefficients @ kernel(apart - WIDTH * d, d) @ to_coefficients.T
        for d in range(1 - widest, widest)
    ]
    return torch.cat(matrices).to(device)


def _chebyshev(x: Tensor) -> Iterator[Tensor]:
    """The polynomials of degree 0 to ORDER - 1; each is overwritten when the third after it comes.

    Three buffers serve all: fresh memory for each would cost as much as the arithmetic.
    """
    twice = x + x
    before, now, following = torch.ones_like(x), x.clone(), torch.empty_like(x)
    yield before
    for _ in range(ORDER - 1):
        yield now
        torch.mul(twice, now, out=following).sub_(before)
        before, now, following = now, following, before


def logistic_remainder(x: Tensor, d: int) -> Tensor:
    """log(1 + exp(-|x|)), plus half of |x| within a panel, where that has a kink."""
    if d == 0:
        return F.softplus(x, threshold=60.0) - x / 2.0
    return F.softplus(-x.abs(), threshold=60.0)


def logistic_slope(x: Tensor, d: int) -> Tensor:
    """The derivative of :func:`logistic_remainder`."""
    if d == 0:
        return x.sigmoid() - 0.5
    return x.sigmoid() if d > 0 else -(-x).sigmoid()


def sigmoid_slope(x: Tensor, d: int) -> Tensor:
    """The derivative of the sigmoid."""
    return x.sigmoid() * (-x).sigmoid()
