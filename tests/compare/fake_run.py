"""A training without a model: outcomes are a formula of loss and seed, so that runs take no time.

Settings steer the trouble: ``delay`` seconds per epoch, ``trouble`` such as "raise b 1" (loss b,
seed 1), "kill b 1", "kill-once b 1", "nan b 1"; ``log`` is a file to which each training adds a
line with its process id. Worker processes import this file, so it imports little.
"""

from __future__ import annotations

import os
import random
import signal
import time
from pathlib import Path
from typing import Any

from lossmith.training.job import Epoch, Job, Outcome

GAINS = {"a": 0.0, "b": 0.02, "c": -0.03, "d": 0.0005, "a_rather_long_name_of_a_loss": 0.001}


def run_one(job: Job, *, report: Any = None) -> Outcome:
    settings = job.settings
    if settings["log"]:
        with Path(settings["log"]).open("a") as file:
            file.write(f"{job.loss} {job.seed} {os.getpid()}\n")
    kind, *where = settings["trouble"].split() or ("none",)
    hit = where == [job.loss, str(job.seed)]
    if hit and kind == "raise":
        raise ValueError("the loss is on strike")
    if hit and (kind == "kill" or (kind == "kill-once" and _times(job) == 1)):
        os.kill(os.getpid(), signal.SIGKILL)
    shared = random.Random(job.seed).gauss(0, 0.01)
    own = random.Random(f"{job.loss} {job.seed}")
    epochs = []
    for number in range(1, settings["epochs"] + 1):
        time.sleep(settings["delay"])
        level = 0.8 - 0.3 / number + GAINS[job.loss.split("(")[0]] + shared
        accuracy = level + own.gauss(0, 0.003)
        scores = {"accuracy": accuracy, "log_loss": 1 - accuracy + own.gauss(0, 0.003)}
        if hit and kind == "nan":
            scores = dict.fromkeys(scores, float("nan"))
        epochs.append(Epoch(number, 1 / number, 0.1, scores, scores))
        if report is not None:
            report(epochs[-1], settings["epochs"])
    return Outcome(tuple(epochs), len(epochs), epochs[-1].test, 1.5 + own.random(), 321.0, 12_345)


def _times(job: Job) -> int:
    lines = Path(job.settings["log"]).read_text().splitlines()
    return sum(line.startswith(f"{job.loss} {job.seed} ") for line in lines)


def threads_seen(job: Job, *, report: Any = None) -> Any:
    return os.environ["OMP_NUM_THREADS"]
