"""A training that was broken off and went on is the training that was not."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from lossmith.data.errors import DataError
from lossmith.training import checkpoint
from lossmith.training.fit import Stopped, fit, settle
from lossmith.training.folder import CHECKPOINT, WEIGHTS, load_model
from lossmith.training.job import RequestError

SMALL = {"epochs": 3, "dimension": 6, "batch_size": 32}
JOBS = {
    "cnn": ("classification", "cross_entropy", {"model": "cnn", "dropout": 0.5, "filters": 5}),
    "warp": ("recommendation", "warp", {"l2": 0.01}),
    "rows": ("recommendation", "warp", {"l2": 0.01, "optimizer": "adagrad"}),
    "lstm": ("classification", "hinge", {"model": "lstm", "hidden": 4, "dropout": 0.5}),
    "bpr": ("recommendation", "bpr", {"negatives": 2, "optimizer": "adagrad"}),
    "hidden": ("tagging", "masked_binary_cross_entropy", {"observed": "1", "dropout": 0.3}),
    "gru": ("generation", "cross_entropy", {"hidden": 6, "dropout": 0.3, "metrics": "perplexity"}),
}


DATA = {
    "classification": "reviews",
    "tagging": "tags",
    "recommendation": "ratings",
    "generation": "pairs",
}


@pytest.fixture(scope="module")
def tags(tmp_path_factory) -> str:
    path = tmp_path_factory.mktemp("tags") / "tags.csv"
    rows = [f"word{i % 7} and word{i % 3},{i % 2},{int(i % 3 > 0)}" for i in range(140)]
    path.write_text("\n".join(["text,a,b", *rows]))
    return str(path)


@pytest.fixture(scope="module")
def pairs(tmp_path_factory) -> str:
    path = tmp_path_factory.mktemp("pairs") / "pairs.csv"
    rows = [f"from {i} name{i} {i % 5},to {i % 5} name{i}" for i in range(140)]
    path.write_text("\n".join(["source,target", *rows]))
    return str(path)


def job(request, name, **given):
    family, loss, settings = JOBS[name]
    data = request.getfixturevalue(DATA[family])
    return settle(family, data, loss, seed=3, settings={**SMALL, **settings, **given})


def numbers(folder: Path):
    """The weights, and all metrics that may not depend on the clock."""
    metrics = json.loads((folder / "metrics.json").read_text())
    for epoch in metrics["epochs"]:
        del epoch["seconds"]
    del metrics["seconds"], metrics["peak_memory_mb"]
    return (folder / WEIGHTS).read_bytes(), metrics


def breaking_at(step: int, stop=KeyboardInterrupt):
    """What breaks a training off once that many steps are done."""
    seen = []

    def after_step(loss: float) -> None:
        seen.append(loss)
        if len(seen) == step:
            raise stop

    return after_step


def killed(job, folder: Path, step: int) -> None:
    """Train in a process of its own that is killed after a step, as by a lack of memory."""
    code = (
        "import os, signal, sys, json\n"
        "from pathlib import Path\n"
        "from lossmith.training.fit import fit\n"
        "from lossmith.training.job import Job\n"
        "seen = []\n"
        "def after_step(loss):\n"
        "    seen.append(loss)\n"
        f"    if len(seen) == {step}: os.kill(os.getpid(), signal.SIGKILL)\n"
        "job = Job(**json.loads(sys.argv[1]))\n"
        f"fit(job, Path({str(folder)!r}), checkpoint_every=0, after_step=after_step)\n"
    )
    values = json.dumps(
        {k: getattr(job, k) for k in ("family", "data", "loss", "seed", "settings")}
    )
    done = subprocess.run([sys.executable, "-c", code, values], capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr


@pytest.mark.parametrize("name", ["cnn", "warp", "rows"])
def test_killed_within_an_epoch_and_gone_on_is_as_if_never_killed(request, name, tmp_path):
    asked = job(request, name)
    whole = fit(asked, tmp_path / "whole")
    killed(asked, tmp_path / "killed", step=6)
    left = checkpoint.load(tmp_path / "killed" / CHECKPOINT)["training"]
    assert left["done"] == 1 and len(left["learner"]["costs"]) > 0  # in the middle of the second
    assert not (tmp_path / "killed" / WEIGHTS).exists()
    torch.manual_seed(99)  # whatever ran before
    again = fit(asked, tmp_path / "killed")
    assert numbers(again.folder) == numbers(whole.folder)
    assert not (again.folder / CHECKPOINT).exists()


@pytest.mark.parametrize("step", [1, 4, 5, 11])
@pytest.mark.parametrize("name", ["cnn", "warp"])
def test_wherever_it_stops_it_goes_on(request, name, step, tmp_path):
    _stop_and_go_on(job(request, name), step, tmp_path)


@pytest.mark.parametrize("name", ["lstm", "bpr", "hidden", "gru"])
def test_whatever_is_drawn_at_random_goes_on(request, name, tmp_path):
    """Dropout, a mask for a whole sequence, negatives, labels that are left, lengths that sort."""
    _stop_and_go_on(job(request, name, epochs=2), 6, tmp_path)


def _stop_and_go_on(asked, step, tmp_path):
    whole = fit(asked, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        fit(asked, tmp_path / "r", checkpoint_every=0, after_step=breaking_at(step))
    fit(asked, tmp_path / "r")
    assert numbers(tmp_path / "r") == numbers(whole.folder)


def test_an_interrupt_writes_a_checkpoint_after_the_step_it_met(request, tmp_path):
    """However rare checkpoints are otherwise; the second part is broken off once more."""
    before = signal.getsignal(signal.SIGTERM)
    asked = job(request, "cnn")
    whole = fit(asked, tmp_path / "whole")

    def interrupting(step):
        seen = []

        def after_step(loss: float) -> None:
            seen.append(loss)
            if len(seen) == step:
                os.kill(os.getpid(), signal.SIGTERM)

        return after_step

    for _ in range(2):
        with pytest.raises(Stopped):
            fit(asked, tmp_path / "r", checkpoint_every=1e9, after_step=interrupting(5))
    left = checkpoint.load(tmp_path / "r" / CHECKPOINT)["training"]
    steps = left["done"] * 4 + len(left["learner"]["costs"])
    assert steps == 10
    with pytest.raises(DataError, match="has not finished"):
        load_model(tmp_path / "r")
    fit(asked, tmp_path / "r")
    assert numbers(tmp_path / "r") == numbers(whole.folder)
    assert signal.getsignal(signal.SIGTERM) is before


def test_checkpoints_come_by_the_clock(request, tmp_path, monkeypatch):
    clock = iter(range(1000))
    monkeypatch.setattr("lossmith.training.checkpoint.time.monotonic", lambda: float(next(clock)))
    written = []
    monkeypatch.setattr(checkpoint, "save", lambda *_: written.append(1))
    fit(job(request, "cnn"), tmp_path / "r", checkpoint_every=3)
    assert 2 < len(written) < 8  # of 12 steps


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"dropout": 0.4}, "dropout: 0.5 there, 0.4 asked for"),
        ({"epochs": 4}, "epochs: 3 there, 4 asked for"),
    ],
)
def test_another_training_is_not_gone_on_with(request, change, told, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        fit(job(request, "cnn"), tmp_path / "r", checkpoint_every=0, after_step=breaking_at(2))
    with pytest.raises(RequestError, match=f"holds another training(.|\n)*{told}(.|\n)*--fresh"):
        fit(job(request, "cnn", **change), tmp_path / "r")
    fit(job(request, "cnn", **change), tmp_path / "r", fresh=True)


def test_other_data_under_the_same_name_are_refused(tmp_path, reviews):
    data = tmp_path / "reviews.csv"
    data.write_text(Path(reviews).read_text())
    settings = {**SMALL, "epochs": 1}
    asked = settle("classification", str(data), "hinge", seed=0, settings=settings)
    fit(asked, tmp_path / "r")
    data.write_text(data.read_text() + "\na new film,yes")
    from lossmith.tasks import text

    text._load_text.cache_clear()  # another process would read anew
    with pytest.raises(RequestError, match="data fingerprint: '"):
        fit(asked, tmp_path / "r")


@pytest.mark.parametrize("content", [b"", b"no checkpoint", None])
def test_a_damaged_checkpoint_is_told(request, content, tmp_path):
    asked = job(request, "cnn")
    with pytest.raises(KeyboardInterrupt):
        fit(asked, tmp_path / "r", checkpoint_every=0, after_step=breaking_at(2))
    path = tmp_path / "r" / CHECKPOINT
    path.write_bytes(path.read_bytes()[:-100] if content is None else content)
    with pytest.raises(DataError, match=r"checkpoint.pt: cannot be read.*--fresh"):
        fit(asked, tmp_path / "r")


def test_a_checkpoint_that_would_run_code_is_not_read(tmp_path):
    class Trap:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "sprung",))

    torch.save({"version": 1, "trap": Trap()}, tmp_path / "c.pt")
    with pytest.raises(DataError, match="cannot be read"):
        checkpoint.load(tmp_path / "c.pt")
    assert not (tmp_path / "sprung").exists()
