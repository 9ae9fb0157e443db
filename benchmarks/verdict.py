"""Whether a case met its bounds, and by how much."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.case import FLOOR, GRADIENTS, MEMORY, OURS, SECONDS, Case, is_ours, label
from benchmarks.statistics import Spread, ratio, spread
from benchmarks.store import Measurement


@dataclass(frozen=True)
class Check:
    """One bound at one size; ``value`` is None where there was nothing to compare."""

    what: str
    size: str
    limit: float
    value: Spread | None
    missing: str = ""

    @property
    def met(self) -> bool | None:
        """Whether the median is within the bound; None where it could not be seen."""
        return None if self.value is None else self.value.median <= self.limit


def checks(case: Case, measurements: Sequence[Measurement]) -> list[Check]:
    """Every bound of a case at every size that was measured."""
    found = []
    for key, limit in case.at_most.items():
        what, _, where = key.partition(" @ ")
        for measurement in measurements:
            size = label(measurement["size"])
            if not where or where in size.split():
                value, missing = _value(what, case, measurement["contenders"])
                found.append(Check(_words(what, case), size, limit, value, missing))
    return found


def verdict(found: Sequence[Check]) -> str:
    """One word, or two, for a case."""
    met = [check.met for check in found]
    if not met:
        return "no bound"
    if False in met:
        return "missed"
    if True not in met:
        return "not seen"
    return "met in part" if None in met else "met"


def ours(case: Case) -> str:
    """The contender that bounds are about: "lossmith", or the first "lossmith ..."."""
    if OURS in case.contenders:
        return OURS
    return next((name for name in case.contenders if is_ours(name)), OURS)


def _sides(what: str, case: Case) -> tuple[str, str]:
    """The two contenders of a ratio: "a / b", or ours to what is named."""
    first, slash, second = what.partition(" / ")
    if slash and what not in case.contenders:
        return first, second
    return ours(case), what


def _words(what: str, case: Case) -> str:
    if what in (MEMORY, GRADIENTS):
        return f"{what}, MiB"
    if what == SECONDS:
        return what
    first, second = _sides(what, case)
    return f"time of {first} / {second}"


def _value(
    what: str, case: Case, contenders: Mapping[str, Mapping[str, Any]]
) -> tuple[Spread | None, str]:
    """The number that is bounded, or why there is none."""
    if what in (MEMORY, GRADIENTS):
        one = contenders.get(ours(case), {})
        if one.get("memory") is None:
            return None, one.get("error") or "memory was not measured"
        left_out = (one.get("gradients") or 0.0) if what == GRADIENTS else 0.0
        return spread([one["memory"] - left_out]), ""
    if what == SECONDS:
        value = spread(contenders.get(ours(case), {}).get("wall", []))
        return value, "" if value else "no run"
    for name in _sides(what, case):
        if name not in contenders:
            return None, f"there is no contender {name!r}"
        if contenders[name]["error"]:
            return None, f"{name}: {contenders[name]['error']}"
    first, second = _sides(what, case)
    value = ratio(contenders[first]["wall"], contenders[second]["wall"])
    return value, "" if value else "no round had both"


def has_floor(measurement: Measurement) -> bool:
    """Whether a floor was timed."""
    return bool(measurement["contenders"].get(FLOOR, {}).get("wall"))
