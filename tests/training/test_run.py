from __future__ import annotations

import json
import math
import resource
from pathlib import Path

import pytest
import torch

from lossmith.core.metric import find_metric
from lossmith.tasks.registry import load_task
from lossmith.training.job import Epoch, Job, Outcome
from lossmith.training.run import choose_epoch, run_job


def job(data, loss="binary_cross_entropy", family="classification", seed=0, **settings) -> Job:
    return Job(family, data, loss, seed, {"epochs": 3, "dimension": 6, **settings})


def numbers(outcome: Outcome):
    """All that may not depend on the clock."""
    epochs = [(e.number, e.train_loss, e.valid, e.test) for e in outcome.epochs]
    return epochs, outcome.chosen, outcome.scores, outcome.parameters


JOBS = [
    ("classification", "cross_entropy", {"model": "cnn", "dropout": 0.5}),
    ("classification", "hinge", {"model": "lstm", "hidden": 4, "dropout": 0.5, "epochs": 2}),
    ("recommendation", "bpr", {"negatives": 2}),
    ("recommendation", "warp", {}),
]


@pytest.mark.parametrize(("family", "loss", "settings"), JOBS)
def test_the_same_job_gives_the_same_numbers_whatever_ran_before(request, family, loss, settings):
    data = request.getfixturevalue("reviews" if family == "classification" else "ratings")
    first = run_job(job(data, loss, family, **settings))
    run_job(job(data, loss, family, seed=1, epochs=1))
    torch.manual_seed(99)
    assert numbers(run_job(job(data, loss, family, **settings))) == numbers(first)


def test_another_seed_gives_other_numbers(reviews):
    first, second = (run_job(job(reviews, seed=seed)) for seed in (0, 1))
    assert [e.train_loss for e in first.epochs] != [e.train_loss for e in second.epochs]


def test_training_lowers_the_loss_and_the_model_beats_guessing(reviews):
    outcome = run_job(job(reviews, epochs=15, learning_rate=0.02, batch_size=16))
    losses = [epoch.train_loss for epoch in outcome.epochs]
    assert losses[0] == pytest.approx(math.log(2), rel=0.25) and losses[-1] < losses[0] / 2
    assert outcome.scores["accuracy"] > 0.65


# ---------------------------------------------------------------------------- epochs


def test_each_evaluated_epoch_is_reported_as_it_ends(reviews):
    heard = []
    outcome = run_job(job(reviews), report=lambda epoch, total: heard.append((epoch, total)))
    assert heard == [(epoch, 3) for epoch in outcome.epochs]
    assert [epoch.number for epoch in outcome.epochs] == [1, 2, 3]


def test_the_reported_scores_are_the_test_scores_of_the_chosen_epoch(reviews):
    outcome = run_job(job(reviews, epochs=6, metric="log_loss"))
    best = min(outcome.epochs, key=lambda epoch: epoch.valid["log_loss"])
    assert outcome.chosen == best.number and outcome.scores == best.test
    assert list(outcome.scores) == ["log_loss", "accuracy", "macro_f1", "calibration"]
    assert list(best.valid) == ["log_loss"]  # validation data chooses the epoch, no more


def test_without_a_valid_part_the_last_epoch_counts(reviews):
    outcome = run_job(job(reviews, valid=0, epochs=4))
    assert outcome.chosen == 4 and outcome.scores == outcome.epochs[-1].test
    assert all(epoch.valid == {} for epoch in outcome.epochs)


def test_fewer_evaluations_do_not_change_the_training(reviews):
    every = run_job(job(reviews, epochs=5))
    second = run_job(job(reviews, epochs=5, evaluate_every=2))
    assert [epoch.number for epoch in second.epochs] == [2, 4, 5]
    by_number = {epoch.number: epoch for epoch in every.epochs}
    for epoch in second.epochs:
        assert epoch.test == by_number[epoch.number].test
        assert epoch.train_loss == by_number[epoch.number].train_loss
    assert sum(epoch.seconds for epoch in second.epochs) == pytest.approx(second.seconds)
    rare = run_job(job(reviews, epochs=2, evaluate_every=10))
    assert [epoch.number for epoch in rare.epochs] == [2]


def epochs(name, *values):
    return [
        Epoch(number, 0.0, 0.0, {} if value is None else {name: value, "other": -number}, {})
        for number, value in enumerate(values, 1)
    ]


NAN = math.nan


@pytest.mark.parametrize(
    ("name", "values", "chosen"),
    [
        ("accuracy", [0.1, 0.9, 0.5], 2),
        ("accuracy", [0.1, 0.9, 0.9, 0.2], 2),  # the earliest of equals
        ("log_loss", [0.1, 0.9, 0.5], 1),  # lower is better
        ("log_loss", [0.9, 0.2, 0.2], 2),
        ("accuracy", [None, None, None], 3),  # no valid part
        ("accuracy", [NAN, 0.3, 0.4, NAN], 3),  # what has no number is never the best
        ("log_loss", [NAN, 0.3, 0.4], 2),
        ("accuracy", [NAN, NAN], 2),
        ("log_loss", [math.inf, 5.0], 2),
    ],
)
def test_the_chosen_epoch_is_the_best_on_valid(name, values, chosen):
    found = choose_epoch(epochs(name, *values), find_metric(name, "classification"))
    assert found.number == chosen


# ---------------------------------------------------------------------------- cost


@pytest.mark.parametrize("threads", [1, 2])
def test_a_training_uses_the_threads_it_is_given(reviews, threads):
    torch.set_num_threads(3)
    seen = []
    run_job(
        job(reviews, epochs=1, threads=threads),
        report=lambda epoch, total: seen.append(torch.get_num_threads()),
    )
    assert seen == [threads]


def test_the_numbers_learnt_are_counted(reviews, ratings):
    task = load_task("classification")
    words = task.problem(reviews, task.resolve({})).tensors.vocabulary
    assert run_job(job(reviews, epochs=1)).parameters == words * 6 + 6 + 1
    outcome = run_job(job(ratings, "bpr", "recommendation", epochs=1))
    assert outcome.parameters == (25 + 20) * 6 + 20 + 1


def test_the_peak_of_memory_is_this_trainings_own(reviews):
    run_job(job(reviews, epochs=1))  # everything is loaded
    ballast = bytearray(300 << 20)
    ballast[::4096] = b"x" * len(ballast[::4096])
    del ballast
    highest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    peak = run_job(job(reviews, epochs=1)).peak_memory_mb
    if math.isnan(peak) or not Path("/proc/self/clear_refs").exists():
        pytest.skip("this system does not tell")
    assert 20 < peak < highest - 200


def test_the_time_is_that_of_training_alone(reviews, monkeypatch):
    clock = iter(range(1000))
    monkeypatch.setattr("time.perf_counter", lambda: float(next(clock)))
    outcome = run_job(job(reviews, epochs=4, evaluate_every=2))
    assert outcome.seconds == 4.0 and [epoch.seconds for epoch in outcome.epochs] == [2.0, 2.0]


# ---------------------------------------------------------------------------- trouble


@pytest.mark.parametrize(
    ("family", "loss"),
    [
        ("classification", "binary_cross_entropy"),
        ("classification", "cross_entropy"),
        ("recommendation", "bpr"),
        ("recommendation", "warp"),
    ],
)
def test_a_training_that_diverges_says_so_and_reports_no_number(request, family, loss):
    data = request.getfixturevalue("reviews" if family == "classification" else "ratings")
    with pytest.raises(ValueError, match="nan; expected a number; a model that diverged"):
        run_job(job(data, loss, family, learning_rate=1e30))


@pytest.mark.parametrize("loss", ["binary_cross_entropy", "margin_binary_cross_entropy", "hinge"])
def test_a_training_on_the_edge_reports_finite_numbers(reviews, loss):
    outcome = run_job(job(reviews, loss, learning_rate=1e4, epochs=4))
    for epoch in outcome.epochs:
        values = [epoch.train_loss, *epoch.valid.values(), *epoch.test.values()]
        assert all(map(math.isfinite, values))


@pytest.mark.parametrize(
    ("settings", "loss", "complaint"),
    [
        ({"epoch": 3}, "hinge", "Did you mean 'epochs'"),
        ({}, "hige", "Did you mean 'hinge'"),
        ({}, "listnet", "Losses that fit"),
        ({}, "margin_cross_entropy(margin=2)", "margin must lie in"),
    ],
)
def test_what_cannot_be_trained_raises(reviews, settings, loss, complaint):
    with pytest.raises(ValueError, match=complaint):
        run_job(job(reviews, loss, **settings))


def test_an_outcome_survives_json(reviews):
    outcome = run_job(job(reviews))
    assert Outcome.from_dict(json.loads(json.dumps(outcome.as_dict()))) == outcome
