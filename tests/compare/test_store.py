from __future__ import annotations

import json
import math

import pytest
from fake_study import study

from lossmith.compare.plan import PlanError
from lossmith.compare.store import Store, differences
from lossmith.training.job import Epoch, Outcome, RequestError

OUTCOME = Outcome(
    (Epoch(1, math.nan, 0.5, {}, {"accuracy": 0.25}),), 1, {"accuracy": 0.25}, 0.5, 10.0, 3
)


def opened(study_, fresh=False):
    return Store.open(study_.folder, study_.plan, study_.description, fresh=fresh)


def test_an_outcome_comes_back_as_it_went(tmp_path):
    one = study(tmp_path / "r")
    run, other = one.plan.runs()[:2]
    with opened(one) as store:
        store.save(run, OUTCOME)
    with opened(one) as store:
        back = store.outcome(run)
        assert store.outcome(other) is None
    assert repr(back) == repr(OUTCOME)  # equal but for NaN, which equals nothing
    assert store.environment_of(run)["lossmith"]


def test_nothing_half_written_is_left_when_writing_is_stopped(tmp_path, monkeypatch):
    one = study(tmp_path / "r")
    run = one.plan.runs()[0]

    def stop(descriptor):
        raise KeyboardInterrupt

    with opened(one) as store:
        monkeypatch.setattr("lossmith.training.files.os.fsync", stop)
        with pytest.raises(KeyboardInterrupt):
            store.save(run, OUTCOME)
    assert [path.name for path in (one.folder / "runs").rglob("*") if path.is_file()] == []


def test_another_plan_is_refused_with_what_differs(tmp_path):
    with opened(study(tmp_path / "r", "a b", epochs=3)):
        pass
    with (
        pytest.raises(PlanError, match=r"epochs: 3 there, 5 asked for\n(.|\n)*--fresh"),
        opened(study(tmp_path / "r", "a b", epochs=5)),
    ):
        pass


def test_more_seeds_are_welcome(tmp_path):
    first = study(tmp_path / "r", seeds=2)
    with opened(first) as store:
        store.save(first.plan.runs()[0], OUTCOME)
    more = study(tmp_path / "r", seeds=5)
    with opened(more) as store:
        assert [store.outcome(run) is not None for run in more.plan.runs()].count(True) == 1


def test_fresh_starts_over_and_takes_another_plan(tmp_path):
    first, other = study(tmp_path / "r"), study(tmp_path / "r", epochs=9)
    with opened(first) as store:
        store.save(first.plan.runs()[0], OUTCOME)
    (tmp_path / "r" / "my notes.txt").write_text("mine")
    with opened(other, fresh=True) as store:
        assert store.outcome(other.plan.runs()[0]) is None
    assert (tmp_path / "r" / "my notes.txt").read_text() == "mine"


@pytest.mark.parametrize("fresh", [False, True])
def test_a_folder_with_something_else_in_it_is_left_alone(tmp_path, fresh):
    (tmp_path / "thesis.tex").write_text("years of work")
    (tmp_path / "runs").mkdir()
    with (
        pytest.raises(PlanError, match="not a run folder and not empty"),
        opened(study(tmp_path), fresh=fresh),
    ):
        pass
    assert (tmp_path / "thesis.tex").exists() and (tmp_path / "runs").exists()


def test_two_commands_do_not_share_a_folder(tmp_path):
    with (
        opened(study(tmp_path / "r")),
        pytest.raises(RequestError, match="another lossmith compare is running"),
        opened(study(tmp_path / "r")),
    ):
        pass
    with opened(study(tmp_path / "r")):  # and the lock is gone with the first
        pass


def test_a_file_in_the_way_is_a_message(tmp_path):
    (tmp_path / "r").write_text("")
    with pytest.raises(PlanError, match="cannot be used"), opened(study(tmp_path / "r")):
        pass


def test_a_failure_is_kept_until_the_run_succeeds(tmp_path):
    one = study(tmp_path / "r")
    run = one.plan.runs()[0]
    with opened(one) as store:
        store.save_error(run, "Traceback ...")
        error = one.folder / "runs" / "a" / "seed-0.error.txt"
        assert error.read_text() == "Traceback ..." and store.outcome(run) is None
        store.save(run, OUTCOME)
        assert not error.exists()


def test_differences_say_what_all_losses_share_once():
    before = {"lossmith": "1", "arms": {"a": {"epochs": 1, "k": 1}, "b": {"epochs": 1}, "c": {}}}
    now = {"lossmith": "2", "arms": {"a": {"epochs": 2, "k": 3}, "b": {"epochs": 2}, "d": {}}}
    assert differences(before, now) == [
        "lossmith: '1' there, '2' asked for",
        "loss 'c': there, not asked for",
        "loss 'd': asked for, not there",
        "epochs: 1 there, 2 asked for",
        "k (a): 1 there, 3 asked for",
    ]


def test_the_folder_says_what_it_is(tmp_path):
    one = study(tmp_path / "r", "a b", 2)
    with opened(one):
        pass
    assert json.loads((one.folder / "plan.json").read_text())["plan"]["baseline"] == "a"
    assert json.loads((one.folder / "data.json").read_text())["rows"]["test"] == 250
    assert "python" in json.loads((one.folder / "environment.json").read_text())
