from __future__ import annotations

import json
import sys

import pytest
from fake_study import pretend

from lossmith.cli.app import run


@pytest.fixture
def fake(monkeypatch, tmp_path):
    """The fake task in place of the real ones, in a folder of its own."""
    for name, module in pretend().items():
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NO_COLOR", "1")
    return tmp_path


def compare(*words: str) -> int:
    return run(["compare", "classification", "reviews.csv", "--losses", "a,b(k=1)", "-q", *words])


def test_a_report_is_made_again_from_the_folder_alone(fake, capfd):
    assert compare("--seeds", "2", "--out", "r") == 0
    first = capfd.readouterr().out
    pages = {name: (fake / "r" / name).read_bytes() for name in ("report.html", "results.json")}
    for name in pages:
        (fake / "r" / name).unlink()
    assert run(["report", "r"]) == 0
    assert capfd.readouterr().out == first
    assert {name: (fake / "r" / name).read_bytes() for name in pages} == pages


def test_what_has_not_run_is_named_and_what_failed_says_why(fake, capfd):
    assert compare("--seeds", "2", "--out", "r", "--set", "trouble=raise b(k=1) 1") == 1
    (fake / "r" / "runs" / "a" / "seed-0.json").unlink()
    capfd.readouterr()
    assert run(["report", "r", "--json"]) == 0
    said = json.loads(capfd.readouterr().out)
    reasons = {(one["arm"], one["seed"]): one["reason"] for one in said["failures"]}
    assert reasons["a", 0] == "not trained yet"
    assert reasons["b(k=1)", 1] == "ValueError: the loss is on strike"


def test_json_is_the_whole_result_on_stdout(fake, capfd):
    assert compare("--seeds", "1", "--json") == 0
    said = json.loads(capfd.readouterr().out)
    assert said["plan"]["seeds"] == [0] and len(said["runs"]) == 2
    assert compare("--seeds", "1", "--json", "--dry-run") == 0
    assert json.loads(capfd.readouterr().out)["plan"]["baseline"] == "a"


def test_a_folder_that_is_no_run_folder_is_a_message_with_what_was_meant(fake, capfd):
    assert compare("--seeds", "1", "--out", "runs/first") == 0
    assert run(["report", "runs/frist"]) == 2
    said = capfd.readouterr().err
    assert "runs/frist is no run folder" in said and "Did you mean 'runs/first'?" in said
    assert "Traceback" not in said


def test_a_plan_of_another_version_is_a_message(fake, capfd):
    assert compare("--seeds", "1", "--out", "r") == 0
    (fake / "r" / "plan.json").write_text('{"plan": {"family": "classification"}}')
    assert run(["report", "r"]) == 2
    assert "was not written by this version" in capfd.readouterr().err


def test_the_catalogue_as_json_holds_the_metadata(capfd):
    assert run(["losses", "warp", "--json"]) == 0
    (warp,) = json.loads(capfd.readouterr().out)
    assert warp["module"] == "WARP" and warp["mean_divides_by"] == "positives"
    assert warp["knobs"]["num_items"]["required"] and warp["knobs"]["margin"]["default"] == 1.0
    assert warp["knobs"]["weighting"]["choices"]
