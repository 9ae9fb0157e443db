"""Training by torchrun: every family has the weights of one process, and one of them talks."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from lossmith.cli.app import run
from tasks.tiny_encoder import save_encoder
from training.small import prepare

pytest.importorskip("accelerate")

# A model of lists in float64: in float32, weights that a loss of differences does not see drift.
WIDE = """
from lossmith.tasks.feature_models import Perceptron
from torch import nn

class Wide(nn.Module):
    def __init__(self, features):
        super().__init__()
        self.scorer = Perceptron(features, hidden=8, layers=2, dropout=0.0).double()

    def forward(self, features, mask):
        return self.scorer(features.double(), mask)
"""
# The data, the loss and the settings of each training; batches that do not divide by two.
# A weight that the loss does not see drifts with the rounding: a loss of differences of scores is
# blind to the offset of all, and attention to the bias of its keys.
UNSEEN = {
    "ranking by attention": "look.bias",
    "recommendation of pairs": "offset",
    "recommendation of all items": "offset",
    "recommendation of lists": "offset",
    "recommendation by search": "offset",
    "generation by a pretrained encoder": "key.bias",
    "recommendation by rows": "offset",
}
TRAININGS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "classification": ("classes", "cross_entropy(label_smoothing=0.1)", {}),
    "tagging": ("columns", "masked_binary_cross_entropy", {}),
    "regression of texts": ("texts", "huber", {}),
    "regression of features": ("features", "absolute_error", {}),
    "ranking": ("lists", "lambda_loss", {"model": "WIDE:Wide"}),
    "ranking by attention": ("lists", "binary_cross_entropy", {}),
    "recommendation of pairs": ("users", "bpr", {"l2": 0.01, "negatives": 3}),
    "recommendation by one": ("users", "binary_cross_entropy", {}),
    "recommendation of all items": ("users", "cross_entropy", {"l2": 0.01}),
    "recommendation of lists": ("users", "listnet", {"l2": 0.01}),
    "recommendation by search": ("users", "warp", {"l2": 0.01}),
    "recommendation by rows": ("users", "warp", {"l2": 0.01, "optimizer": "adagrad"}),
    "recommendation for texts": ("items", "warp", {}),
    "retrieval": ("search", "info_nce", {}),
    "retrieval of two towers": ("search", "triplet", {"towers": "separate"}),
    "generation": ("seq2seq", "cross_entropy", {"beams": 1}),
}
if find_spec("transformers"):
    given = {"beams": 1, "model": "hf:ENCODER", "encoder_learning_rate": 0.003}
    TRAININGS["generation by a pretrained encoder"] = ("seq2seq", "cross_entropy", given)
SCRIPT = """
import json
from lossmith.cli.app import run
from lossmith.training.distributed import end
print("codes", [run(words) for words in json.load(open("words.json"))])
end(0)
"""


def torchrun(*words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Two processes on this machine."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    launch = ["-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", port]
    return subprocess.run(
        [sys.executable, *launch, *words],
        capture_output=True, text=True, timeout=300, cwd=cwd,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Callable[[str], tuple[Path, Path, str, str]]:
    """The folder that one process made and that two made, all by one launch, and what it said.

    The last command of the launch is a mistake in the data, which both processes find.
    """
    place = tmp_path_factory.mktemp("torchrun")
    (place / "wide.py").write_text(WIDE)
    if find_spec("transformers"):
        (place / "encoder").mkdir()
        save_encoder(place / "encoder", dropout=0.0)
    lines = {}
    for name, (data, loss, settings) in TRAININGS.items():
        folder = place / "data" / data
        folder.mkdir(parents=True, exist_ok=True)
        family, _, known = prepare(data, folder)
        given = {**known, "batch_size": 7, "epochs": 2, "dropout": 0, **settings}
        lines[name] = ["train", family, str(folder), "--loss", loss, "--quiet"]
        for key, value in given.items():
            told = f"{key}={value}".replace("WIDE", str(place / "wide.py"))
            lines[name] += ["--set", told.replace("ENCODER", str(place / "encoder"))]
    (place / "run.py").write_text(SCRIPT)
    asked = [[*words, "--out", str(place / "two" / name)] for name, words in lines.items()]
    asked.append([*lines["regression of texts"], "--set", "target=price", "--out", "mistake"])
    (place / "words.json").write_text(json.dumps(asked))
    done = torchrun("run.py", cwd=place)
    assert done.returncode == 0, done.stderr

    def make(name: str) -> tuple[Path, Path, str, str]:
        one = place / "one" / name
        assert run([*lines[name], "--out", str(one)]) == 0
        return one, place / "two" / name, done.stdout, done.stderr

    return make


@pytest.mark.parametrize("name", TRAININGS)
def test_two_processes_make_the_weights_of_one(made, name, capfd):
    one, two, said, _ = made(name)
    alone, together = (load_file(folder / "model.safetensors") for folder in (one, two))
    assert alone.keys() == together.keys()
    for key, value in alone.items():
        if key.endswith(UNSEEN.get(name, ())):
            continue
        torch.testing.assert_close(together[key], value, rtol=0, atol=1e-5, msg=key)
    assert said.count(f"{two}\n") == 1  # one of the two talks


def test_a_mistake_that_all_find_is_told_once(made):
    *_, said, told = made("regression of texts")
    assert said.count(f"codes {[*[0] * len(TRAININGS), 3]}") == 2
    assert told.count("Error: ") == told.count("no column 'price'") == 1
    assert "Traceback" not in told


def test_a_mistake_that_the_first_finds_stops_all(tmp_path):
    """What torchrun itself says of processes that failed comes after it."""
    (tmp_path / "one.csv").write_text("text,label\na film,1\n")
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "notes.txt").touch()
    words = ["-m", "lossmith", "train", "classification", "one.csv", "--loss", "hinge"]
    done = torchrun(*words, "--out", "m", cwd=tmp_path)
    assert done.returncode == 1 and not done.stdout
    ours, _, report = done.stderr.partition("\n")
    assert ours.startswith("Error: m is not a model folder")
    assert "exitcode  : 2" in report and "lossmith/" not in report


@pytest.mark.parametrize(
    "words", ["--loss hige --out m", "--out m", "--loss hinge --seed x --out m"]
)
def test_of_several_processes_the_first_tells_a_mistake(words, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WORLD_SIZE", "2")
    for rank in ("0", "1"):
        monkeypatch.setenv("RANK", rank)
        assert run(["train", "classification", "none.csv", *words.split()]) == 2
        out, err = capfd.readouterr()
        assert not out and bool(err) == (rank == "0")
    assert run(["losses"]) == 0 and capfd.readouterr().out, "only a training is one of several"
