from __future__ import annotations

import json
from dataclasses import replace
from unittest.mock import Mock

import pytest

from lossmith.cli.app import run
from lossmith.compare.plan import PlanError
from lossmith.compare.store import Store
from lossmith.compare.study import Interrupted, _Filing, prepare
from lossmith.compare.tune import first_trials, next_trial, space, tuned
from lossmith.training.run import run_job

LOSSES = ["binary_cross_entropy", "margin_binary_cross_entropy@epochs=1"]


def written(folder):
    data = folder / "reviews.csv"
    rows = [f"w{i % 13} w{i % 7} {'good' if i % 2 else 'bad'} {i},{i % 2}" for i in range(200)]
    data.write_text("text,label\n" + "\n".join(rows) + "\n")
    return str(data)


@pytest.fixture
def reviews(tmp_path):
    return written(tmp_path)


def prepared(reviews, out, losses=LOSSES, tune=4, **settings):
    return prepare(
        "classification", reviews, losses, seeds=2, tune=tune, out=str(out),
        settings={"epochs": 2, "metric": "log_loss", **settings},
    )  # fmt: skip


def in_this_process(runs, run_one, *, watch, successor, workers=1):
    """What the executors do, without their processes."""
    waiting = list(runs)
    while waiting:
        run = waiting.pop(0)
        watch.started(run)
        watch.finished(run, run_one(run.job))
        follower = successor(run)
        waiting += [] if follower is None else [follower]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A study with a search, done once by real worker processes."""
    folder = tmp_path_factory.mktemp("whole")
    study = prepared(written(folder), folder / "r")
    return study, study.run(jobs=1, quiet=True)


def filed(folder):
    """What every training left, its seconds and memory aside."""
    found = {}
    for path in sorted(folder.rglob("*.json")):
        if path.parent.parent.name in ("search", "runs"):
            values = json.loads(path.read_text())
            epochs = [(e["train_loss"], e["valid"], e["test"]) for e in values["outcome"]["epochs"]]
            found[str(path.relative_to(folder))] = (values["values"], epochs)
    return found


def test_every_loss_gets_the_same_trials_and_none_sees_the_test_part(whole):
    study, report = whole
    trials = {path: one for path, one in filed(study.folder).items() if path.startswith("search")}
    assert len(trials) == 2 * 4
    assert all(not test for _, epochs in trials.values() for _, _, test in epochs)
    first = [values for path, (values, _) in trials.items() if path.endswith("trial-0.json")]
    assert first == [{}, {}]  # the default is among them
    plain, margin = report.found
    assert set(plain.values) <= {
        "learning_rate",
        *space(study.plan, study.task, study.plan.arms[0]),
    }
    assert (plain.trials, margin.trials) == (4, 4)
    assert plain.best <= plain.default and margin.best <= margin.default  # lower is better
    assert "4 trials on valid" in report.signature
    assert "margin" in margin.values or not margin.values
    for text in (report.html(), report.markdown()):
        assert "none saw the test part" in text


def test_the_comparison_is_trained_at_what_was_found(whole):
    study, report = whole
    plan, found = tuned(study.plan, study.task, Store(study.folder))
    for arm, one in zip(plan.arms, found, strict=True):
        rate = one.values.get("learning_rate")
        assert rate is None or arm.settings["learning_rate"] == rate
        knobs = {key: value for key, value in one.values.items() if key != "learning_rate"}
        assert all(f"{key}={value!r}" in arm.loss for key, value in knobs.items())
    first = plan.runs()[0]
    assert report.outcomes[first.key].scores == run_job(first.job).scores


def test_what_was_asked_for_is_not_searched(reviews, tmp_path):
    losses = [
        "margin_binary_cross_entropy(margin=0.7)",
        "margin_binary_cross_entropy@learning_rate=1",
    ]
    study = prepared(reviews, tmp_path, losses)
    given, own = (space(study.plan, study.task, arm) for arm in study.plan.arms)
    assert "margin" not in given and "learning_rate" in given
    assert "margin" in own and "learning_rate" not in own
    fixed = prepared(reviews, tmp_path, ["binary_cross_entropy"], learning_rate=0.1)
    assert "learning_rate" not in space(fixed.plan, fixed.task, fixed.plan.arms[0])


def test_an_interrupted_search_ends_as_an_uninterrupted_one(whole, tmp_path, monkeypatch):
    import lossmith.compare.study as module

    count = 0

    def stop_in_the_middle(job):
        nonlocal count
        count += 1
        if count == 6:
            raise KeyboardInterrupt
        return run_job(job)

    monkeypatch.setattr(module, "execute", in_this_process)
    cut = prepared(written(tmp_path), tmp_path / "r")
    with pytest.raises(Interrupted, match="5 of 12"):
        replace(cut, run_one=stop_in_the_middle).run(quiet=True)
    cut.run(quiet=True)
    assert count == 6 and filed(cut.folder) == filed(whole[0].folder)


def test_a_trial_that_breaks_has_been_tried_and_cannot_win(reviews, tmp_path):
    study = prepared(reviews, tmp_path / "r", ["binary_cross_entropy"], tune=3)
    with Store.open(study.folder, study.plan, study.description) as store:
        watch = Mock()
        filing = _Filing(store, watch)
        run = first_trials(study.plan, study.task, store)[0]
        filing.finished(run, run_job(run.job))
        second = next_trial(study.plan, study.task, store, run)
        filing.failed(second, "the loss is on strike", "details")
        third = next_trial(study.plan, study.task, store, second)
        assert (second.trial, third.trial) == (1, 2) and third.values != second.values
        _, (found,) = tuned(study.plan, study.task, store)
    assert not filing.failures  # of the comparison
    assert (found.trials, found.failed, found.values) == (2, 1, {}) and found.best == found.default


def test_without_validation_data_there_is_nothing_to_search_on(reviews, tmp_path):
    with pytest.raises(PlanError, match="a search needs validation data"):
        prepared(reviews, tmp_path, valid=0)
    with pytest.raises(PlanError, match="how many trials"):
        prepared(reviews, tmp_path, tune=-1)


def test_the_command_counts_the_trials_and_says_them_again(reviews, tmp_path, capfd):
    words = ["compare", "classification", reviews, "--tune", "3", "--seeds", "2", "--dry-run"]
    assert run([*words, "--losses", "binary_cross_entropy", "--out", str(tmp_path / "r")]) == 0
    assert "5 of 5, 3 trials of each loss" in capfd.readouterr().out
    assert "--tune 3" in prepared(reviews, tmp_path, tune=3).plan.command()
