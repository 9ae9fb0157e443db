"""A report from what a run folder holds, without the data and without training anything."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from lossmith.compare.plan import Plan, PlanError
from lossmith.compare.store import PLAN_FILE, Store
from lossmith.core.words import did_you_mean

if TYPE_CHECKING:  # imported late, after the cheap checks
    from lossmith.compare.report import Report


def read_report(folder: str | Path) -> Report:
    """Judge what is finished in a run folder, and write the report's files anew.

    Trainings that have not run yet are left out and named among the failures, so that a look at
    a comparison that is still running cannot be taken for its end.
    """
    store = Store(Path(folder))
    plan = _read_plan(store.folder)
    from lossmith.compare.report import make_report
    from lossmith.tasks.registry import load_task
    from lossmith.tasks.task import Description

    data = json.loads((store.folder / "data.json").read_text("utf-8"))
    description = Description(**{**data, "notes": tuple(data["notes"])})
    failures = {}
    for run in plan.runs():
        if store.outcome(run) is None:
            failures[run.key] = store.error(run) or "not trained yet"
    report = make_report(store, plan, description, load_task(plan.family), failures)
    report.write(store)
    return report


def _read_plan(folder: Path) -> Plan:
    path = folder / PLAN_FILE
    if not path.exists():
        raise PlanError(f"{folder} is no run folder: it holds no {PLAN_FILE}.{_others(folder)}")
    try:
        return Plan.from_dict(json.loads(path.read_text("utf-8"))["plan"])
    except (KeyError, TypeError, ValueError) as error:
        raise PlanError(
            f"{path} was not written by this version of lossmith ({error}). The command that made "
            "it makes it anew."
        ) from error


def _others(folder: Path) -> str:
    """Run folders near the one named, which is most often what was meant."""
    near = folder if folder.is_dir() else folder.parent
    if not near.is_dir():
        return ""
    found = sorted(path.parent for path in near.glob(f"*/{PLAN_FILE}"))
    return did_you_mean(str(folder), map(str, found)) if found else ""
