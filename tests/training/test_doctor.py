from __future__ import annotations

import json

import pytest

from lossmith.cli.app import run
from lossmith.training import doctor


def test_a_sound_installation_passes_and_leaves_no_folder(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    assert run(["doctor"]) == 0
    said = capfd.readouterr().out
    assert "a model learned made-up texts" in said and "FAIL" not in said
    assert list(tmp_path.iterdir()) == []


def test_a_missing_package_is_named_with_what_installs_it(monkeypatch, capfd):
    monkeypatch.setattr(doctor, "missing_packages", lambda: ["scipy"])
    assert run(["doctor", "--json"]) == 1
    found = {one["name"]: one for one in json.loads(capfd.readouterr().out)}
    assert not found["scipy"]["ok"] and "lossmith[compare]" in found["scipy"]["fix"]
    assert found["polars"]["ok"] and "training" not in found


def test_a_training_that_does_not_learn_is_a_failure(monkeypatch):
    class Bad:
        scores = {"accuracy": 0.5}

    monkeypatch.setattr("lossmith.training.run.run_job", lambda job: Bad)
    last = list(doctor.examine())[-1]
    assert not last.ok and "ended at accuracy 0.50" in last.detail


def test_a_folder_that_cannot_be_written_says_what_to_do(tmp_path, monkeypatch):
    def refuse(**where):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(doctor.tempfile, "NamedTemporaryFile", refuse)
    finding = doctor._folder("cache", tmp_path / "cache")
    assert not finding.ok and finding.fix == "Set LOSSMITH_CACHE."


@pytest.mark.parametrize("package", doctor.PACKAGES)
def test_nothing_is_missing_where_the_tests_run(package):
    assert package not in doctor.missing_packages()
