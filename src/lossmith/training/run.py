"""One training from beginning to end, in one go or with stops between its steps."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor

from lossmith.core.memory import forget_peak_memory, peak_memory_mb
from lossmith.core.metric import Metric
from lossmith.tasks.place import CPU, moved
from lossmith.tasks.registry import load_task
from lossmith.tasks.task import GradientLearner
from lossmith.training.job import Epoch, Job, Outcome

Report = Callable[[Epoch, int], None]


def run_job(job: Job, *, report: Report | None = None) -> Outcome:
    """Train and evaluate; ``report(epoch, total)`` is called after each evaluated epoch."""
    return Training(job).run(report=report)


class Training:
    """A training that stands somewhere: at the beginning, between two steps, or at the end.

    With ``keep_best`` the weights of the best epoch so far are kept aside, and the model has them
    at the end.
    """

    def __init__(self, job: Job, *, keep_best: bool = False) -> None:
        self.job, self.keep_best = job, keep_best
        self.task = load_task(job.family)
        self.settings = self.task.resolve(job.settings)
        torch.set_num_threads(self.settings["threads"])
        self.metrics = self.task.metrics(self.settings)
        self.problem = self.task.problem(job.data, self.settings)
        forget_peak_memory()
        self.learner = self.task.learner(self.problem, job.loss, self.settings, job.seed)
        self.done = 0  # whole epochs, evaluated where they are to be
        self.epochs: list[Epoch] = []
        self.seconds = self.pass_seconds = 0.0  # of training: in all, since the last evaluation
        self.began: float | None = None  # when the epoch that is trained now began
        self.best: dict[str, Tensor] | None = None

    def run(
        self, *, report: Report | None = None, after_step: Callable[[float], None] | None = None
    ) -> Outcome:
        """Do what is left.

        ``after_step`` gets the loss of each step; what it raises breaks the training off there.
        """
        total, every = self.settings["epochs"], self.settings["evaluate_every"]
        for number in range(self.done + 1, total + 1):
            self.began = time.perf_counter()
            loss = self.learner.epoch(after_step)
            seconds = time.perf_counter() - self.began
            self.began = None
            self.seconds += seconds
            self.pass_seconds += seconds
            if number % every == 0 or number == total:
                self._evaluate(number, loss)
                if report is not None:
                    report(self.epochs[-1], total)
            self.done = number
        return self._outcome()

    def state(self) -> dict[str, Any]:
        """Where it stands, as tensors and plain values; the learner has to be one of gradients."""
        assert isinstance(self.learner, GradientLearner)
        seconds = 0.0 if self.began is None else time.perf_counter() - self.began
        return {
            "learner": self.learner.state(),
            "done": self.done,
            "epochs": [asdict(epoch) for epoch in self.epochs],
            "seconds": self.seconds + seconds,
            "pass_seconds": self.pass_seconds + seconds,
            "best": None if self.best is None else moved(self.best, CPU),
        }

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Stand there; what follows is what would have followed."""
        assert isinstance(self.learner, GradientLearner)
        self.learner.load_state(state["learner"])
        self.done, self.best = state["done"], state["best"]
        self.epochs = [Epoch(**epoch) for epoch in state["epochs"]]
        self.seconds, self.pass_seconds = state["seconds"], state["pass_seconds"]

    def _evaluate(self, number: int, loss: float) -> None:
        model, metrics = self.learner.model, self.metrics
        # Validation data chooses the epoch and does nothing else: one metric is enough.
        valid = self.problem.evaluate(model, "valid", metrics[:1]) if self.problem.has_valid else {}
        test = self.problem.evaluate(model, "test", metrics) if self.job.part == "test" else {}
        self.epochs.append(Epoch(number, loss, self.pass_seconds, valid, test))
        self.pass_seconds = 0.0
        if self.keep_best and choose_epoch(self.epochs, metrics[0]).number == number:
            self.best = {name: value.clone() for name, value in model.state_dict().items()}

    def _outcome(self) -> Outcome:
        chosen = choose_epoch(self.epochs, self.metrics[0])
        if self.best is not None:
            self.learner.model.load_state_dict(self.best)
        return Outcome(
            epochs=tuple(self.epochs),
            chosen=chosen.number,
            scores=chosen.test if self.job.part == "test" else chosen.valid,
            seconds=self.seconds,
            peak_memory_mb=peak_memory_mb(),
            parameters=self.learner.parameters,
        )


def choose_epoch(epochs: list[Epoch], metric: Metric) -> Epoch:
    """The best epoch on validation data, the earliest of equals; without such data the last."""
    judged = [epoch for epoch in epochs if not math.isnan(epoch.valid.get(metric.name, math.nan))]
    if not judged:
        return epochs[-1]
    sign = 1.0 if metric.higher_is_better else -1.0
    return max(judged, key=lambda epoch: (sign * epoch.valid[metric.name], -epoch.number))
