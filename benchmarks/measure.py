"""How one size of one case is measured: single runs, interleaved, until a budget is spent."""

from __future__ import annotations

import os
import platform
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Protocol

import torch


class Runs(Protocol):
    """What runs a contender once: a child process, or a fake one in a test."""

    def run(self, contender: str, timeout: float) -> dict[str, Any]:
        """``wall``, ``cpu`` and ``value``, or ``error`` or ``unavailable``."""
        ...


@dataclass(frozen=True)
class Effort:
    """How long to measure."""

    most: int = 15  # runs of each contender
    least: int = 5
    seconds: float = 20.0  # of each contender, after which no further runs than the least
    timeout: float = 600.0  # of one run


FULL = Effort()
QUICK = Effort(most=7, least=3, seconds=2.0, timeout=60.0)


def rounds(names: Sequence[str], count: int, seed: int) -> Iterator[list[str]]:
    """Every name once a round, in an order of its own each time.

    Load that comes and goes then falls on everybody, and nobody always runs after the same
    neighbour.
    """
    generator = random.Random(seed)
    for _ in range(count):
        order = list(names)
        generator.shuffle(order)
        yield order


def interleave(
    contenders: Mapping[str, Runs], effort: Effort, *, seed: int = 0
) -> dict[str, dict[str, Any]]:
    """Times of each contender, one place a round (None where it sat out), or why there are none."""
    found: dict[str, dict[str, Any]] = {}
    for name, child in contenders.items():
        # The first run loads and compiles; it also tells who fails, and is not kept.
        first = child.run(name, effort.timeout)
        found[name] = {"wall": [], "cpu": [], "value": first.get("value"), **_failure(first)}
    racing = [name for name, one in found.items() if "error" not in one]
    spent = dict.fromkeys(racing, 0.0)
    for number, order in enumerate(rounds(racing, effort.most, seed)):
        for name in order:
            one = found[name]
            done = sum(wall is not None for wall in one["wall"])
            tired = done >= effort.least and spent[name] >= effort.seconds
            sample = {} if tired or "error" in one else contenders[name].run(name, effort.timeout)
            one.update(_failure(sample))
            one["wall"].append(sample.get("wall"))
            one["cpu"].append(sample.get("cpu"))
            spent[name] += sample.get("wall") or 0.0
        if number + 1 >= effort.least and all(spent[name] >= effort.seconds for name in racing):
            break
    return found


def _failure(sample: Mapping[str, Any]) -> dict[str, str]:
    for key in ("error", "unavailable"):
        if key in sample:
            return {"error": sample[key]}
    return {}


def machine() -> dict[str, Any]:
    """Where it was measured."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "processor": _processor(),
        "cores": cores,
        "system": platform.system(),
        "python": platform.python_version(),
        "torch": torch.__version__,
    }


def load() -> float:
    """The load average of the last minute."""
    return os.getloadavg()[0]


def now() -> str:
    """The time, to the second."""
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    named = (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.machine())
