"""What a person sees while trainings run, on stderr; nothing of it decides a number."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from rich.console import Console, Group
from rich.live import Live
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)

from lossmith.compare.execute import Watch
from lossmith.compare.plan import Run
from lossmith.compare.wording import seconds_text
from lossmith.training.job import Epoch, Outcome


@contextlib.contextmanager
def progress(total: int, finished: int, metric: str, *, quiet: bool) -> Iterator[Watch]:
    """Bars where stderr is a terminal, a line per finished training elsewhere, or nothing."""
    console = Console(stderr=True, quiet=quiet)
    if quiet or not console.is_terminal:
        yield Lines(console, total, finished, metric)
        return
    bars = Bars(total, finished, metric)
    with Live(Group(bars.each, bars.overall), console=console, transient=True):
        yield bars
    console.print(f"{bars.done} of {total} trainings are done", highlight=False)


class Lines:
    """One plain line per finished training."""

    def __init__(self, console: Console, total: int, finished: int, metric: str) -> None:
        self.console, self.total, self.count, self.metric = console, total, finished, metric
        if finished:
            self._say(f"{finished} of {total} trainings are there already")

    def started(self, run: Run) -> None:
        """Nothing to say yet."""

    def epoch(self, run: Run, epoch: Epoch, total: int) -> None:
        """A log does not need every epoch."""

    def finished(self, run: Run, outcome: Outcome) -> None:
        """Say what came out."""
        self.count += 1
        score = outcome.scores.get(self.metric, float("nan"))
        self._say(
            f"[{self.count}/{self.total}] {run.arm.text} {run.label}: "
            f"{self.metric} {score:.4f} ({seconds_text(outcome.seconds)})"
        )

    def failed(self, run: Run, reason: str, details: str) -> None:
        """Say what went wrong."""
        self.count += 1
        self._say(f"[{self.count}/{self.total}] {run.arm.text} {run.label} failed: {reason}")

    def _say(self, text: str) -> None:
        self.console.print(text, markup=False, highlight=False, soft_wrap=True)


class Bars:
    """One bar per running training, and one for them all with the time that is left."""

    def __init__(self, total: int, finished: int, metric: str) -> None:
        self.metric = metric
        self.each = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[note]}"),
        )
        self.overall = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[note]}"),
            TimeRemainingColumn(elapsed_when_finished=True),
            # Epochs come slowly: the time left is guessed from the last minutes, not seconds.
            speed_estimate_period=600,
        )
        self.total, self.done, self.failures = total, finished, 0
        self.shares: dict[tuple[str, int], float] = {}
        self.rows: dict[tuple[str, int], TaskID] = {}
        self.all = self.overall.add_task("all", total=total, completed=finished, note="")

    def started(self, run: Run) -> None:
        """A bar of its own, from the start again after its process was killed."""
        if run.key in self.rows:
            self.each.remove_task(self.rows[run.key])
        label = f"{escape(_short(run.arm.text))} {run.label}"
        total = int(run.job.settings.get("epochs", 1))
        self.rows[run.key] = self.each.add_task(label, total=total, note="")
        self.shares[run.key] = 0.0

    def epoch(self, run: Run, epoch: Epoch, total: int) -> None:
        """One step, with the value seen."""
        score = {**epoch.valid, **epoch.test}.get(self.metric, float("nan"))
        self.each.update(
            self.rows[run.key],
            completed=epoch.number,
            total=total,
            note=f"{self.metric} {score:.4f}",
        )
        self.shares[run.key] = epoch.number / total
        self._tell()

    def finished(self, run: Run, outcome: Outcome) -> None:
        """The bar has served."""
        self._close(run)

    def failed(self, run: Run, reason: str, details: str) -> None:
        """The report says why."""
        self.failures += 1
        self._close(run)

    def _close(self, run: Run) -> None:
        self.each.remove_task(self.rows.pop(run.key))
        self.shares.pop(run.key)
        self.done += 1
        self._tell()

    def _tell(self) -> None:
        failed = f", {self.failures} failed" if self.failures else ""
        self.overall.update(
            self.all,
            completed=self.done + sum(self.shares.values()),
            note=f"{self.done}/{self.total} trainings" + failed,
        )


def _short(text: str) -> str:
    return text if len(text) <= 40 else text[:39] + "…"
