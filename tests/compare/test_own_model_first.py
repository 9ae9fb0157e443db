"""A model of one's own that does not fit is told before any training starts, in every family."""

from __future__ import annotations

import pytest
import torch

from lossmith.cli.app import run
from lossmith.compare.plan import PlanError
from lossmith.compare.study import prepare as settled
from training.small import CASES, prepare

MODELS = """
import torch
from torch import nn
from lossmith.tasks.factorization import VectorModel
from lossmith.tasks.seq2seq import Seq2Seq

class Wrong(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(5))

    def forward(self, *inputs):  # line 12
        return self.weight.expand(3, 5)

class Failing(Wrong):
    def forward(self, *inputs):
        return self.weight @ torch.ones(6)  # line 17

class Unmade(Wrong):
    def __init__(self, width):
        super().__init__()

class Steps(Wrong, Seq2Seq):
    encode = start = step = None

    def forward(self, source, given):
        return self.weight.expand(3, 5)

class Pairs(nn.Module):
    def __init__(self, users, items):
        super().__init__()
        self.users = nn.Embedding(users, 1)

    def forward(self, users, items):
        return self.users(users)
"""


@pytest.fixture
def mine(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(MODELS)
    return path


def asked(case, model, tmp_path):
    """The family, the data, the loss, and the settings with that model."""
    family, loss, settings = prepare(case, tmp_path)
    settings = {k: v for k, v in settings.items() if k not in ("model", "filters")}
    return family, str(tmp_path), loss, {**settings, "model": model}


@pytest.mark.parametrize("case", CASES)
def test_a_wrong_shape_is_told_with_its_file_and_line_before_a_run_starts(case, mine, tmp_path):
    (tmp_path / "data").mkdir()
    for name, told in (
        ("Wrong", r"gave \(3, 5\).*\(mine.py:12\).*expected .*model\("),
        ("Failing", r"fails on .*RuntimeError: .*\(mine.py:17: return self.weight @"),
        ("Unmade", r"an argument 'width' that it is not given"),
    ):
        family, data, loss, settings = asked(case, f"{mine}:{name}", tmp_path / "data")
        with pytest.raises(PlanError, match=told):
            settled(family, data, [loss], settings=settings, out=str(tmp_path / "run"))
    assert not (tmp_path / "run").exists()


def test_a_writer_that_decodes_by_itself_is_tried_as_well(mine, tmp_path):
    (tmp_path / "data").mkdir()
    family, data, loss, settings = asked("seq2seq", f"{mine}:Steps", tmp_path / "data")
    with pytest.raises(PlanError, match=r"Steps does not go with cross_entropy: "):
        settled(family, data, [loss], settings=settings)


def test_a_model_that_fits_leaves_the_random_state_and_what_a_loss_raises_to_the_training(
    mine, tmp_path
):
    (tmp_path / "data").mkdir()
    (tmp_path / "raising.py").write_text(
        "def raising(positive, negative, mask):\n    return 1 / 0\n"
    )
    family, data, _, settings = asked("users", f"{mine}:Pairs", tmp_path / "data")
    before = torch.get_rng_state()
    settled(family, data, ["bpr", f"{tmp_path / 'raising.py'}:raising"], settings=settings)
    assert torch.equal(torch.get_rng_state(), before)


def test_the_commands_say_so_and_leave_nothing_behind(mine, tmp_path, capfd):
    (tmp_path / "data").mkdir()
    family, data, loss, settings = asked("lists", f"{mine}:Wrong", tmp_path / "data")
    words = [word for key, value in settings.items() for word in ("--set", f"{key}={value}")]
    out = ["--out", str(tmp_path / "run"), *words]
    for line in (
        ["compare", family, data, "--losses", loss, *out, "--dry-run"],
        ["train", family, data, "--loss", loss, *out],
    ):
        assert run(line) == 2
        told = capfd.readouterr().err
        assert told.count("Error: ") == 1 and "(mine.py:12)" in told and "Traceback" not in told
    assert not list(tmp_path.glob("run/*.json"))
