"""The few numbers that the page shows of raw times."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import NamedTuple

Times = Sequence[float | None]


class Spread(NamedTuple):
    """A median and the quartiles around it."""

    median: float
    low: float
    high: float
    runs: int


def spread(values: Times) -> Spread | None:
    """The median and quartiles of what is there; None where nothing is.

    >>> spread([3.0, None, 1.0, 2.0])
    Spread(median=2.0, low=1.5, high=2.5, runs=3)
    """
    there = [value for value in values if value is not None]
    if not there:
        return None
    if len(there) == 1:
        return Spread(there[0], there[0], there[0], 1)
    low, median, high = statistics.quantiles(there, n=4, method="inclusive")
    return Spread(median, low, high, len(there))


def ratio(times: Times, to: Times) -> Spread | None:
    """The spread of the ratio within rounds, so that load during a round falls out.

    >>> ratio([2.0, 8.0, None], [1.0, 4.0, 1.0])
    Spread(median=2.0, low=2.0, high=2.0, runs=2)
    """
    pairs = zip(times, to, strict=False)
    return spread([a / b if a is not None and b else None for a, b in pairs])


def growing(sizes: Sequence[Mapping[str, int]]) -> str | None:
    """The first part of the size that differs between sizes.

    >>> growing([{"d": 64, "n": 10}, {"d": 64, "n": 20}])
    'n'
    """
    parts = sizes[0] if sizes else {}
    differing = (name for name in parts if len({size.get(name) for size in sizes}) > 1)
    return next(differing, None)


def exponent(points: Mapping[float, float]) -> float | None:
    """The slope of the least-squares line through the logarithms; None for fewer than two points.

    >>> round(exponent({1.0: 3.0, 10.0: 300.0, 100.0: 30000.0}), 6)
    2.0
    """
    usable = {x: y for x, y in points.items() if x > 0 and y > 0}
    if len(usable) < 2:
        return None
    x = [math.log(value) for value in usable]
    y = [math.log(value) for value in usable.values()]
    return statistics.linear_regression(x, y).slope
