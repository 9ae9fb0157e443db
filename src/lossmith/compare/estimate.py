"""How long a comparison will take and how much memory, from a few steps that are really timed."""

from __future__ import annotations

import heapq
import math
import statistics
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from multiprocessing import get_context
from typing import Any

from lossmith.compare.execute import default_workers
from lossmith.compare.lent import why_here
from lossmith.compare.store import Store
from lossmith.compare.study import Study
from lossmith.compare.timing import UNSURE, Timing, measure
from lossmith.compare.tune import searched_arms


@dataclass(frozen=True)
class Estimate:
    """What a comparison will cost; an estimate, no promise."""

    timings: tuple[Timing, ...]
    start: float  # seconds until a worker has read the data and begins to train
    trainings: int  # that are left to do
    workers: int
    seconds: float
    low: float  # seconds, and
    high: float  # between which it is likely to be
    memory_mb: float  # of all workers together


def estimate(study: Study, jobs: int | None = None) -> Estimate:
    """Time a few steps and an evaluation of each loss, in processes like those that will train."""
    left = study.total - study.finished()
    runs = study.plan.runs()
    workers = default_workers(runs) if jobs is None else jobs
    workers = max(1, min(workers, left))
    if not left:
        return Estimate((), 0.0, 0, workers, 0.0, 0.0, 0.0, 0.0)
    began = time.time()
    firsts = {run.arm.text: run.job for run in reversed(runs)}
    given = [(arm.text, firsts[arm.text], dict(study.objects)) for arm in study.plan.arms]
    if why_here(study.carried) is None:
        # As many at a time as will train: they share the processors and the memory as those will.
        given *= math.ceil(workers / len(given))
        with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
            waiting = [(one[0], pool.submit(measure, *one)) for one in given]
            found = [_result(arm, one) for arm, one in waiting]
    else:
        found = [measure(*one) for one in given]
    start = statistics.fmean(sorted(at for _, at in found)[:workers]) - began
    timings = [_together([t for t, _ in found if t.arm == arm.text]) for arm in study.plan.arms]
    seconds, low, high = (
        sure * start + _span(study, {t.arm: getattr(t, which) for t in timings}, workers)
        for which, sure in (("training", 1.0), ("low", 1 - UNSURE), ("high", 1 + UNSURE))
    )
    memory = max((t.memory_mb for t in timings if math.isfinite(t.memory_mb)), default=math.nan)
    return Estimate(tuple(timings), start, left, workers, seconds, low, high, memory * workers)


def _result(arm: str, waiting: Future[tuple[Timing, float]]) -> tuple[Timing, float]:
    try:
        return waiting.result()
    except BrokenProcessPool:
        return Timing(arm, trouble="a process that timed it was killed"), time.time()


def _together(found: Sequence[Timing]) -> Timing:
    """One timing of what several processes measured of a loss at the same time."""
    whole = [one for one in found if not one.trouble]
    if len(whole) < 2:
        return (whole or found)[0]
    mean: dict[str, Any] = {
        name: statistics.fmean(getattr(one, name) for one in whole)
        for name in ("step", "building", "evaluation", "training")
    }
    return replace(
        whole[0],
        **mean,
        timed=sum(one.timed for one in whole),
        low=min(one.low for one in whole),
        high=max(one.high for one in whole),
        memory_mb=max(one.memory_mb for one in whole),
    )


def _span(study: Study, training: Mapping[str, float], workers: int) -> float:
    """Seconds until the last training is over; what was not timed is taken for the mean."""
    known = [seconds for seconds in training.values() if math.isfinite(seconds)]
    if not known:
        return math.nan
    each = {
        arm: seconds if math.isfinite(seconds) else statistics.fmean(known)
        for arm, seconds in training.items()
    }
    store = Store(study.folder)
    missing = range(study.plan.tune)
    searches = [  # of each loss one trial after the other
        each[arm.text] * sum(store.trial(arm, number) is None for number in missing)
        for arm in searched_arms(study.plan, study.task)
    ]
    searching = max(sum(searches) / workers, max(searches, default=0.0))
    free = [0.0] * workers
    for run in study.plan.runs():
        if store.outcome(run) is None:
            heapq.heappush(free, heapq.heappop(free) + each[run.arm.text])
    return searching + max(free)
