"""From what was asked for to a report: plan, train what is missing, judge."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lossmith.compare.cluster import execute_on_ray
from lossmith.compare.execute import (
    RunOne,
    Successor,
    Watch,
    default_workers,
    execute,
    nothing_follows,
)
from lossmith.compare.lent import carrier, execute_here, name_all, why_here
from lossmith.compare.plan import Plan, PlanError, Run, make_plan
from lossmith.compare.progress import progress
from lossmith.compare.store import Store
from lossmith.compare.tune import first_trials, next_trial, searched_arms, tuned
from lossmith.core.own import lend
from lossmith.core.words import did_you_mean
from lossmith.training.doctor import need_packages
from lossmith.training.job import Epoch, Outcome

if TYPE_CHECKING:  # imported late, after the cheap checks
    from lossmith.compare.report import Report
    from lossmith.tasks.task import Description, Task

EXECUTORS = ("local", "ray")


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
    objects: Mapping[str, Any] = field(default_factory=dict)  # handed over in Python, by name

    def run(
        self,
        *,
        jobs: int | None = None,
        executor: str = "local",
        address: str | None = None,
        fresh: bool = False,
        quiet: bool = False,
    ) -> Report:
        """Train what is missing and judge; a failed training is in the report."""
        if jobs is not None and jobs < 1:
            raise PlanError(f"jobs={jobs}: at least one training has to run at a time.")
        if executor not in EXECUTORS:
            raise PlanError(f"executor={executor!r}.{did_you_mean(executor, EXECUTORS)}")
        if address is not None and executor != "ray":
            raise PlanError("an address is that of a Ray cluster: add --executor ray.")
        self._check_devices(executor)
        with (
            lend(self.objects),
            Store.open(self.folder, self.plan, self.description, fresh=fresh) as store,
        ):
            carry_out = partial(self._carry_out, jobs=jobs, executor=executor, address=address)
            failures = self._train(store, carry_out, quiet)
            from lossmith.compare.report import make_report

            report = make_report(store, self.plan, self.description, self.task, failures)
            report.write(store)
        return report

    def _check_devices(self, executor: str) -> None:
        """Raise unless the devices of the plan, which may come from elsewhere, are here."""
        from lossmith.tasks.place import find

        for device in {str(arm.settings.get("device", "cpu")) for arm in self.plan.arms}:
            if device != "cpu" and executor != "local":
                raise PlanError(f"device={device} goes with --executor local alone.")
            try:
                find(device)
            except ValueError as error:
                raise PlanError(f"{error} A plan runs elsewhere with --device cpu.") from None

    def finished(self) -> int:
        """How many trainings of this plan the folder already holds, trials of a search included."""
        store = Store(self.folder)
        trials = [
            store.trial(arm, number)
            for arm in searched_arms(self.plan, self.task)
            for number in range(self.plan.tune)
        ]
        outcomes = [store.outcome(run) for run in self.plan.runs()]
        return sum(one is not None for one in (*trials, *outcomes))

    @property
    def total(self) -> int:
        """How many trainings it takes, trials of a search included."""
        trials = self.plan.tune * len(searched_arms(self.plan, self.task))
        return trials + len(self.plan.runs())

    @property
    def carried(self) -> RunOne:
        """What trains, with the user's own things at hand."""
        return carrier(self.run_one, self.objects, self.plan.code)

    def _train(
        self, store: Store, carry_out: Callable[..., None], quiet: bool
    ) -> dict[tuple[str, int], str]:
        """Search first where that was asked for, then train at what was found."""
        with progress(self.total, self.finished(), self.plan.metric, quiet=quiet) as shown:
            filing = _Filing(store, shown)
            try:
                follow = partial(next_trial, self.plan, self.task, store)
                trials = first_trials(self.plan, self.task, store)
                carry_out(trials, watch=filing, successor=follow)
                runs = tuned(self.plan, self.task, store)[0].runs()
                carry_out([run for run in runs if store.outcome(run) is None], watch=filing)
            except KeyboardInterrupt:
                raise Interrupted(self.finished(), self.total, self.folder) from None
        return filing.failures

    def _carry_out(
        self,
        runs: Sequence[Run],
        *,
        jobs: int | None,
        executor: str,
        address: str | None,
        watch: Watch,
        successor: Successor = nothing_follows,
    ) -> None:
        if not runs:
            return
        run_one = self.carried
        why = why_here(run_one) if executor == "local" else None
        if why and jobs == 1:
            execute_here(runs, run_one, watch=watch, successor=successor)
            return
        if why:
            raise PlanError(
                f"{why}. Train in this process with jobs=1, or write it with def or class in a "
                "file of its own and import it from there."
            )
        if executor == "ray":
            execute_on_ray(
                runs, run_one, address=address, jobs=jobs, watch=watch, successor=successor
            )
        else:
            workers = default_workers(runs) if jobs is None else jobs
            execute(runs, run_one, workers=workers, watch=watch, successor=successor)


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
        if run.trial is None:
            self.failures[run.key] = reason
        else:  # values that break a training have been tried, and cannot win
            self.store.save(run, Outcome((), 0, {}, 0.0, math.nan, 0))
        self.store.save_error(run, details)
        self.shown.failed(run, reason, details)


def prepare(
    family: str,
    data: str,
    losses: Sequence[Any] | Mapping[str, Any] | None = None,
    *,
    metric: Any = None,
    metrics: Any = None,
    seeds: int | str | Sequence[int] = 10,
    baseline: str | None = None,
    tune: int = 0,
    out: str | None = None,
    settings: Mapping[str, object] | None = None,
) -> Study:
    """Check everything before anything is trained; :class:`PlanError` says what to change."""
    need_packages("comparing")
    from lossmith.tasks.registry import load_task
    from lossmith.training.run import run_job

    try:
        task = load_task(family)
    except ValueError as error:
        raise PlanError(str(error)) from error
    lent = name_all(losses, metric=metric, metrics=metrics, settings=settings)
    with lend(lent.objects):
        plan, description = make_plan(
            task,
            data,
            lent.losses,
            metric=lent.metric,
            seeds=seeds,
            baseline=baseline,
            settings=lent.settings,
            tune=tune,
        )
    folder = Path("runs", plan.folder_name) if out is None else Path(out)
    return Study(plan, description, task, run_job, folder, lent.objects)
