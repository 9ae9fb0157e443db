"""What a person sees of one training while it runs, on stderr."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

if TYPE_CHECKING:
    from lossmith.training.job import Epoch
    from lossmith.training.run import Training

OFTEN = 0.1  # seconds between two changes of the bar


@contextlib.contextmanager
def shown(*, quiet: bool) -> Iterator[dict[str, Any]]:
    """The callbacks of a training: a bar on a terminal, a line for each epoch elsewhere."""
    console = Console(stderr=True, quiet=quiet, highlight=False)
    if quiet or not console.is_terminal:
        lines = Lines(console)
        yield {"began": lines.began, "report": lines.epoch}
        return
    bar = Bar(console)
    try:
        yield {"began": bar.began, "report": bar.epoch, "after_step": bar.step}
    finally:
        bar.progress.stop()


def _went_on(training: Training) -> str | None:
    steps = len(getattr(training.learner, "costs", ()))
    if not training.done and not steps:
        return None
    inside = f" and {steps} steps" if steps else ""
    return f"Going on from the checkpoint, after {training.done} epochs{inside}"


class Lines:
    """One plain line per evaluated epoch."""

    def __init__(self, console: Console) -> None:
        self.console = console

    def began(self, training: Training) -> None:
        """Say where it goes on."""
        text = _went_on(training)
        if text:
            self.console.print(text, markup=False, soft_wrap=True)

    def epoch(self, epoch: Epoch, total: int) -> None:
        """Say what came out."""
        self.console.print(
            f"epoch {epoch.number}/{total}: loss {epoch.train_loss:.4f}, {_score(epoch)}"
            f"({epoch.seconds:.1f} s)",
            markup=False,
            soft_wrap=True,
        )


class Bar:
    """A bar over all steps, with the loss as it is now and the metric of the last evaluation."""

    def __init__(self, console: Console) -> None:
        self.progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=30),
            TextColumn("{task.fields[note]}"),
            TimeRemainingColumn(elapsed_when_finished=True),
            console=console,
            transient=True,
        )
        self.console, self.steps, self.last = console, 0, 0.0
        self.loss, self.score = math.nan, ""

    def began(self, training: Training) -> None:
        """Show the bar, at the place where training goes on."""
        text = _went_on(training)
        if text:
            self.console.print(text, markup=False, soft_wrap=True)
        self.each = math.ceil(training.problem.examples / training.settings["batch_size"])
        self.total = training.settings["epochs"]
        self.steps = training.done * self.each + len(getattr(training.learner, "costs", ()))
        self.task = self.progress.add_task(
            "Training", total=self.total * self.each, completed=self.steps, note=""
        )
        self.progress.start()

    def step(self, loss: float) -> None:
        """One step more; the loss is a mean over the last ones, as single ones jump."""
        self.steps += 1
        self.loss = loss if math.isnan(self.loss) else 0.95 * self.loss + 0.05 * loss
        if time.monotonic() - self.last >= OFTEN:
            self.last = time.monotonic()
            self._tell()

    def epoch(self, epoch: Epoch, total: int) -> None:
        """An evaluation is there."""
        self.steps = epoch.number * self.each
        self.score = _score(epoch)
        self._tell()

    def _tell(self) -> None:
        epoch = min(self.total, self.steps // self.each + 1)
        note = f"epoch {epoch}/{self.total}, loss {self.loss:.4f} {self.score}"
        self.progress.update(self.task, completed=self.steps, note=note)


def _score(epoch: Epoch) -> str:
    for part, values in (("valid", epoch.valid), ("test", epoch.test)):
        for name, value in values.items():
            return f"{part} {name} {value:.4f} "
    return ""
