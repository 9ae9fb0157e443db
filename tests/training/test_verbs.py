"""``lossmith train``, ``predict`` and ``evaluate`` as they are typed."""

from __future__ import annotations

import csv
import io
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lossmith.cli.app import run

WORDS = ["--loss", "hinge", "--epochs", "2", "--set", "dimension=6", "--learning-rate", "0.05"]


@pytest.fixture(scope="module")
def made(reviews, tmp_path_factory) -> str:
    folder = str(tmp_path_factory.mktemp("model") / "m")
    assert run(["train", "classification", reviews, *WORDS, "--out", folder, "--quiet"]) == 0
    return folder


def test_train_prints_the_result_on_stdout_and_epochs_on_stderr(reviews, tmp_path, capfd):
    words = ["train", "classification", reviews, *WORDS, "--out", str(tmp_path / "m")]
    assert run(words) == 0
    out, err = capfd.readouterr()
    assert "test  accuracy" in out and "epoch 1/2: loss" in err and "epoch 2/2" in err
    assert run([*words, "--json"]) == 0
    out, err = capfd.readouterr()
    found = json.loads(out)
    assert found["already_finished"] and found["test"]["accuracy"] is not None and not err
    assert run([*words, "--quiet"]) == 0
    assert "is finished already; --fresh trains it again" in capfd.readouterr().out
    assert run([*words, "--fresh", "--json", "--quiet"]) == 0
    again = json.loads(capfd.readouterr().out)
    assert not again["already_finished"] and again["test"] == found["test"]


def test_predict_streams_records_or_writes_a_file(made, reviews, tmp_path, capfd, monkeypatch):
    assert run(["predict", made, reviews]) == 0
    records = [json.loads(line) for line in capfd.readouterr().out.splitlines()]
    assert len(records) == 160 and list(records[0]) == ["row", "label", "probability"]
    out = tmp_path / "answers.csv"
    assert run(["predict", made, reviews, "--out", str(out), "--top", "2"]) == 0
    assert capfd.readouterr().out == ""
    with out.open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 320 and rows[0]["label"] == records[0]["label"]
    assert float(rows[0]["probability"]) == records[0]["probability"]
    monkeypatch.setattr("sys.stdin", io.StringIO("a good film\nso bad\n"))
    assert run(["predict", made, "-", "--format", "csv"]) == 0
    assert capfd.readouterr().out.splitlines()[0] == "row,label,probability"


def test_evaluate_prints_what_was_recorded(made, reviews, capfd):
    recorded = json.loads(Path(made, "metrics.json").read_text())["test"]
    assert run(["evaluate", made, reviews, "--json"]) == 0
    out, err = capfd.readouterr()
    assert json.loads(out)["metrics"] == recorded and not err
    assert run(["evaluate", made, reviews, "--metrics", "accuracy"]) == 0
    out, err = capfd.readouterr()
    assert out.split() == ["accuracy", f"{recorded['accuracy']:.4f}"] and "test part" in err


def test_evaluate_says_that_rows_were_trained_on_whatever_the_file_is_called(
    made, reviews, tmp_path, capfd
):
    other = tmp_path / "other.csv"
    other.write_text(Path(reviews).read_text())
    assert run(["evaluate", made, str(other), "--json"]) == 0
    out, err = capfd.readouterr()
    seen = json.loads(out)["seen_in_training"]
    assert 112 <= seen["train"] <= 160 and f"warning: {seen['train']} of 160 rows read the" in err
    assert run(["evaluate", made, str(other)]) == 0
    assert "rows of the training" in capfd.readouterr().err


def test_a_file_that_fails_half_way_leaves_no_answers(made, tmp_path, capfd, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO('a film\n{"text": 3}\n'))
    assert run(["predict", made, "-", "--out", str(tmp_path / "a.jsonl")]) == 3
    assert "stdin:2" in capfd.readouterr().err and list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (["train", "classification", "DATA", "--loss", "hige", "--out", "x"], 2, "Did you mean"),
        (["train", "classification", "DATA", "--loss", "bpr", "--out", "x"], 2, "that fit"),
        (["train", "clasification", "DATA", "--loss", "hinge", "--out", "x"], 2, "Did you mean"),
        (["train", "classification", "DATA", "--loss", "hinge"], 2, "--out"),
        (["train", "classification", "none.csv", "--loss", "hinge", "--out", "x"], 3, "no such"),
        (["train", "classification", "DATA", "--loss", "hinge", "--out", "x", "--set", "a"], 2,
         "key=value"),
        (["predict", "none", "DATA"], 3, "no such folder"),
        (["predict", "MADE", "none.csv"], 3, "no such file"),
        (["predict", "MADE", "DATA", "--top", "0"], 2, "top"),
        (["predict", "MADE", "DATA", "--format", "xml"], 2, "jsonl, csv"),
        (["evaluate", "MADE", "DATA", "--metrics", "acuracy"], 2, "Did you mean 'accuracy'"),
    ],
)  # fmt: skip
def test_a_mistake_is_a_message(made, reviews, tmp_path, monkeypatch, capfd, words, code, told):
    monkeypatch.chdir(tmp_path)
    given = [{"DATA": reviews, "MADE": made}.get(word, word) for word in words]
    assert run(given) == code
    out, err = capfd.readouterr()
    assert told in err and not out and "Traceback" not in err


def test_a_training_that_diverges_fails_with_a_sentence(reviews, tmp_path, capfd):
    words = ["train", "classification", reviews, "--out", str(tmp_path / "m"), "--quiet"]
    assert run([*words, "--loss", "cross_entropy", "--learning-rate", "1e30"]) == 1
    assert "The training failed:" in capfd.readouterr().err


def test_a_stop_exits_with_130_and_the_command_it_prints_goes_on(reviews, tmp_path):
    """SIGTERM here: a test that runs in the background may be told to ignore Ctrl-C."""
    words = [
        sys.executable, "-m", "lossmith", "train", "classification", reviews, "--loss", "hinge",
        "--out", "m", "--epochs", "100000", "--set", "evaluate_every=1000", "--fresh",
    ]  # fmt: skip
    process = subprocess.Popen(words, cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    try:
        until = time.monotonic() + 60
        while not (tmp_path / "m" / "config.json").exists() and time.monotonic() < until:
            time.sleep(0.05)
        time.sleep(0.3)
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 130
    assert "A checkpoint is written" in err and "lossmith train classification" in err
    assert "--fresh" not in err and (tmp_path / "m" / "checkpoint.pt").exists()


def test_the_verbs_are_in_the_help_without_torch():
    code = "import sys; from lossmith.cli.app import run; run(['train', '--help'])\n"
    code += "assert not {'torch', 'polars', 'numpy'} & set(sys.modules), sys.modules.keys()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0 and "--checkpoint-every" in done.stdout, done.stderr
