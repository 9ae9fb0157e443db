"""The user's own code and a model folder: its hash is kept, and a change of it is told."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from lossmith.cli.app import run
from lossmith.data.errors import DataError
from lossmith.training.fit import fit, settle
from lossmith.training.folder import load_model
from lossmith.training.job import RequestError
from lossmith.training.judge import evaluate

LOSS = """
import torch.nn.functional as F

def mine(logits, target):
    return F.cross_entropy(logits, target)
"""
MODEL = """
from torch import nn

class Words(nn.Module):
    def __init__(self, vocabulary, outputs):
        super().__init__()
        self.words = nn.EmbeddingBag(vocabulary, outputs, padding_idx=0)

    def forward(self, ids):
        return self.words(ids)
"""
METRIC = """
def share(logits, target):
    return ((logits > 0) == (target == 1)).double().mean()

share.higher_is_better = True
"""


@pytest.fixture
def trained(reviews, tmp_path, request):
    """A folder trained with a loss, a model and a metric from files of this test alone."""
    name = "".join(c for c in request.node.name if c.isalnum())
    files = {}
    for kind, text in (("loss", LOSS), ("model", MODEL), ("metric", METRIC)):
        files[kind] = tmp_path / f"{kind}_{name}.py"
        files[kind].write_text(text)
    settings = {
        "epochs": 1,
        "model": f"{files['model']}:Words",
        "metrics": f"accuracy,{files['metric']}:share",
    }
    asked = settle("classification", reviews, f"{files['loss']}:mine", seed=0, settings=settings)
    return fit(asked, tmp_path / "m").folder, asked, files


def test_the_hash_of_everything_of_ones_own_is_kept(trained):
    folder, _, files = trained
    config = json.loads((folder / "config.json").read_text())
    names = {"loss": "mine", "model": "Words", "metric": "share"}
    texts = {f"{files[kind]}:{name}" for kind, name in names.items()}
    assert set(config["code"]) == texts and config["inputs"] == "logits+class"
    card = (folder / "README.md").read_text()
    assert all(f"the code of {text}, hash {config['code'][text]}" in card for text in texts)


@pytest.mark.parametrize("kind", ["loss", "model", "metric"])
def test_evaluate_and_predict_name_the_file_that_has_changed(trained, kind, reviews, capfd):
    folder, _, files = trained
    assert evaluate(load_model(folder), reviews)["warnings"] == []
    assert run(["predict", str(folder), reviews]) == 0
    before = capfd.readouterr()
    assert before.err == ""
    files[kind].write_text(files[kind].read_text() + "# another\n")
    told = f"warning: {files[kind]} has changed since the training"
    assert run(["predict", str(folder), reviews]) == 0
    after = capfd.readouterr()
    assert told in after.err and after.out == before.out
    assert run(["evaluate", str(folder), reviews, "--json"]) == 0
    after = capfd.readouterr()
    assert told in after.err
    assert str(files[kind]) in json.loads(after.out)["warnings"][0]


def test_a_helper_that_has_changed_is_named(reviews, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))
    helper, path = tmp_path / "helper_of_a_loss.py", tmp_path / "loss_with_a_helper.py"
    helper.write_text("factor = 1.0\n")
    with_factor = LOSS.replace("return ", "return helper_of_a_loss.factor * ")
    path.write_text(f"import helper_of_a_loss\n{with_factor}")
    asked = settle("classification", reviews, f"{path}:mine", seed=0, settings={"epochs": 1})
    kept = load_model(fit(asked, tmp_path / "m").folder)
    assert evaluate(kept, reviews)["warnings"] == []
    helper.write_text("factor = 2.0\n")
    (told,) = evaluate(kept, reviews)["warnings"]
    assert told.startswith(f"{path} (or helper_of_a_loss.py, which it imports) has changed since")


def test_a_training_goes_on_with_the_same_code_alone(trained, reviews):
    folder, asked, files = trained
    assert fit(asked, folder).already
    files["loss"].write_text(files["loss"].read_text() + "# another\n")
    with pytest.raises(RequestError, match=r"code of .*loss_.*:mine: '\w+' there, '\w+' asked for"):
        fit(asked, folder)
    assert not fit(asked, folder, fresh=True).already


def test_a_loss_that_is_gone_hinders_nobody_and_a_model_does(trained, reviews, capfd):
    folder, _, files = trained
    files["loss"].unlink()
    assert run(["predict", str(folder), reviews]) == 0
    err = capfd.readouterr().err
    assert "warning: nothing says whether" in err and "there is no file" in err
    files["model"].unlink()
    with pytest.raises(DataError, match=r"its own code cannot be loaded.*folder where the tra"):
        load_model(folder)


def test_a_folder_from_before_says_nothing_of_code(trained, reviews, tmp_path):
    folder, *_ = trained
    old = Path(shutil.copytree(folder, tmp_path / "old"))
    config = json.loads((old / "config.json").read_text())
    del config["code"], config["inputs"], config["files"]["seen.safetensors"]
    (old / "config.json").write_text(json.dumps(config))
    kept = load_model(old)
    assert kept.feed == "logits+class"
    found = evaluate(kept, reviews)
    assert found["warnings"] == [] and found["seen_in_training"] is None
    assert found["metrics"] == evaluate(load_model(folder), reviews)["metrics"]
