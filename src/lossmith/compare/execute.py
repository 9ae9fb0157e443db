"""Runs trainings in local worker processes that survive each other's failures.

Each worker is a spawned process with a pipe of its own. A training that raises is reported and
the others go on; a worker that is killed takes one training with it, which is tried once more;
and when this process ends, by whatever signal, the workers end too.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import pickle
import signal
import sys
import threading
import traceback
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from types import FrameType
from typing import Any, Protocol

from lossmith.compare.plan import Run
from lossmith.training.job import Epoch, Job, Outcome
from lossmith.training.launch import ignore_interrupt, processors

ATTEMPTS = 2  # for a training whose worker was killed
PATIENCE = 5.0  # seconds a worker has to end before it is killed


# What trains: ``lossmith.training.run.run_job``, or anything that can be pickled like it.
RunOne = Callable[..., Outcome]


# What is trained after a run, once it is filed: the next trial of a search, or nothing.
Successor = Callable[[Run], Run | None]


def nothing_follows(run: Run) -> None:
    """Each run stands alone."""


class Watch(Protocol):
    """Who is told what happens, in the process that calls :func:`execute`."""

    def started(self, run: Run) -> None:
        """A worker has begun this training."""

    def epoch(self, run: Run, epoch: Epoch, total: int) -> None:
        """One epoch was evaluated."""

    def finished(self, run: Run, outcome: Outcome) -> None:
        """The training is over; it may be filed."""

    def failed(self, run: Run, reason: str, details: str) -> None:
        """The training raised, or its process was killed; the others go on."""


Identity = tuple[str, int, int | None]


@dataclass
class _Worker:
    process: SpawnProcess
    pipe: Connection
    ready: bool = False
    run: Run | None = None


def execute(
    runs: Sequence[Run],
    run_one: RunOne,
    *,
    workers: int,
    watch: Watch,
    successor: Successor = nothing_follows,
) -> None:
    """Train every run, and what follows each; return when all have finished or failed.

    Ctrl-C and SIGTERM raise KeyboardInterrupt here, after the workers have been stopped.
    """
    waiting = deque(runs)
    attempts: Counter[Identity] = Counter()
    threads = max((int(run.job.settings.get("threads", 1)) for run in runs), default=1)
    pool: list[_Worker] = []
    with terminate_as_interrupt():
        try:
            while waiting or any(worker.run for worker in pool):
                while len(pool) < min(workers, _unfinished(waiting, pool)):
                    pool.append(_start(run_one, threads))
                for worker in pool:
                    if worker.ready and worker.run is None and waiting:
                        _give(worker, waiting, attempts, watch)
                for worker in _talkative(pool):
                    before = worker.run
                    if not _listen(worker, watch):
                        pool.remove(worker)
                        _bury(worker, waiting, attempts, watch)
                    if before is not None and worker.run is None:
                        follower = successor(before)
                        waiting.extend([] if follower is None else [follower])
        finally:
            _stop(pool)


def default_workers(runs: Sequence[Run]) -> int:
    """As many trainings at once as the processors have room for; elsewhere one."""
    if any(run.job.settings.get("device", "cpu") != "cpu" for run in runs):
        return 1
    threads = max((int(run.job.settings.get("threads", 1)) for run in runs), default=1)
    return max(1, min(processors() // threads, len(runs)))


def _unfinished(waiting: deque[Run], pool: Sequence[_Worker]) -> int:
    return len(waiting) + sum(worker.run is not None for worker in pool)


def _start(run_one: RunOne, threads: int) -> _Worker:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(
        target=_work, args=(theirs, pickle.dumps(run_one), threads), daemon=True
    )
    # A worker inherits "ignore Ctrl-C", from its first instruction on: stopping it is our part.
    with ignore_interrupt():
        process.start()
    theirs.close()
    return _Worker(process, ours)


def _talkative(pool: Sequence[_Worker]) -> list[_Worker]:
    ready = wait([worker.pipe for worker in pool])
    return [worker for worker in pool if worker.pipe in ready]


def _listen(worker: _Worker, watch: Watch) -> bool:
    """Take one message; False when the worker is gone."""
    try:
        kind, *values = worker.pipe.recv()
    except (EOFError, ConnectionError, pickle.UnpicklingError):
        return False
    run = worker.run
    if kind == "ready":
        worker.ready = True
    elif run is not None and kind == "epoch":
        watch.epoch(run, *values)
    elif run is not None:
        worker.run = None
        (watch.finished if kind == "finished" else watch.failed)(run, *values)
    return True


def _give(worker: _Worker, waiting: deque[Run], attempts: Counter[Identity], watch: Watch) -> None:
    run = waiting.popleft()
    attempts[run.identity] += 1
    worker.run = run
    watch.started(run)
    # A worker that has just died is noticed when it is listened to.
    with contextlib.suppress(ConnectionError):
        worker.pipe.send(run.job)


def _bury(worker: _Worker, waiting: deque[Run], attempts: Counter[Identity], watch: Watch) -> None:
    """What a dead worker was doing is tried again, or given up."""
    worker.process.join(PATIENCE)
    worker.pipe.close()
    if not worker.ready:
        raise RuntimeError(
            "a worker process ended before its first training (exit code "
            f"{worker.process.exitcode}). In a script, call compare() below "
            'if __name__ == "__main__":, because each worker imports the script.'
        )
    run = worker.run
    if run is None:
        return
    if attempts[run.identity] < ATTEMPTS:
        waiting.appendleft(run)
        return
    worker.run = None
    code = worker.process.exitcode
    reason = f"its process was killed {ATTEMPTS} times (exit code {code}"
    reason += "; out of memory?)" if code == -9 else ")"
    watch.failed(run, reason, reason)


def _stop(pool: Sequence[_Worker]) -> None:
    for worker in pool:
        if worker.run is not None:
            worker.process.terminate()
        worker.pipe.close()  # an idle worker sees the end of its pipe and leaves
    for worker in pool:
        worker.process.join(PATIENCE)
        if worker.process.is_alive():
            worker.process.kill()
            worker.process.join()


@contextlib.contextmanager
def terminate_as_interrupt() -> Iterator[None]:
    """Let SIGTERM end the work in the same orderly way as Ctrl-C."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _work(pipe: Connection, pickled: bytes, threads: int) -> None:
    """The life of a worker: one training after another until the pipe closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    # Read by the numerical libraries when they are loaded, which the next line does.
    os.environ["OMP_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = str(threads)
    run_one: RunOne = pickle.loads(pickled)
    with contextlib.suppress(EOFError, ConnectionError):
        pipe.send(("ready",))
        while True:
            pipe.send(_train(pipe, run_one, pipe.recv()))


def _train(pipe: Connection, run_one: RunOne, job: Job) -> tuple[Any, ...]:
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.set_num_threads(int(job.settings.get("threads", 1)))

    def report(epoch: Epoch, total: int) -> None:
        pipe.send(("epoch", epoch, total))

    try:
        return "finished", run_one(job, report=report)
    except Exception as error:
        reason = f"{type(error).__name__}: {error}".strip()
        return "failed", reason, traceback.format_exc()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os._exit(1)
