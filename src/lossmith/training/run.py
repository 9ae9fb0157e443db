"""One training from beginning to end."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

import torch

from lossmith.core.memory import forget_peak_memory, peak_memory_mb
from lossmith.core.metric import Metric
from lossmith.tasks.registry import load_task
from lossmith.training.job import Epoch, Job, Outcome

Report = Callable[[Epoch, int], None]


def run_job(job: Job, *, report: Report | None = None) -> Outcome:
    """Train and evaluate; ``report(epoch, total)`` is called after each evaluated epoch."""
    task = load_task(job.family)
    settings = task.resolve(job.settings)
    torch.set_num_threads(settings["threads"])
    metrics = task.metrics(settings)
    problem = task.problem(job.data, settings)
    forget_peak_memory()
    learner = task.learner(problem, job.loss, settings, job.seed)

    total, every = settings["epochs"], settings["evaluate_every"]
    epochs: list[Epoch] = []
    training_seconds = pass_seconds = 0.0
    for number in range(1, total + 1):
        began = time.perf_counter()
        loss = learner.epoch()
        seconds = time.perf_counter() - began
        training_seconds += seconds
        pass_seconds += seconds
        if number % every and number != total:
            continue
        # Validation data chooses the epoch and does nothing else: one metric is enough.
        valid = problem.evaluate(learner.model, "valid", metrics[:1]) if problem.has_valid else {}
        test = problem.evaluate(learner.model, "test", metrics) if job.part == "test" else {}
        epochs.append(Epoch(number, loss, pass_seconds, valid, test))
        pass_seconds = 0.0
        if report is not None:
            report(epochs[-1], total)

    chosen = choose_epoch(epochs, metrics[0])
    return Outcome(
        epochs=tuple(epochs),
        chosen=chosen.number,
        scores=chosen.test if job.part == "test" else chosen.valid,
        seconds=training_seconds,
        peak_memory_mb=peak_memory_mb(),
        parameters=learner.parameters,
    )


def choose_epoch(epochs: list[Epoch], metric: Metric) -> Epoch:
    """The best epoch on validation data, the earliest of equals; without such data the last."""
    judged = [epoch for epoch in epochs if not math.isnan(epoch.valid.get(metric.name, math.nan))]
    if not judged:
        return epochs[-1]
    sign = 1.0 if metric.higher_is_better else -1.0
    return max(judged, key=lambda epoch: (sign * epoch.valid[metric.name], -epoch.number))
