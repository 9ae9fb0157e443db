"""The estimate of a dry run: really timed steps, and sums that follow from them."""

from __future__ import annotations

import itertools
import json
import math
import random
import re
import subprocess
import sys
from types import SimpleNamespace

import own_things
import pytest
import torch

from lossmith.cli.app import run
from lossmith.compare.estimate import _span, _together, estimate
from lossmith.compare.study import prepare
from lossmith.compare.timing import ENOUGH, FEW, WARM_UP, Timing, _Few, measure
from lossmith.tasks.codec import END_ID
from lossmith.training.job import Job
from tasks import tiny


@pytest.fixture
def reviews(tmp_path):
    draw = random.Random(0)
    rows = [f"{' '.join(draw.choices('abcdef', k=6))},{i % 2}" for i in range(100)]
    path = tmp_path / "reviews.csv"
    path.write_text("\n".join(["text,label", *rows]) + "\n")
    return str(path)


def test_an_estimate_is_made_of_timed_steps_and_evaluations(reviews, tmp_path):
    settings = {"epochs": 4, "batch_size": 8, "evaluate_every": 2}
    losses = ["hinge", f"{own_things.__file__}:vector"]
    out = str(tmp_path / "run")
    study = prepare("classification", reviews, losses, seeds=3, out=out, settings=settings)
    found = estimate(study, jobs=2)
    good, bad = found.timings
    assert good.steps == 9 and good.timed == 9 - WARM_UP and good.step > 0, "72 rows by 8"
    whole = good.building + 4 * 9 * good.step + 2 * good.evaluation
    assert good.training == pytest.approx(whole) and good.building > 0
    assert good.low < good.training < good.high
    assert "return its mean" in bad.trouble and math.isnan(bad.training)
    assert (found.trainings, found.workers) == (6, 2)
    assert found.seconds == pytest.approx(found.start + 3 * good.training)
    assert found.low == pytest.approx(0.7 * found.start + 3 * good.low)
    assert found.high == pytest.approx(1.3 * found.start + 3 * good.high)
    assert found.memory_mb == pytest.approx(2 * good.memory_mb) and good.memory_mb > 50
    assert not (tmp_path / "run").exists(), "a dry run leaves nothing behind"


def test_the_clock_waits_for_the_device_before_each_mark():
    asked: list[int] = []
    few = _Few(SimpleNamespace(batches=lambda *_: range(4)), lambda: asked.append(len(few.marks)))
    assert len(list(few.batches({}, 0, 1))) == 4
    assert asked == [0, 1, 2, 3, 4]


def test_a_long_epoch_is_cut_short_and_counted_by_its_rows(monkeypatch):
    class Endless:
        def batches(self, settings, seed, epoch):
            while True:
                yield 0

    few = _Few(Endless())
    assert sum(1 for _ in few.batches({}, 0, 1)) == WARM_UP + ENOUGH
    mean, fast, slow, timed = few.step()
    assert few.whole == 0 and timed == ENOUGH and 0 < fast <= slow and mean > 0
    monkeypatch.setattr("lossmith.compare.timing.SECONDS", 0.0)
    few = _Few(Endless())
    assert sum(1 for _ in few.batches({}, 0, 1)) == WARM_UP + 1


@pytest.mark.parametrize(("step", "steps"), [(0.1, 31), (0.4, FEW), (2.0, 5)])
def test_slow_steps_are_timed_longer_for_some_more_of_them(monkeypatch, step, steps):
    now = itertools.count()
    monkeypatch.setattr("lossmith.compare.timing.time.perf_counter", lambda: step * next(now))
    few = _Few(SimpleNamespace(batches=lambda *_: itertools.repeat(0)))
    assert sum(1 for _ in few.batches({}, 0, 1)) == WARM_UP + steps


def test_the_largest_batch_of_an_epoch_is_stepped_on_first_and_last():
    """It decides the memory, and a few timed steps would seldom meet it."""
    sizes = [4, 4, 4, 4, 4, 9, 4]
    made = [(torch.zeros(size), [1, (2,)]) for size in sizes]
    few = _Few(SimpleNamespace(batches=lambda *_: iter(made)))
    found = [len(batch[0]) for batch in few.batches({}, 0, 1)]
    assert found == [9, *sizes, 9]
    assert few.whole == len(sizes) and len(few.step()) == 4
    assert few.step()[3] == len(sizes) + 1 - WARM_UP
    few = _Few(SimpleNamespace(batches=lambda *_: iter(made[:5])))
    assert len(list(few.batches({}, 0, 1))) == few.whole == 5, "all are alike"


def test_a_fresh_model_is_timed_as_it_writes_when_it_has_learned():
    problem = tiny.generation()
    torch.manual_seed(0)
    model = problem.model(problem.settings)
    with torch.no_grad():
        model.embedding.bias[END_ID] = 100.0  # as after a few steps: it ends at once
    talkative = problem.as_if_trained()
    targets = problem.parts["train"].target
    mean = sum(map(len, targets)) / len(targets)
    said = [len(problem.codec.encode([text])[0].ids) for text in talkative.say(model, "test")]
    assert set(said) == {round(mean)}
    assert max(len(text.split()) for text in problem.say(model, "test")) == 1
    assert problem.least == 1, "the problem itself stays as it was"
    ranking = tiny.ranking()
    assert ranking.as_if_trained() is ranking


def test_the_range_is_that_of_blocks_of_steps_and_not_of_single_ones():
    few = _Few(None)
    few.marks = [9.0] * WARM_UP + [
        0.0,
        1.0,
        1.5,
        3.0,
        4.0,
        5.0,
        8.0,
        11.0,
        12.0,
        13.0,
        14.0,
        15.0,
        17.0,
    ]
    assert few.step() == (17 / 12, 0.75, 2.0, 12), "blocks of two"
    few.marks = [0.0, 4.0]
    assert few.step() == (4.0, 4.0, 4.0, 1)


def test_trainings_are_given_to_workers_in_turn_and_searches_come_first(reviews, tmp_path):
    out, losses = str(tmp_path / "run"), ["hinge", "cross_entropy"]
    study = prepare("classification", reviews, losses, seeds=3, out=out)
    times = {"hinge": 4.0, "cross_entropy": 1.0}
    order = [run.arm.text for run in study.plan.runs()]
    assert order[:2] == losses and order[2:4] == losses
    assert _span(study, times, 1) == 15
    assert _span(study, times, 2) == 9, "4, then 1 beside 4; 1 beside 4"
    assert _span(study, times, 6) == 4
    assert _span(study, {"hinge": 4.0, "cross_entropy": math.nan}, 2) == 12
    assert math.isnan(_span(study, dict.fromkeys(losses, math.nan), 2))
    tuned = prepare("classification", reviews, losses, seeds=3, out=out, tune=2)
    assert _span(tuned, times, 6) == 8 + 4, "the trials of a loss follow each other"


def test_what_several_processes_measured_of_a_loss_is_one_timing():
    def timing(seconds: float) -> Timing:
        one = Timing("a", seconds, 5, 9, seconds, seconds, seconds, low=seconds, high=seconds)
        return one if seconds else Timing("a", trouble="none")

    both = _together([timing(1.0), timing(3.0), timing(0.0)])
    assert (both.step, both.training, both.low, both.high, both.timed) == (2.0, 2.0, 1.0, 3.0, 10)
    assert _together([timing(0.0)]).trouble == "none"


def test_what_measures_begins_like_what_trains():
    """The start of a process is part of the estimate."""
    code = "import lossmith.compare.timing, sys\n"
    code += "assert not {'scipy', 'rich', 'torch'} & set(sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_a_search_that_gets_longer_is_timed_at_both_ends(tmp_path, monkeypatch):
    path = tmp_path / "pairs.csv"
    path.write_text("\n".join(["user,item", *(f"u{i % 9},i{i % 7}" for i in range(60))]) + "\n")
    settings = {"epochs": 2, "batch_size": 8}
    found = iter([(1.0, 0.5, 1.5, 5), (3.0, 3.0, 3.0, 5), (1.0, 0.5, 1.5, 5)])
    monkeypatch.setattr(_Few, "step", lambda few: next(found))
    warp, bpr = (measure(x, Job("recommendation", str(path), x, 0, settings), {})[0]
                 for x in ("warp(margin=2.0)", "bpr"))  # fmt: skip
    assert not warp.trouble and (warp.step, bpr.step) == (2.0, 1.0)
    assert warp.high == pytest.approx(1.3 * (warp.training + 2 * warp.steps * (3 - 2)))
    assert warp.low == pytest.approx(0.7 * (warp.training - 2 * warp.steps * (2 - 0.5)))


def test_another_librarys_learner_has_no_steps(tmp_path):
    lines = ["query,label,a", *(f"q{i // 4},{i % 2},{i}" for i in range(40))]
    path = tmp_path / "lists.csv"
    path.write_text("\n".join(lines) + "\n")
    job = Job("ranking", str(path), "lightgbm(objective='lambdarank')", 0, {})
    assert "no steps" in measure("peer", job, {})[0].trouble


def test_the_command_says_what_it_will_cost(reviews, capsys):
    words = ["compare", "classification", reviews, "--losses", "hinge", "--seeds", "2"]
    words += ["--epochs", "1", "--jobs", "1", "--dry-run"]
    assert run([*words, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["estimate"]
    assert found["trainings"] == 2 and found["seconds"] > 0
    assert found["timings"][0]["arm"] == "hinge"
    assert run(words) == 0
    out = capsys.readouterr().out
    assert re.search(
        r"estimate  about [\d.]+ s \([\d.]+ s to [\d.]+ s\) for 2 trainings, 1 at", out
    )
