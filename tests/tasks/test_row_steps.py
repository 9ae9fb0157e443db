"""Steps on the rows that a batch touched, against torch's steps on whole tables."""

from __future__ import annotations

import pytest
import torch

from lossmith.kernels.factor_warp import RowGradient
from lossmith.tasks.recommendation import TASK
from lossmith.tasks.row_steps import RowSteps
from lossmith.tasks.task import GradientLearner, Problem
from tasks import tiny

SHAPES = ((12, 3), (7, 5), (7, 1))


def tables(**knobs):
    """Tables in two groups, and torch's optimizer of them."""
    torch.manual_seed(0)
    made = [torch.nn.Parameter(torch.randn(shape)) for shape in SHAPES]
    groups = [{"params": made[:1], "lr": 0.5}, {"params": made[1:]}]
    return made, torch.optim.Adagrad(groups, lr=0.1, lr_decay=0.3, fused=True, **knobs)


def test_the_rows_move_as_in_whole_tables_and_the_others_stay():
    ours, optimizer = tables()
    theirs, reference = tables()
    steps = RowSteps(optimizer)
    for number in range(5):
        changes = []
        for which, (mine, other) in enumerate(zip(ours, theirs, strict=True)):
            rows = torch.randperm(len(mine))[:3]
            gradient = torch.randn(3, mine.shape[1])
            other.grad = torch.zeros_like(other).index_copy_(0, rows, gradient)
            whole = number == 3 and which == 1
            some = RowGradient(None, other.grad.clone()) if whole else RowGradient(rows, gradient)
            changes.append((mine, some))
        before = ours[0].detach().clone()
        steps.step(changes)
        reference.step()
        untouched = torch.ones(len(before), dtype=torch.bool).index_fill_(0, changes[0][1].rows, 0)
        assert ours[0][untouched].equal(before[untouched])
    for mine, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, other)
        for name, value in reference.state[other].items():
            torch.testing.assert_close(optimizer.state[mine][name], value)


def test_only_what_leaves_rows_alone_steps_by_rows():
    made, plain = tables()
    assert RowSteps.fit(plain)
    assert not RowSteps.fit(torch.optim.Adagrad(made, weight_decay=0.1))
    assert not RowSteps.fit(torch.optim.AdamW(made))


def learner(loss="warp", **given):
    settings = tiny.settings("recommendation", learning_rate=0.3, max_trials=5, **given)
    return GradientLearner(TASK, tiny.recommendation(), loss, settings, seed=0)


@pytest.mark.parametrize("l2", [0.0, 0.3])
@pytest.mark.parametrize("batch_size", [1, 2, 8])  # rows of both tables, of one, whole tables
def test_warp_trains_by_rows_as_it_does_by_its_parts(batch_size, l2, monkeypatch):
    given = {"optimizer": "adagrad", "batch_size": batch_size, "l2": l2}
    ours, theirs = learner(**given), learner(**given)
    costs = [ours.epoch() for _ in range(3)]
    assert ours.model.users.weight.grad is None, "nothing was recorded"
    monkeypatch.setattr(type(theirs.problem), "whole_step", Problem.whole_step)
    assert costs == pytest.approx([theirs.epoch() for _ in range(3)])
    assert theirs.model.users.weight.grad is not None
    for mine, other in zip(ours.model.parameters(), theirs.model.parameters(), strict=True):
        torch.testing.assert_close(mine, other)
    states = (one.optimizer.state_dict()["state"] for one in (ours, theirs))
    torch.testing.assert_close(*states)


@pytest.mark.parametrize(
    ("loss", "given"),
    [
        ("warp", {"optimizer": "adamw"}),
        ("warp", {"optimizer": "adagrad", "weight_decay": 0.01}),
        ("warp(reduction='sum')", {"optimizer": "adagrad"}),
        ("bpr", {"optimizer": "adagrad"}),
    ],
)
def test_what_has_no_step_of_its_own_steps_as_usual(loss, given):
    one = learner(loss, **given)
    one.epoch()
    assert one.model.users.weight.grad is not None


def test_a_model_in_shares_steps_as_usual():
    one = learner(optimizer="adagrad")
    one.called = torch.nn.Identity()
    assert one._step() == one._usual_step
