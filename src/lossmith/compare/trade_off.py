"""Two metrics of which more of one is less of the other: where each loss stands, and the front."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from lossmith.compare.plan import Arm, Plan
from lossmith.core.call import parse_call
from lossmith.training.job import Outcome

Place = tuple[float, float]


@dataclass(frozen=True)
class TradeOff:
    """Each training as a place (across, up), each loss as the mean of its own."""

    across: str
    up: str
    higher_is_better: tuple[bool, bool]
    places: Mapping[str, Mapping[int, Place]]  # arm -> seed -> place
    means: Mapping[str, Place]
    front: tuple[str, ...]  # arms whose mean no other mean beats in both, left to right
    sweeps: tuple[tuple[str, ...], ...]  # arms that differ in one number, in its order


def find_trade_off(
    plan: Plan,
    outcomes: Mapping[tuple[str, int], Outcome],
    metrics: tuple[str, str],
    higher_is_better: tuple[bool, bool],
) -> TradeOff | None:
    """The trade-off between two metrics, where at least two losses have numbers for both."""
    places: dict[str, dict[int, Place]] = {}
    for (arm, seed), outcome in outcomes.items():
        across, up = (outcome.scores.get(name, math.nan) for name in metrics)
        if math.isfinite(across) and math.isfinite(up):
            places.setdefault(arm, {})[seed] = (across, up)
    if len(places) < 2:
        return None
    means = {
        arm.text: (
            float(np.mean([place[0] for place in places[arm.text].values()])),
            float(np.mean([place[1] for place in places[arm.text].values()])),
        )
        for arm in plan.arms
        if arm.text in places
    }
    return TradeOff(
        *metrics,
        higher_is_better,
        places,
        means,
        pareto_front(means, higher_is_better),
        tuple(sweeps([arm for arm in plan.arms if arm.text in means])),
    )


def pareto_front(
    places: Mapping[str, Place], higher_is_better: tuple[bool, bool] = (True, True)
) -> tuple[str, ...]:
    """The names whose place no other one beats: as good in both and better in one.

    >>> pareto_front({"a": (1, 3), "b": (2, 2), "c": (1, 2), "d": (3, 1)})
    ('a', 'b', 'd')
    """
    signs = [1.0 if higher else -1.0 for higher in higher_is_better]
    gains = {name: (signs[0] * x, signs[1] * y) for name, (x, y) in places.items()}

    def beaten(own: Place) -> bool:
        return any(
            other != own and other[0] >= own[0] and other[1] >= own[1] for other in gains.values()
        )

    front = [name for name, own in gains.items() if not beaten(own)]
    return tuple(sorted(front, key=lambda name: places[name]))


def sweeps(arms: Sequence[Arm]) -> list[tuple[str, ...]]:
    """Groups of arms that are alike but for one number, each in the order of that number."""
    groups: dict[tuple[object, ...], dict[float, str]] = {}
    for arm in arms:
        name, knobs = parse_call(arm.loss)
        features = {**{f"@{key}": value for key, value in arm.settings.items()}, **knobs}
        for key, value in features.items():
            if isinstance(value, (int, float)) and not isinstance(value, bool):
                rest = tuple(sorted((k, repr(v)) for k, v in features.items() if k != key))
                groups.setdefault((name, key, rest), {})[float(value)] = arm.text
    return [
        tuple(group[value] for value in sorted(group))
        for group in groups.values()
        if len(group) > 1
    ]
