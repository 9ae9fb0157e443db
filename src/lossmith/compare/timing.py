"""A few steps and an evaluation of one loss, really timed; what times them imports little.

So a process that measures begins as one that trains does.
"""

from __future__ import annotations

import itertools
import math
import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from lossmith.core.memory import forget_peak_memory, peak_memory_mb
from lossmith.core.own import lend
from lossmith.training.job import Job

if TYPE_CHECKING:
    from lossmith.core.metric import Metric
    from lossmith.tasks.task import GradientLearner, Problem

WARM_UP = 3  # steps that are not counted: the first ones allocate
SECONDS = 3.0  # of timed steps of each loss, and up to three times as many for FEW steps
FEW = 20  # steps; batches of texts differ in length, and a handful says little of their mean
ENOUGH = 60  # steps
BLOCKS = 6  # of timed steps: what they disagree in, other work on the machine may do to a training
LOOK = 1.0  # seconds in which the batch that needs most memory is looked for
LONG = 3.0  # seconds; an evaluation that takes longer is not made again, nor on the test part
# How far a start and a whole training may be from what was measured on a machine that stays as it
# is: some losses cost more, or less, once the model has learned something.
UNSURE = 0.3


@dataclass(frozen=True)
class Timing:
    """What was measured of one loss."""

    arm: str
    step: float = math.nan  # seconds, in the middle of a training
    timed: int = 0  # steps that it is the mean of
    steps: int = 0  # of an epoch
    building: float = math.nan  # seconds for a model and an optimizer
    evaluation: float = math.nan  # seconds after each evaluated epoch
    training: float = math.nan  # seconds of a whole training
    low: float = math.nan  # seconds of a training, if all steps were like the fast ones, and
    high: float = math.nan  # like the slow ones; see UNSURE
    memory_mb: float = math.nan
    trouble: str = ""


def measure(arm: str, job: Job, objects: Mapping[str, Any]) -> tuple[Timing, float]:
    """The timing of one loss, and when a training could begin."""
    import torch

    from lossmith.tasks.registry import load_task
    from lossmith.tasks.task import GradientLearner

    ready = time.time()
    with lend(objects):
        try:
            task = load_task(job.family)
            settings = task.resolve(job.settings)
            torch.set_num_threads(settings["threads"])
            problem = task.problem(job.data, settings)
            if task.is_peer(job.loss):
                return Timing(arm, trouble="another library's learner has no steps"), time.time()
            forget_peak_memory()
            learner = task.learner(problem, job.loss, settings, job.seed)
            assert isinstance(learner, GradientLearner)
            # A process makes its first optimizer slowly: torch loads much for it.
            ready = time.time()
            few = _few_steps(learner)
            mean, fast, slow, timed = few.step()
            evaluation = _evaluation(problem.as_if_trained(), learner.model, task.metrics(settings))
            memory = peak_memory_mb()
            began = time.perf_counter()
            learner = task.learner(problem, job.loss, settings, job.seed)
            building = time.perf_counter() - began
            assert isinstance(learner, GradientLearner)
            if task.tire(learner):  # the steps of a training lie between the first and these
                tired = _few_steps(learner).step()[0]
                mean, slow = (mean + tired) / 2, max(slow, tired)
        except Exception as error:  # whatever a training raises is told, and the others are timed
            return Timing(arm, trouble=f"{type(error).__name__}: {error}"), ready
    steps = few.whole or math.ceil(problem.examples / settings["batch_size"])
    epochs = settings["epochs"]
    rest = building + math.ceil(epochs / settings["evaluate_every"]) * evaluation
    training = epochs * steps * mean + rest
    timing = Timing(
        arm,
        mean,
        timed,
        steps,
        building,
        evaluation,
        training,
        low=min(training, epochs * steps * fast + rest) * (1 - UNSURE),
        high=max(training, epochs * steps * slow + rest) * (1 + UNSURE),
        memory_mb=memory,
    )
    return timing, ready


def _few_steps(learner: GradientLearner) -> _Few:
    from lossmith.tasks.place import wait_for

    few = _Few(learner.problem, lambda: wait_for(learner.device))
    learner.problem = cast("Problem", few)  # it stands in for the problem
    learner.epoch()
    return few


def _evaluation(problem: Problem, model: Any, metrics: Sequence[Metric]) -> float:
    """Seconds after an epoch: one metric on validation data, all of them on the test part."""
    part, asked = ("valid", metrics[:1]) if problem.has_valid else ("test", metrics)
    seconds = _timed(lambda: problem.evaluate(model, part, asked))
    if seconds < LONG:  # again: the first one allocates
        seconds = _timed(lambda: problem.evaluate(model, part, asked))
    if part == "test":
        return seconds
    rows = problem.description.rows
    if seconds > LONG:
        return seconds * (1 + rows.get("test", 0) / max(rows[part], 1))
    return seconds + _timed(lambda: problem.evaluate(model, "test", metrics))


def _timed(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


class _Few:
    """A problem whose epoch ends after a few batches, and that notes when each was asked for."""

    def __init__(self, problem: Any, wait: Callable[[], None] = lambda: None) -> None:
        self.problem, self.wait = problem, wait
        self.marks: list[float] = []
        self.whole = 0  # batches of the epoch, if it ended by itself
        self.apart = 0  # steps that are none of the epoch's

    def __getattr__(self, name: str) -> Any:
        return getattr(self.problem, name)

    def batches(self, settings: Mapping[str, Any], seed: int, epoch: int) -> Iterator[Any]:
        """The batches of an epoch until the time is over, between two steps on its largest.

        It decides the memory, in fresh memory and once more in what the others left in pieces; a
        few of the epoch's batches would seldom be it.
        """
        batches: Iterable[Any] = self.problem.batches(settings, seed, epoch)
        largest = _largest(self.problem.batches(settings, seed, epoch))
        if largest is not None:
            self.apart = 1
            self.marks.append(time.perf_counter())
            yield largest
        yield from self._until_late(batches)
        if largest is not None:
            yield largest

    def _until_late(self, batches: Iterable[Any]) -> Iterator[Any]:
        for batch in batches:
            self._mark()
            done = len(self.marks) - 1
            taken = self.marks[-1] - self.marks[WARM_UP] if done > WARM_UP else 0.0
            late = taken > (SECONDS if done >= WARM_UP + FEW else 3 * SECONDS)
            if done >= WARM_UP + ENOUGH or late:
                return
            yield batch
        self._mark()
        self.whole = len(self.marks) - 1 - self.apart

    def _mark(self) -> None:
        self.wait()  # a device may still be at the step before
        self.marks.append(time.perf_counter())

    def step(self) -> tuple[float, float, float, int]:
        """Seconds of a step: the mean, that of the fastest and slowest block; and how many."""
        marks = self.marks[min(WARM_UP, max(len(self.marks) - 2, 0)) :]
        steps = [after - before for before, after in itertools.pairwise(marks)] or [0.0]
        size = math.ceil(len(steps) / BLOCKS)
        means = [statistics.fmean(steps[i : i + size]) for i in range(0, len(steps), size)]
        return statistics.fmean(steps), min(means), max(means), len(marks) - 1


def _largest(batches: Iterable[Any]) -> Any:
    """The batch with the most numbers among those looked at; None where all have as many."""
    until = time.perf_counter() + LOOK
    largest, most, least = None, 0, math.inf
    for batch in batches:
        size = _size(batch)
        least = min(least, size)
        if size > most:
            largest, most = batch, size
        if time.perf_counter() > until:
            break
    return largest if least < most else None


def _size(batch: Any) -> int:
    """How many numbers the tensors of a batch hold."""
    if hasattr(batch, "numel"):
        return int(batch.numel())
    return sum(map(_size, batch)) if isinstance(batch, (tuple, list)) else 0
