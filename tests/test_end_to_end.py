"""The command as a user types it: real processes, real files, real training on tiny data."""

from __future__ import annotations

import csv
import html
import json
import math
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

REPORTS = ("report.html", "report.md", "results.json", "results.csv")


def environment(folder: Path) -> dict[str, str]:
    return {**os.environ, "LOSSMITH_CACHE": str(folder / "cache"), "OMP_NUM_THREADS": "1"}


def started(folder: Path, *words: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "lossmith", "compare", *words, "--jobs", "1"],
        cwd=folder, env=environment(folder), text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def compare(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    process = started(folder, *words)
    try:
        out, err = process.communicate(timeout=240)
    finally:
        process.kill()
    return subprocess.CompletedProcess(words, process.returncode, out, err)


# ---------------------------------------------------------------------------- the data


def reviews(folder: Path) -> str:
    """A folder of csv files with a train and a test part."""
    draw = random.Random(0)
    (folder / "reviews").mkdir()
    for part, rows in (("train", 90), ("test", 40)):
        with (folder / "reviews" / f"{part}.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["id", "review", "sentiment"])
            for row in range(rows):
                label = draw.random() < 0.5
                words = draw.choices(["the", "film", "plot", "fine" if label else "dull"], k=8)
                writer.writerow([row, " ".join(words), "pos" if label else "neg"])
    return "reviews"


def tags(folder: Path) -> str:
    """One jsonl file; a third of the labels are missing."""
    draw = random.Random(1)
    with (folder / "tags.jsonl").open("w") as file:
        for _ in range(150):
            labels = {name: draw.randint(0, 1) for name in ("food", "sport", "politics")}
            words = draw.choices(["the", "of", "and", "to"], k=8)
            words += [name for name, there in labels.items() if there]
            known = {name: y if draw.random() < 0.67 else None for name, y in labels.items()}
            file.write(json.dumps({"text": " ".join(words), **known}) + "\n")
    return "tags.jsonl"


def ratings(folder: Path) -> str:
    """One csv file of who rated what; even users like even items."""
    draw = random.Random(2)
    with (folder / "ratings.csv").open("w") as file:
        file.write("user,item,rating\n")
        for user in range(30):
            for item in range(24):
                if draw.random() < (0.6 if (user + item) % 2 == 0 else 0.1):
                    file.write(f"u{user},i{item},{draw.randint(1, 5)}\n")
    return "ratings.csv"


def houses(folder: Path) -> str:
    """One csv file of features and a number; some values are blank."""
    draw = random.Random(3)
    with (folder / "houses.csv").open("w") as file:
        file.write("id,rooms,area,town,price\n")
        for row in range(120):
            rooms, area = draw.randint(1, 6), draw.randint(30, 150)
            shown = area if draw.random() < 0.9 else ""
            file.write(f"{row},{rooms},{shown},T{row % 3},{20 * rooms + area}\n")
    return "houses.csv"


def candidates(folder: Path) -> str:
    """LETOR's three files: the first feature says the grade, the second nothing."""
    draw = random.Random(4)
    (folder / "letor").mkdir()
    query = 0
    for part, lists in (("train", 40), ("vali", 8), ("test", 12)):
        with (folder / "letor" / f"{part}.txt").open("w") as file:
            for _ in range(lists):
                query += 1
                for item in range(draw.randint(2, 9)):
                    grade = draw.choice((0, 0, 1, 2))
                    value = grade + draw.gauss(0, 0.7)
                    file.write(f"{grade} qid:{query} 1:{value:.4f} 2:{draw.random():.4f} #{item}\n")
    return "letor"


# ---------------------------------------------------------------------------- the checks


def results(folder: Path) -> dict:
    return json.loads((folder / "results.json").read_text())


def numbers(folder: Path) -> dict:
    """All that a second training must repeat: everything but times and memory."""
    clock = ("seconds", "peak_memory_mb")
    kept = {}
    for run in results(folder)["runs"]:
        epochs = [{k: v for k, v in epoch.items() if k not in clock} for epoch in run["epochs"]]
        rest = {k: v for k, v in run.items() if k not in clock}
        kept[run["arm"], run["seed"]] = {**rest, "epochs": epochs}
    return kept


def files_of_runs(folder: Path) -> dict[Path, int]:
    """When each finished training was filed."""
    return {path: path.stat().st_mtime_ns for path in folder.glob("runs/*/seed-*.json")}


def check_reports(folder: Path, stdout: str, arms: list[str], rows: dict[str, int]) -> None:
    """The four files and what was printed say the same."""
    assert all((folder / name).exists() for name in REPORTS)
    found = results(folder)
    keys = [(arm, seed) for seed in (0, 1) for arm in arms]
    assert sorted((run["arm"], run["seed"]) for run in found["runs"]) == sorted(keys)
    assert found["failures"] == [] and found["winner"] is None
    assert "2 seeds are not enough" in found["verdict"]
    assert all(len(run["epochs"]) == 2 for run in found["runs"])
    for part, least in rows.items():
        assert found["data"]["rows"][part] >= least

    printed = stdout.splitlines()
    assert printed[0] == found["verdict"]
    assert found["signature"] in printed and printed[-1].endswith("report.html")

    with (folder / "results.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    assert [(row["arm"], int(row["seed"])) for row in table] == keys
    by_key = {(run["arm"], run["seed"]): run for run in found["runs"]}
    for row in table:
        run = by_key[row["arm"], int(row["seed"])]
        assert row["status"] == "finished" and int(row["epoch"]) == run["chosen"]
        assert {name: float(row[name]) for name in run["scores"]} == run["scores"]
        assert all(math.isfinite(value) for value in run["scores"].values())

    text, page = (folder / "report.md").read_text(), (folder / "report.html").read_text()
    bare = re.sub(r"<[^>]+>", " ", page.replace("<wbr>", ""))
    shown = " ".join(html.unescape(bare).split())
    for part in (found["headline"], found["verdict"], found["signature"], found["command"]):
        assert part in text and part in shown
    for arm in arms:
        assert f"| `{arm}` | " in text and arm in shown
        mean = sum(by_key[arm, seed]["scores"][found["plan"]["metric"]] for seed in (0, 1)) / 2
        (line,) = [line for line in printed[1:] if line.startswith(f"{arm} ")]
        value = line.removeprefix(arm).split()[0]
        assert float(value) == pytest.approx(mean, abs=0.6 * 10 ** -len(value.partition(".")[2]))
        assert f"| `{arm}` | {value} ±" in text
    assert "<svg" in page and "http-equiv" not in page and "<script src" not in page


def check_again(folder: Path, first: str, at: Path, *words: str) -> None:
    """The same command trains nothing and says the same."""
    before = files_of_runs(folder)
    again = compare(at, *words)
    assert again.returncode == 0 and again.stdout == first
    assert f"{len(before)} of {len(before)} trainings are there already" in again.stderr
    assert files_of_runs(folder) == before


# ---------------------------------------------------------------------------- the tests


def test_a_folder_of_csv_files_is_classified(tmp_path):
    words = ("classification", reviews(tmp_path), "--seeds", "2", "--epochs", "2")
    done = compare(tmp_path, *words)
    assert done.returncode == 0, done.stderr
    folder = tmp_path / Path(done.stdout.splitlines()[-1]).parent
    assert folder.parent == tmp_path / "runs"  # without --out it is named after what was asked
    arms = ["binary_cross_entropy", "margin_binary_cross_entropy", "hinge"]
    check_reports(folder, done.stdout, arms, {"train": 75, "valid": 5, "test": 40})
    assert "The text is column 'review', by its name." in results(folder)["data"]["notes"]
    assert "[6/6]" in done.stderr
    check_again(folder, done.stdout, tmp_path, *words)


def test_texts_are_tagged_with_labels_missing_and_by_separate_models(tmp_path):
    separate = "masked_binary_cross_entropy(average='classes')@model=separate"
    losses = f"masked_binary_cross_entropy,binary_cross_entropy,{separate}"
    words = ("tagging", tags(tmp_path), "--losses", losses, "--seeds", "2", "--epochs", "2",
             "--out", "here")  # fmt: skip
    done = compare(tmp_path, *words)
    assert done.returncode == 0, done.stderr
    arms = ["masked_binary_cross_entropy", "binary_cross_entropy", separate]
    folder = tmp_path / "here"
    check_reports(folder, done.stdout, arms, {"train": 100, "valid": 5, "test": 20})
    models = {arm["text"]: arm["settings"]["model"] for arm in results(folder)["plan"]["arms"]}
    assert models == {arms[0]: "bag", arms[1]: "bag", separate: "separate"}
    learnt = {run["arm"]: run["parameters"] for run in results(folder)["runs"]}
    vocabulary = 9  # padding, unknown, four words that say nothing and three that do
    assert learnt[arms[0]] == vocabulary * 64 + 3 * 64 + 3
    assert learnt[separate] == vocabulary * 3 * 16 + 3 * 16 + 3
    check_again(folder, done.stdout, tmp_path, *words)


def test_numbers_are_predicted_from_features(tmp_path):
    words = ("regression", houses(tmp_path), "--seeds", "2", "--epochs", "2", "--out", "here")
    done = compare(tmp_path, *words)
    assert done.returncode == 0, done.stderr
    folder, arms = tmp_path / "here", ["squared_error", "absolute_error", "huber"]
    check_reports(folder, done.stdout, arms, {"train": 80, "valid": 8, "test": 24})
    found = results(folder)
    assert "Lower mae is better." in found["verdict"]
    assert set(found["runs"][0]["scores"]) == {"mae", "rmse", "r2", "within@0.5"}
    notes = " ".join(found["data"]["notes"])
    assert "The features are 2 columns of numbers: 'rooms', 'area'." in notes
    assert "Not used: columns 'id', 'town'." in notes and "blank among the features" in notes
    check_again(folder, done.stdout, tmp_path, *words)


def children(pid: int) -> list[int]:
    """The processes that a process has started and that live."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, parent = stat.read_text().rpartition(")")[2].split()[:2]
        except OSError:  # it has just ended
            continue
        if int(parent) == pid and state != "Z":
            found.append(int(stat.parent.name))
    return found


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def wait_until(true, seconds: float) -> bool:
    end = time.monotonic() + seconds
    while not true() and time.monotonic() < end:
        time.sleep(0.005)
    return bool(true())


@dataclass(frozen=True)
class Killed:
    """A comparison of three losses, two seeds and two epochs that is killed in the middle."""

    family: str
    data: Callable[[Path], str]
    arms: tuple[str, str, str]
    rows: dict[str, int]

    def words(self, folder: Path) -> tuple[str, ...]:
        # Many small steps, so that a kill has something to interrupt.
        given = ("--seeds", "2", "--epochs", "2", "--batch-size", "1")
        return (self.family, self.data(folder), "--losses", ",".join(self.arms), *given)


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks for processes in /proc")
@pytest.mark.parametrize(
    "one",
    [
        Killed(
            "recommendation",
            ratings,
            ("binary_cross_entropy", "bpr", "warp"),
            {"train": 150, "valid": 10, "test": 40},
        ),
        Killed(
            "ranking",
            candidates,
            ("binary_cross_entropy", "ranknet", "listnet@model=attention"),
            {"train": 40, "valid": 8, "test": 12},
        ),
    ],
    ids=lambda one: one.family,
)
def test_a_kill_in_the_middle_costs_only_what_was_under_way(tmp_path, one):
    words, arms = one.words(tmp_path), list(one.arms)
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    done = compare(tmp_path, *words, "--out", "whole")
    assert done.returncode == 0, done.stderr
    check_reports(whole, done.stdout, arms, one.rows)
    check_again(whole, done.stdout, tmp_path, *words, "--out", "whole")

    process = started(tmp_path, *words, "--out", "killed")
    try:
        assert wait_until(lambda: files_of_runs(killed), 120), process.communicate(timeout=10)
        workers = children(process.pid)
        os.kill(process.pid, signal.SIGKILL)
    finally:
        process.kill()
        process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL
    assert workers and wait_until(lambda: not any(map(alive, workers)), 20)
    finished = files_of_runs(killed)
    assert 0 < len(finished) < 6
    assert not any((killed / name).exists() for name in REPORTS)

    resumed = compare(tmp_path, *words, "--out", "killed")
    assert resumed.returncode == 0, resumed.stderr
    assert f"{len(finished)} of 6 trainings are there already" in resumed.stderr
    now = files_of_runs(killed)
    assert len(now) == 6 and {path: now[path] for path in finished} == finished
    assert numbers(killed) == numbers(whole)
    assert resumed.stdout.replace("killed/", "whole/") == done.stdout


def test_the_signature_says_which_ndcg_it_is(tmp_path):
    words = ("ranking", candidates(tmp_path), "--seeds", "1", "--epochs", "1", "--out", "here")
    done = compare(tmp_path, *words, "--losses", "ranknet")
    assert done.returncode == 0, done.stderr
    signature = results(tmp_path / "here")["signature"]
    expected = "metric:ndcg@10 (gain 2^grade - 1, lists without relevant items left out)|split:"
    assert signature.startswith(expected)


def test_a_mistake_in_a_line_of_candidates_is_placed(tmp_path):
    data = candidates(tmp_path)
    with (tmp_path / data / "train.txt").open("a") as file:
        file.write("1 qid:999 1:oops\n")
    line = len((tmp_path / data / "train.txt").read_text().splitlines())
    done = compare(tmp_path, "ranking", data)
    assert done.returncode == 3 and done.stdout == ""
    assert done.stderr.startswith(f"Error: letor/train.txt:{line}: feature 1 is 'oops'")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "code", "complaints"),
    [
        (["--text", "revew"], 3, ["reviews/train.csv:1, column 'revew'", "mean 'review'?"]),
        (["--losses", "binary_cros_entropy"], 2, ["Did you mean 'binary_cross_entropy'?"]),
        (
            ["--losses", "listnet"],
            2,
            ["listnet takes scores+relevance", "Losses that fit: cross_entropy, kl_divergence"],
        ),
    ],
)
def test_a_users_mistake_is_one_message_and_nothing_is_begun(tmp_path, words, code, complaints):
    done = compare(tmp_path, "classification", reviews(tmp_path), *words)
    assert done.returncode == code and done.stdout == ""
    assert done.stderr.startswith("Error: ") and done.stderr.count("\n") == 1
    for complaint in complaints:
        assert complaint in done.stderr
    assert not (tmp_path / "runs").exists()


@pytest.mark.slow
def test_the_embedded_text_needs_no_file(tmp_path):
    done = compare(tmp_path, "tagging", "embedded", "--set", "observed=1", "--epochs", "1",
                   "--seeds", "2", "--out", "here")  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = results(tmp_path / "here")
    assert {run["arm"] for run in found["runs"]} == {
        "masked_binary_cross_entropy",
        "binary_cross_entropy",
        "pairwise_auc",
    }
    assert all(run["scores"]["macro_auc"] > 0.5 for run in found["runs"])
    assert found["data"]["rows"]["test"] > 1000
    assert any("setting observed" in note for note in found["data"]["notes"])
    assert list((tmp_path / "cache").glob("*.parquet"))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("family", "at_least"), [("ranking", {"ndcg@10": 0.7}), ("regression", {"r2": 0.1})]
)
def test_the_embedded_numbers_need_no_file(tmp_path, family, at_least):
    done = compare(tmp_path, family, "embedded", "--epochs", "2", "--seeds", "1", "--out", "here")
    assert done.returncode == 0, done.stderr
    for run in results(tmp_path / "here")["runs"]:
        assert all(run["scores"][name] > value for name, value in at_least.items())
