"""``python -m benchmarks``: measure what is missing, then write the page."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from benchmarks.case import Case
from benchmarks.child import ROOT
from benchmarks.environments import FOLDER, python_of
from benchmarks.measure import FULL, QUICK, Effort
from benchmarks.page import write_page
from benchmarks.registry import load_cases
from benchmarks.run import Options, run_all
from benchmarks.store import NAME, Store

PUBLISHED = ROOT / "docs" / "results" / "benchmarks"
QUICK_FOLDER = ROOT / ".bench" / "quick"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; the exit code is 2 for a usage error."""
    given = parser().parse_args(arguments)
    if given.action == "install":
        return install()
    cases = load_cases()
    try:
        wanted = chosen(cases, given.only)
        folder = given.out or (QUICK_FOLDER if given.quick else PUBLISHED)
        if given.fresh and not given.only:
            (folder / NAME).unlink(missing_ok=True)
        store = Store(folder)
    except ValueError as wrong:
        say(str(wrong))
        return 2
    if given.action == "list":
        for case in wanted:
            print(f"{case.name}: {', '.join(case.contenders)}")
        return 0
    if given.action == "run":
        wanted = [one for case in wanted if (one := with_sizes(case, given.size)).sizes]
        if given.fresh:
            for case in wanted:
                store.forget(case.name, case.quick if given.quick else case.sizes)
        run_all(wanted, store, options(given), say)
    print(write_page(cases, store, folder))
    return 0


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    made.add_argument(
        "action", nargs="?", default="run", choices=("run", "page", "list", "install")
    )
    made.add_argument("--quick", action="store_true", help="small sizes, installed peers only")
    made.add_argument(
        "--only",
        action="append",
        metavar="NAME",
        help="the row of this name, or those with it in theirs",
    )
    made.add_argument("--out", type=Path, metavar="DIR", help="where results and page go")
    made.add_argument("--fresh", action="store_true", help="measure again what was measured")
    made.add_argument("--threads", type=int, default=2)
    made.add_argument("--seed", type=int, default=0, help="of the order within rounds")
    made.add_argument(
        "--seconds",
        type=float,
        metavar="S",
        help="for each contender at each size; three runs at least",
    )
    made.add_argument("--least", type=int, metavar="N", help="runs of each, whatever they take")
    made.add_argument(
        "--size",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="sizes with this value alone",
    )
    made.add_argument("--no-memory", action="store_true", help="times alone")
    made.add_argument("--install", action="store_true", help="with --quick: install peers as well")
    made.add_argument(
        "--cap", type=int, metavar="MB", help="address space of a child; default: the memory, 0: no"
    )
    return made


def options(given: argparse.Namespace) -> Options:
    """What the runner needs of the command line."""
    return Options(
        quick=given.quick,
        threads=given.threads,
        effort=effort(given),
        cap_mb=physical_mb() if given.cap is None else given.cap,
        seed=given.seed,
        install=given.install or not given.quick,
        memory=not given.no_memory,
    )


def effort(given: argparse.Namespace) -> Effort:
    """How long to measure, as asked for."""
    usual = QUICK if given.quick else FULL
    if given.seconds is not None:
        usual = replace(usual, seconds=given.seconds, least=min(usual.least, 3))
    return usual if given.least is None else replace(usual, least=given.least)


def chosen(cases: dict[str, Case], only: Sequence[str] | None) -> list[Case]:
    """The cases whose name is one of the texts; for a text that is no name, those that have it."""
    found = {
        name
        for text in only or [""]
        for name in ([text] if text in cases else [name for name in cases if text in name])
    }
    if not found:
        raise ValueError(f"no row has {' or '.join(only or [])} in its name: {', '.join(cases)}.")
    return [case for name, case in cases.items() if name in found]


def with_sizes(case: Case, wanted: Sequence[str]) -> Case:
    """The case at the sizes that have one of the values (``B=8192``); all where none is named."""
    sizes = tuple(
        size
        for size in case.sizes
        if not wanted or any(f"{key}={value}" in wanted for key, value in size.items())
    )
    return replace(case, sizes=sizes)


def install() -> int:
    """Install every peer; the exit code is 1 where one could not be."""
    failed = 0
    for requirements in sorted(FOLDER.glob("*.txt")):
        python, reason = python_of(requirements.stem, install=True, say=say)
        say(f"{requirements.stem}: {reason or python}")
        failed += python is None
    return min(failed, 1)


def physical_mb() -> int:
    """The memory of the machine, 0 where the system does not tell."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") >> 20
    except (ValueError, OSError, AttributeError):
        return 0


def say(text: str) -> None:
    """Progress goes to stderr; stdout is the result."""
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
