"""From what was asked for to a report: plan, train what is missing, judge."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lossmith.compare.execute import RunOne, Watch, default_workers, execute
from lossmith.compare.plan import Plan, PlanError, Run, make_plan
from lossmith.compare.progress import progress
from lossmith.compare.store import Store
from lossmith.training.job import Epoch, Outcome

if TYPE_CHECKING:  # imported late, after the cheap checks
    from lossmith.compare.report import Report
    from lossmith.tasks.task import Description, Task

PACKAGES = ("jinja2", "matplotlib", "numpy", "polars", "rich", "scipy", "sklearn")


class Interrupted(KeyboardInterrupt):
    """Stopped by the user; what is finished is kept and the same call does the rest."""

    def __init__(self, finished: int, total: int, folder: Path) -> None:
        super().__init__(f"{finished} of {total} trainings are finished and kept in {folder}")
        self.finished, self.total, self.folder = finished, total, folder


@dataclass(frozen=True)
class Study:
    """A comparison that is settled and can be run."""

    plan: Plan
    description: Description
    task: Task
    run_one: RunOne
    folder: Path

    def run(self, *, jobs: int | None = None, fresh: bool = False, quiet: bool = False) -> Report:
        """Train what is missing and judge; a failed training is in the report."""
        if jobs is not None and jobs < 1:
            raise PlanError(f"jobs={jobs}: at least one training has to run at a time.")
        with Store.open(self.folder, self.plan, self.description, fresh=fresh) as store:
            failures = self._train(store, jobs, quiet)
            from lossmith.compare.report import make_report

            report = make_report(store, self.plan, self.description, self.task, failures)
            report.write(store)
        return report

    def finished(self) -> int:
        """How many trainings of this plan the folder already holds."""
        store = Store(self.folder)
        return sum(store.outcome(run) is not None for run in self.plan.runs())

    def _train(self, store: Store, jobs: int | None, quiet: bool) -> dict[tuple[str, int], str]:
        runs = self.plan.runs()
        missing = [run for run in runs if store.outcome(run) is None]
        workers = default_workers(missing) if jobs is None else jobs
        with progress(len(runs), len(runs) - len(missing), self.plan.metric, quiet=quiet) as shown:
            filing = _Filing(store, shown)
            try:
                execute(missing, self.run_one, workers=workers, watch=filing)
            except KeyboardInterrupt:
                raise Interrupted(self.finished(), len(runs), self.folder) from None
        return filing.failures


class _Filing:
    """Files every outcome the moment it is there, then passes the news on."""

    def __init__(self, store: Store, shown: Watch) -> None:
        self.store, self.shown = store, shown
        self.failures: dict[tuple[str, int], str] = {}

    def started(self, run: Run) -> None:
        self.shown.started(run)

    def epoch(self, run: Run, epoch: Epoch, total: int) -> None:
        self.shown.epoch(run, epoch, total)

    def finished(self, run: Run, outcome: Outcome) -> None:
        self.store.save(run, outcome)
        self.shown.finished(run, outcome)

    def failed(self, run: Run, reason: str, details: str) -> None:
        self.failures[run.key] = reason
        self.store.save_error(run, details)
        self.shown.failed(run, reason, details)


def prepare(
    family: str,
    data: str,
    losses: Sequence[str] | None = None,
    *,
    metric: str | None = None,
    seeds: int | str | Sequence[int] = 10,
    baseline: str | None = None,
    out: str | None = None,
    settings: Mapping[str, object] | None = None,
) -> Study:
    """Check everything before anything is trained; :class:`PlanError` says what to change."""
    absent = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
    if absent:
        raise PlanError(
            f"comparing needs {', '.join(absent)}. Install the tool's packages with: "
            'pip install "lossmith[compare]"'
        )
    from lossmith.tasks.registry import load_task
    from lossmith.training.run import run_job

    try:
        task = load_task(family)
    except ValueError as error:
        raise PlanError(str(error)) from error
    plan, description = make_plan(
        task,
        data,
        losses,
        metric=metric,
        seeds=seeds,
        baseline=baseline,
        settings=settings or {},
    )
    folder = Path("runs", plan.folder_name) if out is None else Path(out)
    return Study(plan, description, task, run_job, folder)
