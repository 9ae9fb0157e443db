"""A loss that hangs, eats memory or exits is reported, and the other laws go on."""

from __future__ import annotations

from pathlib import Path

import pytest

from lossmith.check import check_loss

LAWS = ["runs", "gradient", "single", "mutation"]
SOURCE = """
import os, torch
import torch.nn.functional as F

def hangs(logits, target):
    while logits.dtype is torch.float64:  # the gradient's examples
        pass
    return F.cross_entropy(logits, target)

def eats(logits, target):
    kept = []
    while len(logits) == 1:  # the example of `single`
        kept.append(torch.ones(10_000_000))
    return F.cross_entropy(logits, target)

def leaves(logits, target):
    if len(logits) == 1:
        os._exit(3)
    return F.cross_entropy(logits, target)

def talks(logits, target):
    print("a loss that prints")
    return F.cross_entropy(logits, target)
"""


@pytest.fixture(scope="module")
def module(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("losses") / "guarded_losses.py"
    path.write_text(SOURCE, "utf-8")
    return path


def test_a_loss_that_hangs(module: Path) -> None:
    report = check_loss(
        f"{module}:hangs", inputs="logits+class", laws=["runs", "gradient", "mutation"], seconds=2.0
    )
    assert report.broken == ("gradient",)
    assert "did not return within" in report["gradient"].detail
    assert report["runs"].status == report["mutation"].status == "held"


def test_a_loss_that_needs_too_much_memory(module: Path) -> None:
    report = check_loss(f"{module}:eats", inputs="logits+class", laws=LAWS, memory_mb=300)
    assert report.broken == ("single",)
    assert "300 MB" in report["single"].detail or "memory" in report["single"].detail
    assert report["mutation"].status == "held"


def test_a_loss_that_exits(module: Path) -> None:
    report = check_loss(f"{module}:leaves", inputs="logits+class", laws=LAWS)
    assert report["single"].detail == "the loss ended the process with exit code 3"
    assert report["gradient"].status == report["mutation"].status == "held"


def test_the_guarded_report_is_that_of_this_process(module: Path) -> None:
    seen: list[tuple[str, int, int]] = []
    options = {"inputs": "logits+class", "laws": LAWS}
    there = check_loss(f"{module}:talks", **options, on_law=lambda *said: seen.append(said))
    here = check_loss(f"{module}:talks", **options, isolate=False)
    assert [(f.law, f.status, f.detail) for f in there.findings] == [
        (f.law, f.status, f.detail) for f in here.findings
    ]
    assert [law for law, _, _ in seen if law != "runs"] == LAWS[1:]
    assert all(total == len(LAWS) for _, _, total in seen)


def test_a_wrong_name_raises_here(module: Path) -> None:
    with pytest.raises(ValueError, match="Did you mean 'hangs'"):
        check_loss(f"{module}:hang", inputs="logits+class")


def test_what_cannot_travel_is_refused() -> None:
    with pytest.raises(ValueError, match="cannot be sent to another process"):
        check_loss(lambda logits, target: logits.sum(), inputs="logits+class", isolate=True)
