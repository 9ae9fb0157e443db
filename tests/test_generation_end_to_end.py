"""``lossmith compare generation`` as a user types it, on tiny parallel text."""

from __future__ import annotations

import os
import random
import signal
from pathlib import Path

import pytest

from test_end_to_end import (
    check_again,
    compare,
    files_of_runs,
    numbers,
    results,
    started,
    wait_until,
)

pytest.importorskip("sacrebleu")

LOSSES = "cross_entropy,keyword_hybrid(presence=1.0),keyword_hybrid(presence=3.0)"
ARMS = ["cross_entropy", "keyword_hybrid(presence=1.0)", "keyword_hybrid(presence=3.0)"]
SMALL = ("--seeds", "2", "--epochs", "2", "--set", "dimension=16", "--set", "hidden=16",
         "--set", "tokenizer=words", "--learning-rate", "0.02", "--losses", LOSSES)  # fmt: skip


def lines(folder: Path, rows: int = 160) -> str:
    """Two files: words and their translations, with a glossary of two of them."""
    draw = random.Random(0)
    words = {"list": "liste", "module": "paquet", "of": "de", "the": "le", "C++": "C++"}
    sources = [draw.choices(list(words), k=draw.randint(1, 5)) for _ in range(rows)]
    for name, texts in (
        ("x.en", [" ".join(row) for row in sources]),
        ("x.fr", [" ".join(words[word] for word in row) for row in sources]),
    ):
        (folder / name).write_text("".join(f"{text}\n" for text in texts))
    (folder / "terms.csv").write_text("source,target\nlist,liste\nC++,C++\n")
    return "x.en,x.fr"


def test_two_files_and_a_glossary_give_a_verdict_and_a_trade_off(tmp_path):
    words = ("generation", lines(tmp_path), "--glossary", "terms.csv", *SMALL, "--out", "here")
    done = compare(tmp_path, *words)
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "here"
    found = results(folder)
    keys = {(run["arm"], run["seed"]) for run in found["runs"]}
    assert keys == {(arm, seed) for arm in ARMS for seed in (0, 1)}
    assert found["plan"]["metric"] == "keyword_recall"
    assert any("2 glossary terms" in note for note in found["data"]["notes"])
    trade = found["trade_off"]
    assert (trade["across"], trade["up"]) == ("bleu", "keyword_recall")
    assert trade["sweeps"] == [ARMS[1:]] and set(trade["means"]) == set(ARMS)
    for run in found["runs"]:
        assert trade["places"][run["arm"]][str(run["seed"])] == [
            run["scores"]["bleu"], run["scores"]["keyword_recall"],
        ]  # fmt: skip
    for text in ((folder / "report.html").read_text(), (folder / "report.md").read_text()):
        assert "bleu:nrefs:1|case:mixed|eff:no|tok:13a" in text and "Trade-off" in text
    check_again(folder, done.stdout, tmp_path, *words)


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="kills a process by its number")
def test_an_interrupted_comparison_resumes_to_the_same_numbers(tmp_path):
    words = ("generation", lines(tmp_path), "--glossary", "terms.csv", *SMALL)
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert compare(tmp_path, *words, "--out", "whole").returncode == 0
    process = started(tmp_path, *words, "--out", "killed")
    try:
        assert wait_until(lambda: files_of_runs(killed), 120)
        os.kill(process.pid, signal.SIGKILL)
    finally:
        process.kill()
        process.communicate(timeout=60)
    assert compare(tmp_path, *words, "--out", "killed").returncode == 0
    assert numbers(killed) == numbers(whole)


@pytest.mark.parametrize(
    ("words", "code", "complaint"),
    [
        (["--glossary", "trms.csv"], 3, "Did you mean"),
        (["--losses", "keyword_hybrid(presense=1)"], 2, "Did you mean 'presence'?"),
        (["--losses", "listnet"], 2, "Losses that fit: cross_entropy"),
        (["--model", "transformer", "--set", "heads=3"], 2, "try dimension=126"),
        (["--set", "tokenizer=letters"], 2, "expected one of subwords, words"),
    ],
)
def test_a_users_mistake_is_one_message(tmp_path, words, code, complaint):
    done = compare(tmp_path, "generation", lines(tmp_path), *words)
    assert done.returncode == code and done.stdout == ""
    assert done.stderr.startswith("Error: ") and complaint in done.stderr
    assert not (tmp_path / "runs").exists()


def test_unequal_files_name_the_line(tmp_path):
    data = lines(tmp_path)
    with (tmp_path / "x.en").open("a") as file:
        file.write("one more\n")
    done = compare(tmp_path, "generation", data)
    assert done.returncode == 3 and "x.en:161: has no partner" in done.stderr
