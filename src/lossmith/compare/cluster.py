"""Runs trainings on a Ray cluster; the counterpart of :mod:`lossmith.compare.execute`.

Each training is one Ray task. Ray itself tries a task again whose process or machine dies; a
training that raises is reported, and the others go on. Every machine of the cluster needs lossmith
installed and the data at the same path.
"""

from __future__ import annotations

import contextlib
import socket
import traceback
from collections.abc import Iterator, Sequence
from typing import Any

from lossmith.compare.execute import (
    ATTEMPTS,
    PATIENCE,
    RunOne,
    Successor,
    Watch,
    nothing_follows,
    terminate_as_interrupt,
)
from lossmith.compare.plan import PlanError, Run
from lossmith.training.job import Epoch, Job

POLL = 0.5  # seconds between two looks at the news


def execute_on_ray(
    runs: Sequence[Run],
    run_one: RunOne,
    *,
    address: str | None,
    jobs: int | None,
    watch: Watch,
    successor: Successor = nothing_follows,
) -> None:
    """Train every run on the cluster at ``address`` ("auto", "ray://..."), or on one of its own.

    ``jobs`` bounds how many trainings run at a time; by default as many as the cluster has
    processors for. Ctrl-C and SIGTERM raise KeyboardInterrupt, after the tasks were cancelled.
    """
    with _connected(address) as ray, terminate_as_interrupt():
        board = _board(ray)
        train = ray.remote(max_retries=ATTEMPTS - 1)(_train)
        waiting, told = list(runs), set[tuple[str, int]]()
        running: dict[Any, Run] = {}
        try:
            while waiting or running:
                while waiting and (jobs is None or len(running) < jobs):
                    run = waiting.pop(0)
                    threads = int(run.job.settings.get("threads", 1))
                    task = train.options(num_cpus=threads).remote(run_one, run.job, board, run.key)
                    running[task] = run
                done, _ = ray.wait(list(running), timeout=POLL)
                _tell_news(ray, board, {run.key: run for run in running.values()}, told, watch)
                for task in done:
                    run = running.pop(task)
                    _settle(ray, task, run, told, watch)
                    follower = successor(run)
                    waiting.extend([] if follower is None else [follower])
        except BaseException:
            for task in running:
                ray.cancel(task, force=True)
            raise


def _settle(ray: Any, task: Any, run: Run, told: set[tuple[str, int]], watch: Watch) -> None:
    if run.key not in told:
        watch.started(run)  # over before its beginning was heard of
    try:
        kind, *values = ray.get(task)
    except ray.exceptions.RayError as error:
        reason = f"its process was killed {ATTEMPTS} times ({type(error).__name__})"
        watch.failed(run, reason, f"{reason}\n{error}")
        return
    (watch.finished if kind == "finished" else watch.failed)(run, *values)


def _tell_news(
    ray: Any,
    board: Any,
    running: dict[tuple[str, int], Run],
    told: set[tuple[str, int]],
    watch: Watch,
) -> None:
    """Pass on what the trainings have posted; news is a convenience, and its loss costs nothing."""
    try:
        news = ray.get(board.take.remote())
    except ray.exceptions.RayError:
        return
    for key, epoch, total in news:
        run = running.get(key)
        if run is None:
            continue
        if epoch is None:  # it starts, or starts again after its process was killed
            told.add(key)
            watch.started(run)
        elif key in told:
            watch.epoch(run, epoch, total)


def _train(run_one: RunOne, job: Job, board: Any, key: tuple[str, int]) -> tuple[Any, ...]:
    """The task: like a local worker, it returns what came out and never raises."""
    board.post.remote(key, None, 0)

    def report(epoch: Epoch, total: int) -> None:
        board.post.remote(key, epoch, total)

    try:
        return "finished", run_one(job, report=report)
    except Exception as error:
        reason = f"{type(error).__name__}: {error}".strip()
        return "failed", reason, traceback.format_exc()


class _Board:
    """Where trainings post their news until the driver takes it."""

    def __init__(self) -> None:
        self.news: list[tuple[Any, ...]] = []

    def post(self, *item: Any) -> None:
        self.news.append(item)

    def take(self) -> list[tuple[Any, ...]]:
        news, self.news = self.news, []
        return news


def _board(ray: Any) -> Any:
    """On the driver's machine: it lives as long as the one who reads it."""
    here = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(
        ray.get_runtime_context().get_node_id(), soft=True
    )
    return ray.remote(_Board).options(num_cpus=0, scheduling_strategy=here).remote()


@contextlib.contextmanager
def _connected(address: str | None) -> Iterator[Any]:
    """Ray, joined to the cluster; left again at the end unless the caller had joined before."""
    try:
        import ray
        import ray.exceptions
        import ray.util.scheduling_strategies
    except ModuleNotFoundError:
        raise PlanError(
            'a cluster needs Ray. Install it with: pip install "lossmith[ray]"'
        ) from None
    if ray.is_initialized():
        yield ray
        return
    try:
        _knock(address)
        ray.init(address=address, log_to_driver=False, logging_level="ERROR")
    except (OSError, ValueError) as error:
        raise PlanError(
            f"no Ray cluster answers at {address!r} ({error}). Start one with `ray start --head`, "
            "or leave --address out for one on this machine."
        ) from error
    try:
        yield ray
    finally:
        ray.shutdown()


def _knock(address: str | None) -> None:
    """Raise OSError where nobody listens: Ray itself would go on asking for minutes."""
    host, _, port = (address or "").removeprefix("ray://").rpartition(":")
    if host and port.isdecimal():
        socket.create_connection((host, int(port)), timeout=PATIENCE).close()
