"""``--device``: every family trains, answers and is judged elsewhere, with the same numbers.

The device is a stand-in (see ``elsewhere``), which raises where tensors of two devices meet.
"""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from lossmith.cli.app import run
from lossmith.compare.execute import default_workers
from lossmith.compare.plan import Arm, Run
from lossmith.kernels.violators import sample_violators
from lossmith.tasks import place
from lossmith.tasks.place import find, moved, present
from lossmith.tasks.settings import COMMON
from lossmith.tasks.task import OPTIMIZERS
from lossmith.training import checkpoint
from lossmith.training.distributed import Processes
from lossmith.training.fit import fit, settle
from lossmith.training.folder import load_model
from lossmith.training.job import Job, RequestError
from lossmith.training.judge import answers, evaluate
from training.elsewhere import MixedError, There, device
from training.small import prepare

# The data, the loss and the settings: every feed of every family, and every model.
TRAININGS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "classes, cnn": ("classes", "cross_entropy(label_smoothing=0.1)", {}),
    "each class": ("each class", "binary_cross_entropy", {}),
    "tags": ("tags", "binary_cross_entropy", {}),
    "labels with gaps": ("columns", "masked_binary_cross_entropy", {}),
    "numbers of texts, lstm": ("texts", "huber", {}),
    "numbers of features": ("features", "absolute_error", {"optimizer": "adagrad"}),
    "lists, attention": ("lists", "lambda_loss", {}),
    "lists, yes or no": ("lists", "binary_cross_entropy", {"model": "mlp"}),
    "pairs": ("users", "bpr", {"l2": 0.01, "negatives": 3}),
    "one by one": ("users", "binary_cross_entropy", {}),
    "all items": ("users", "cross_entropy", {"l2": 0.01}),
    "some items": ("users", "cross_entropy", {"softmax": 4}),
    "users' lists": ("users", "listnet", {"l2": 0.01}),
    "fused search": ("users", "warp", {"l2": 0.01}),
    "search": ("users", "warp(reduction='sum')", {}),
    "expected search": ("users", "expected_warp", {}),
    "texts to items": ("items", "warp", {}),
    "texts to items, bag": ("items", "bpr", {"model": "bag", "score": "cosine"}),
    "retrieval": ("search", "info_nce", {}),
    "retrieval, labels": ("search", "sup_con", {}),
    "retrieval, triplets": ("search", "triplet", {"towers": "separate"}),
    "retrieval, same": ("search", "contrastive", {}),
    "retrieval, lists": ("search", "listnet", {}),
    "generation, gru": ("seq2seq", "cross_entropy", {"beams": 1}),
    "generation, transformer": ("seq2seq", "keyword_hybrid", {"model": "transformer"}),
    "generation, lstm": ("seq2seq", "keyword_presence", {"model": "lstm", "beams": 1}),
}

# A loss of differences does not see the one, nor attention the other, and rounding moves them (see
# test_torchrun.py).
UNSEEN = {"all items": "offset", "some items": "offset", "generation, transformer": "key.bias"}


def asked(name: str, folder: Path, **more: Any) -> Job:
    data, loss, settings = TRAININGS[name]
    folder.mkdir()
    family, _, known = prepare(data, folder)
    given = {**known, "batch_size": 7, "epochs": 2, **settings, **more}
    return settle(family, str(folder), loss, seed=0, settings=given)


def there(job: Job) -> Job:
    return settle(
        job.family, job.data, job.loss, seed=0, settings={**job.settings, "device": "cuda"}
    )


def _unfused(optimizer: Any, groups: Any, *, fused: bool | None, **how: Any) -> Any:
    return optimizer(groups, **how)


@pytest.mark.parametrize("name", TRAININGS)
def test_every_training_is_the_same_elsewhere(name, tmp_path, monkeypatch):
    """And so are the answers and the metrics of the model, wherever it was trained."""
    # The stand-in has no fused form of the optimizer, which rounds otherwise.
    plain = {"adamw": torch.optim.AdamW, "adagrad": torch.optim.Adagrad}
    for kind, optimizer in plain.items():
        monkeypatch.setitem(OPTIMIZERS, kind, partial(_unfused, optimizer))
    job = asked(name, tmp_path / "data")
    here = fit(job, tmp_path / "here")
    with device(monkeypatch):
        away = fit(there(job), tmp_path / "away")
    one, two = (load_file(fitted.folder / "model.safetensors") for fitted in (here, away))
    assert one.keys() == two.keys()
    for key, value in one.items():
        if key.endswith(UNSEEN.get(name, "nothing")):
            continue
        torch.testing.assert_close(two[key], value, rtol=1e-4, atol=1e-5, msg=key)
    # Cosines that are equal up to rounding change places in a ranking.
    near = 0.1 if name.startswith("retrieval") else 1e-4
    assert away.metrics["test"] == pytest.approx(here.metrics["test"], rel=near, nan_ok=True)

    source = str(tmp_path / "data" / "test.csv")
    kept = load_model(away.folder)
    said, judged = list(answers(kept, source)), evaluate(kept, str(tmp_path / "data"))
    with device(monkeypatch):
        far = load_model(here.folder, "cuda")
        assert all(isinstance(one, There) for one in far.model.parameters())
        for left, right in zip(said, answers(far, source), strict=True):
            assert [set(one) for one in left] == [set(one) for one in right]
        found = evaluate(far, str(tmp_path / "data"))
    assert found["metrics"] == pytest.approx(judged["metrics"], rel=near, nan_ok=True)


OWN = """
import torch
from torch import nn

class Pairs(nn.Module):
    def __init__(self, users, items):
        super().__init__()
        self.users, self.items = nn.Embedding(users, 4), nn.Embedding(items, 4)

    def forward(self, users, items):
        return (self.users(users) * self.items(items)).sum(dim=-1)

class Scores(nn.Module):
    def __init__(self, vocabulary, items):
        super().__init__()
        self.words = nn.EmbeddingBag(vocabulary, items, padding_idx=0)

    def forward(self, ids):
        return self.words(ids)
"""


@pytest.mark.parametrize(
    ("data", "loss", "model"),
    [
        ("users", "listnet", "Pairs"),
        ("users", "warp", "Pairs"),
        ("items", "bpr", "Scores"),
        ("items", "warp", "Scores"),
    ],
)
def test_models_of_ones_own_recommend_elsewhere(data, loss, model, tmp_path, monkeypatch):
    (tmp_path / "own.py").write_text(OWN)
    folder = tmp_path / data
    folder.mkdir()
    family, _, known = prepare(data, folder)
    given = {**known, "model": f"{tmp_path / 'own.py'}:{model}", "epochs": 1, "dimension": 7}
    job = settle(family, str(folder), loss, seed=0, settings=given)
    with device(monkeypatch):
        kept = load_model(fit(there(job), tmp_path / "m").folder, "cuda")
        assert evaluate(kept, str(folder))["metrics"]
        assert next(answers(kept, str(folder / "test.csv")))


@pytest.mark.parametrize("name", ["pairs", "numbers of texts, lstm"])
def test_a_checkpoint_is_of_the_processor_and_goes_on_elsewhere(name, tmp_path, monkeypatch):
    more = {"dropout": 0.3} if "lstm" in name else {}
    job = asked(name, tmp_path / "data", **more)
    steps: list[float] = []

    def stop(loss: float) -> None:
        steps.append(loss)
        if len(steps) == 5:
            raise KeyboardInterrupt

    with device(monkeypatch):
        there_later = there(job)
        whole = fit(there_later, tmp_path / "whole")
        with pytest.raises(KeyboardInterrupt):
            fit(there_later, tmp_path / "r", checkpoint_every=0, after_step=stop)
    left = checkpoint.load(tmp_path / "r" / "checkpoint.pt")
    for tensor in left["training"]["learner"]["model"].values():
        assert tensor.device.type == "cpu" and type(tensor) is torch.Tensor
    with pytest.raises(RequestError, match="device: 'cuda' there, 'cpu' asked for"):
        fit(job, tmp_path / "r")
    with device(monkeypatch):
        fit(there_later, tmp_path / "r")
    one, two = (load_file(f / "model.safetensors") for f in (whole.folder, tmp_path / "r"))
    assert all(torch.equal(one[key], two[key]) for key in one)


def test_the_stand_in_refuses_what_is_not_there(monkeypatch):
    with device(monkeypatch):
        far = torch.ones(3).to("meta")
        assert float((far + far).sum()) == 6
        with pytest.raises(MixedError, match="1 tensors on meta, 1 on the processor"):
            far + torch.ones(3)
        with pytest.raises(MixedError, match="a generator of the processor"):
            torch.rand(3, device="meta", generator=torch.Generator())


def test_a_seed_draws_the_same_violators_elsewhere(monkeypatch):
    scores = torch.randn(40, 30, generator=torch.Generator().manual_seed(1))
    positive = torch.arange(40) % 30
    for method in ("rounds", "at_once", "closed_form"):
        for redraw in (False, True):
            how = {"num_items": 30, "method": method, "redraw_known": redraw}
            draw = torch.Generator().manual_seed(2)
            here = sample_violators(scores, positive, **how, generator=draw)
            with device(monkeypatch):
                away = sample_violators(
                    *moved((scores, positive), torch.device("meta")),
                    **how,
                    generator=torch.Generator().manual_seed(2),
                )
                for one, two in zip(here, away, strict=True):
                    assert torch.equal(one, moved(two, place.CPU))


def test_a_device_that_is_not_there_is_one_sentence(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(place, "present", lambda: ["cpu", "cuda:0", "cuda:1"])
    line = ["train", "classification", "d.csv", "--loss", "hinge", "--out", "m", "--device"]
    assert run([*line, "cuda:2"]) == 2
    assert capfd.readouterr().err == (
        "Error: device=cuda:2 is not there; torch finds cpu, cuda:0, cuda:1 on this machine.\n"
    )
    assert run([*line, "gpu"]) == 2
    assert "expected cpu, cuda, cuda:N, mps or auto" in capfd.readouterr().err
    assert find("cuda") == torch.device("cuda")
    assert COMMON["device"].read("device", "auto") == "cuda"
    monkeypatch.setattr(place, "present", lambda: ["cpu"])
    assert COMMON["device"].read("device", "auto") == "cpu"
    assert run(["predict", "m", "d.csv", "--device", "mps"]) == 2
    assert "device=mps is not there" in capfd.readouterr().err


def test_the_processor_is_the_default_whatever_is_there():
    assert present()[0] == "cpu" and COMMON["device"].read("device", None) is None
    assert settle("regression", "d.csv", "huber", seed=0, settings={}).settings["device"] == "cpu"


def test_a_comparison_needs_the_devices_of_its_plan(tmp_path, monkeypatch, capfd):
    folder = tmp_path / "data"
    folder.mkdir()
    prepare("features", folder)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(place, "present", lambda: ["cpu"])
    line = ["compare", "regression", str(folder), "--seeds", "1", "--epochs", "1"]
    assert run([*line, "--device", "cuda", "--quiet"]) == 2
    assert "device=cuda is not there" in capfd.readouterr().err
    job = Job("regression", "d", "huber", 0, {"device": "cuda", "threads": 1})
    runs = [Run(Arm("huber", "huber", {}), job)] * 4
    assert default_workers(runs) == 1


def test_several_processes_train_on_processors(tmp_path, monkeypatch):
    job = asked("numbers of features", tmp_path / "data")
    several = Processes()
    several.size = 2
    monkeypatch.setattr("lossmith.training.fit.join", lambda: several)
    with device(monkeypatch), pytest.raises(RequestError, match="device=cuda: several processes"):
        fit(there(job), tmp_path / "m")


def test_a_folder_says_where_it_was_trained(tmp_path, monkeypatch):
    job = asked("numbers of features", tmp_path / "data")
    with device(monkeypatch):
        fitted = fit(there(job), tmp_path / "m")
    config = json.loads((fitted.folder / "config.json").read_text())
    assert config["settings"]["device"] == "cuda"
    assert "device=cuda" in (fitted.folder / "README.md").read_text()
