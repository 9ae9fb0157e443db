"""How long a comparison will take and how much memory, from a few steps that are really timed."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import get_context
from typing import TYPE_CHECKING, Any

from lossmith.compare.execute import default_workers
from lossmith.compare.lent import why_here
from lossmith.compare.study import Study
from lossmith.core.memory import forget_peak_memory, peak_memory_mb
from lossmith.core.own import lend
from lossmith.training.job import Job

if TYPE_CHECKING:
    from lossmith.compare.plan import Arm
    from lossmith.core.metric import Metric
    from lossmith.tasks.task import Problem

WARM_UP = 3  # steps that are not counted: the first ones allocate
SECONDS = 3.0  # of timed steps of each loss
ENOUGH = 60  # steps


@dataclass(frozen=True)
class Timing:
    """What was measured of one loss."""

    arm: str
    step: float = math.nan  # seconds
    timed: int = 0  # steps that it is the mean of
    steps: int = 0  # of an epoch
    evaluation: float = math.nan  # seconds after each evaluated epoch
    training: float = math.nan  # seconds of a whole training
    memory_mb: float = math.nan
    trouble: str = ""


@dataclass(frozen=True)
class Estimate:
    """What a comparison will cost; an estimate, no promise."""

    timings: tuple[Timing, ...]
    start: float  # seconds until a worker has read the data
    trainings: int  # that are left to do
    workers: int
    seconds: float
    memory_mb: float  # of all workers together


def estimate(study: Study, jobs: int | None = None) -> Estimate:
    """Time a few steps and an evaluation of each loss, in a process like those that will train."""
    left = study.total - study.finished()
    runs = study.plan.runs()
    workers = default_workers(runs) if jobs is None else jobs
    workers = max(1, min(workers, left))
    if not left:
        return Estimate((), 0.0, 0, workers, 0.0, 0.0)
    began = time.time()
    firsts = {run.arm.text: run.job for run in reversed(runs)}
    given = [(arm.text, firsts[arm.text], dict(study.objects)) for arm in study.plan.arms]
    if why_here(study.carried) is None:
        # As many at a time as will train: they share the processors as those will.
        with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
            waiting = [pool.submit(measure, *one) for one in given]
            found = [_result(arm, one) for arm, one in zip(study.plan.arms, waiting, strict=True)]
    else:
        found = [measure(*one) for one in given]
    start = min(at for _, at in found) - began
    timings = [timing for timing, _ in found]
    known = [one.training for one in timings if math.isfinite(one.training)]
    mean = sum(known) / len(known) if known else math.nan
    seconds = start + max(mean * left / workers, max(known, default=math.nan))
    memory = max((t.memory_mb for t in timings if math.isfinite(t.memory_mb)), default=math.nan)
    return Estimate(tuple(timings), start, left, workers, seconds, memory * workers)


def _result(arm: Arm, waiting: Future[tuple[Timing, float]]) -> tuple[Timing, float]:
    try:
        return waiting.result()
    except BrokenProcessPool:
        return Timing(arm.text, trouble="a process that timed it was killed"), time.time()


def measure(arm: str, job: Job, objects: Mapping[str, Any]) -> tuple[Timing, float]:
    """The timing of one loss, and when the data was ready."""
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
            ready = time.time()
            if task.is_peer(job.loss):
                return Timing(arm, trouble="another library's learner has no steps"), ready
            forget_peak_memory()
            learner = task.learner(problem, job.loss, settings, job.seed)
            assert isinstance(learner, GradientLearner)
            few = _Few(problem)
            learner.problem = few  # type: ignore[assignment]  # it stands in for the problem
            learner.epoch()
            step, timed = few.step()
            rows = problem.description.rows
            metrics = task.metrics(settings)
            part = "valid" if problem.has_valid else "test"
            one = _timed(problem, learner.model, part, metrics[:1])
            every = _timed(problem, learner.model, part, metrics)
        except Exception as error:  # whatever a training raises is told, and the others are timed
            return Timing(arm, trouble=f"{type(error).__name__}: {error}"), ready
    steps = few.whole or math.ceil(rows["train"] / settings["batch_size"])
    evaluation = every * rows.get("test", 0) / max(rows[part], 1)
    evaluation += one if problem.has_valid else 0.0
    epochs = settings["epochs"]
    times = math.ceil(epochs / settings["evaluate_every"])
    training = epochs * steps * step + times * evaluation
    timing = Timing(arm, step, timed, steps, evaluation, training, peak_memory_mb())
    return timing, ready


def _timed(problem: Problem, model: Any, part: str, metrics: Sequence[Metric]) -> float:
    began = time.perf_counter()
    problem.evaluate(model, part, metrics)
    return time.perf_counter() - began


class _Few:
    """A problem whose epoch ends after a few batches, and that notes when each was asked for."""

    def __init__(self, problem: Any) -> None:
        self.problem = problem
        self.marks: list[float] = []
        self.whole = 0  # batches of the epoch, if it ended by itself

    def __getattr__(self, name: str) -> Any:
        return getattr(self.problem, name)

    def batches(self, settings: Mapping[str, Any], seed: int, epoch: int) -> Iterator[Any]:
        """The batches of an epoch until the time is over."""
        batches: Iterable[Any] = self.problem.batches(settings, seed, epoch)
        for batch in batches:
            self.marks.append(time.perf_counter())
            done = len(self.marks) - 1
            late = done > WARM_UP and self.marks[-1] - self.marks[WARM_UP] > SECONDS
            if done >= WARM_UP + ENOUGH or late:
                return
            yield batch
        self.marks.append(time.perf_counter())
        self.whole = len(self.marks) - 1

    def step(self) -> tuple[float, int]:
        """Seconds of a step, and how many it is the mean of."""
        marks = self.marks[min(WARM_UP, max(len(self.marks) - 2, 0)) :]
        count = len(marks) - 1
        return (marks[-1] - marks[0]) / max(count, 1), count
