"""The estimate of a dry run: really timed steps, and sums that follow from them."""

from __future__ import annotations

import json
import math
import random

import own_things
import pytest

from lossmith.cli.app import run
from lossmith.compare.estimate import ENOUGH, WARM_UP, _Few, estimate, measure
from lossmith.compare.study import prepare
from lossmith.training.job import Job


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
    assert good.training == pytest.approx(4 * 9 * good.step + 2 * good.evaluation)
    assert "return its mean" in bad.trouble and math.isnan(bad.training)
    assert (found.trainings, found.workers) == (6, 2)
    assert found.seconds == pytest.approx(found.start + 3 * good.training)
    assert found.memory_mb == pytest.approx(2 * good.memory_mb) and good.memory_mb > 50
    assert not (tmp_path / "run").exists(), "a dry run leaves nothing behind"


def test_a_long_epoch_is_cut_short_and_counted_by_its_rows(monkeypatch):
    class Endless:
        def batches(self, settings, seed, epoch):
            while True:
                yield 0

    few = _Few(Endless())
    assert sum(1 for _ in few.batches({}, 0, 1)) == WARM_UP + ENOUGH
    assert few.whole == 0 and few.step()[1] == ENOUGH
    monkeypatch.setattr("lossmith.compare.estimate.SECONDS", 0.0)
    few = _Few(Endless())
    assert sum(1 for _ in few.batches({}, 0, 1)) == WARM_UP + 1


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
