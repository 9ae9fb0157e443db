"""The runner: every case at every size, with its contenders in their environments."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.case import FLOOR, Case, Contender, Size, label
from benchmarks.child import Child
from benchmarks.environments import MAIN, python_of
from benchmarks.measure import Effort, interleave, load, machine, now
from benchmarks.store import Measurement, Store

Say = Callable[[str], None]


@dataclass(frozen=True)
class Options:
    """What a run of the benchmarks was asked for."""

    quick: bool
    threads: int
    effort: Effort
    cap_mb: int
    seed: int = 0
    install: bool = True
    memory: bool = True


class Home(NamedTuple):
    """An environment that is there, and its interpreter."""

    name: str
    python: Path


def run_all(cases: Sequence[Case], store: Store, options: Options, say: Say) -> None:
    """Measure what is not in the store yet."""
    todo = [
        (case, size)
        for case in cases
        for size in (case.quick if options.quick else case.sizes)
        if store.find(case.name, size, options.threads) is None
    ]
    if not todo:
        say("everything is measured; --fresh measures again")
    for number, (case, size) in enumerate(todo, start=1):
        say(f"[{number}/{len(todo)}] {case.name}, {label(size)}")
        store.put(measure(case, size, options, say))


def measure(case: Case, size: Size, options: Options, say: Say) -> Measurement:
    """One size of one case: times interleaved, then memory in fresh processes."""
    began, before = now(), load()
    reasons = {
        name: reason
        for name, one in case.contenders.items()
        if (reason := _left_out(one, size, options))
    }
    homes = {name: one.environment for name, one in case.contenders.items() if name not in reasons}
    if case.floor is not None:
        homes[FLOOR] = MAIN
    pythons = {
        home: python_of(home, install=options.install, say=say)
        for home in dict.fromkeys(homes.values())
    }
    reasons |= {name: pythons[home][1] for name, home in homes.items() if not pythons[home][0]}
    able = {name: Home(home, path) for name, home in homes.items() if (path := pythons[home][0])}
    times = _times(case, size, able, options)
    memory = _memory(case, size, able, times, options)
    contenders = {
        name: {
            "environment": MAIN if name == FLOOR else case.contenders[name].environment,
            "wall": [],
            "cpu": [],
            "value": None,
            "memory": None,
            "gradients": None,
            "error": reasons.get(name),
            **times.get(name, {}),
            **memory.get(name, {}),
        }
        for name in [*case.contenders, *([FLOOR] if case.floor is not None else [])]
    }
    return {
        "case": case.name,
        "size": dict(size),
        "threads": options.threads,
        "began": began,
        "load": [before, load()],
        "machine": machine(),
        "contenders": contenders,
    }


def _left_out(one: Contender, size: Size, options: Options) -> str:
    """Why a contender is not run at all, if it is not."""
    if not one.fits(size):
        return "not run: too large for it"
    return "not run: not part of the short run" if options.quick and not one.quick else ""


def _times(
    case: Case, size: Size, able: Mapping[str, Home], options: Options
) -> dict[str, dict[str, Any]]:
    """Each contender's times, from one child for each environment."""
    with ExitStack() as stack:
        children = {
            home: stack.enter_context(closing(_child(home, case, options)))
            for home in dict.fromkeys(able.values())
        }
        failed = {
            home: child.set_size(dict(size), options.effort.timeout)
            for home, child in children.items()
        }
        racing = {name: children[home] for name, home in able.items() if not failed[home]}
        found = interleave(racing, options.effort, seed=options.seed)
    for name, home in able.items():
        if failed[home]:
            reason = failed[home].get("error") or failed[home].get("unavailable")
            found[name] = {"error": reason}
    return found


def _memory(
    case: Case,
    size: Size,
    able: Mapping[str, Home],
    times: Mapping[str, Mapping[str, Any]],
    options: Options,
) -> dict[str, dict[str, Any]]:
    """Each contender's peak, in a process of its own."""
    found: dict[str, dict[str, Any]] = {}
    for name, home in able.items():
        if options.memory and not times[name].get("error"):
            with closing(_child(home, case, options)) as child:
                answer = child.memory(name, dict(size), 2 * options.effort.timeout)
            found[name] = {key: answer[key] for key in ("memory", "gradients") if key in answer}
    return found


def _child(home: Home, case: Case, options: Options) -> Child:
    name, python = home
    return Child(python, case.name, name, threads=options.threads, cap_mb=options.cap_mb)
