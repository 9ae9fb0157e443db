"""What a batch teaches, and the laws as tests of somebody's own suite."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from lossmith.check import explain_batch


def test_duplicates_floor_an_in_batch_softmax() -> None:
    rows = torch.eye(8)[[0, 0, 1, 2, 3, 4]]
    found = explain_batch("info_nce", rows, rows, args={"temperature": 0.01})
    assert found.duplicates == ((0, 1),)
    assert set(found.false_negatives) == {(0, 1), (1, 0)}
    assert found.floor == pytest.approx(2 * math.log(2) / 6)
    assert found.value == pytest.approx(found.floor, abs=1e-6)
    assert "the same" in found.text() and json.dumps(found.to_dict())


def test_a_batch_without_doubles_has_no_floor() -> None:
    found = explain_batch("info_nce", torch.eye(6), torch.eye(6))
    assert found.floor is None and not found.duplicates and not found.false_negatives


def test_shares_of_the_gradient() -> None:
    positive = torch.tensor([9.0] * 9 + [0.0])
    found = explain_batch("bpr", positive * 20, positive * 0 + 1.0)
    assert found.active == pytest.approx(0.1) and found.hardest == pytest.approx(1.0)
    assert found.rows == 10


def test_collapse_and_stuck_at_the_margin_are_warned_of() -> None:
    same = torch.ones(6, 4)
    found = explain_batch("triplet", same, same, same, args="margin=0.3")
    assert any("collapse" in w for w in found.warnings)
    assert any("margin, 0.3" in w for w in found.warnings)
    assert "warning: collapse" in found.text()


def test_too_few_tensors_are_answered() -> None:
    with pytest.raises(ValueError, match="takes 2 arguments"):
        explain_batch("info_nce", torch.eye(2))


SUITE = """
import torch.nn.functional as F
from lossmith.check import parametrize_with_laws

def good(logits, target):
    return F.cross_entropy(logits, target)

def painted(logits, target):
    return F.cross_entropy(logits.nan_to_num(), target)

LAWS = ["order", "nan-not-hidden", "weights"]

@parametrize_with_laws([good, painted], inputs="logits+class", laws=LAWS)
def test_loss(check):
    check()
"""


def test_laws_are_tests_of_ones_own(tmp_path: Path) -> None:
    (tmp_path / "test_mine.py").write_text(SUITE, "utf-8")
    command = [sys.executable, "-m", "pytest", "-v", "-p", "no:cacheprovider", "-o", "addopts="]
    done = subprocess.run([*command, "test_mine.py"], cwd=tmp_path, capture_output=True, text=True)
    assert "test_loss[order[good]] PASSED" in done.stdout, done.stdout + done.stderr
    assert "test_loss[nan-not-hidden[painted]] FAILED" in done.stdout
    assert "4 failed" not in done.stdout and "1 failed, 3 passed, 2 skipped" in done.stdout
    assert "NaN predictions" in done.stdout and "hint: No nan_to_num" in done.stdout
