"""What a person sees while one training runs."""

from __future__ import annotations

import io
from types import SimpleNamespace

from rich.console import Console

from lossmith.cli.train_progress import Bar, Lines
from lossmith.training.job import Epoch


def training(done: int, steps: int) -> SimpleNamespace:
    return SimpleNamespace(
        done=done,
        settings={"batch_size": 8, "epochs": 3},
        learner=SimpleNamespace(costs=[0.0] * steps),
        problem=SimpleNamespace(examples=20),
    )


def epoch(number: int) -> Epoch:
    return Epoch(number, 0.5, 1.25, {"accuracy": 0.75}, {"accuracy": 0.5, "log_loss": 1.0})


def test_the_bar_counts_steps_and_shows_loss_and_metric(monkeypatch):
    monkeypatch.setattr("lossmith.cli.train_progress.OFTEN", 0.0)
    console = Console(file=io.StringIO(), force_terminal=True, highlight=False, width=120)
    bar = Bar(console)
    bar.began(training(1, 2))
    (task,) = bar.progress.tasks
    assert (task.completed, task.total) == (5, 9)  # three batches of 20 rows in each of 3 epochs
    assert "after 1 epochs and 2 steps" in console.file.getvalue()
    bar.step(0.25)
    assert task.completed == 6 and "loss 0.2500" in task.fields["note"]
    bar.epoch(epoch(2), 3)
    assert "valid accuracy 0.7500" in task.fields["note"]
    bar.step(0.25)
    bar.progress.stop()
    assert task.completed == 7 and "epoch 3/3" in task.fields["note"]


def test_a_log_has_a_line_for_each_evaluated_epoch():
    console = Console(file=io.StringIO(), width=120)
    lines = Lines(console)
    lines.began(training(0, 0))
    lines.epoch(epoch(1), 3)
    assert console.file.getvalue() == "epoch 1/3: loss 0.5000, valid accuracy 0.7500 (1.2 s)\n"
