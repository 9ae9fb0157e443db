"""What a type checker sees of the generated stubs, asked of mypy itself."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

USER_CODE = """\
import torch
import lossmith as lm

loss: torch.Tensor = lm.info_nce(torch.eye(2), torch.eye(2), temperature=0.1)
face = lm.InfoNCE(temperature=0.1, symmetric=True)
value: torch.Tensor = face(torch.eye(2), torch.eye(2), mask=torch.ones(2).bool())
lm.WARP(weighting="harmonic")
lm.InfoNCE(temprature=0.1)
lm.WARP(weighting="quadratic")
face(torch.eye(2))
lm.info_nec
"""
WRONG_LINES = {8: "temprature", 9: "weighting", 10: "Too few arguments", 11: "info_nec"}


def test_a_type_checker_knows_functions_modules_and_knobs(tmp_path: Path) -> None:
    (tmp_path / "user.py").write_text(USER_CODE)
    cache = f"--cache-dir={ROOT / '.mypy_cache'}"
    options = ["--config-file=", "--strict", cache, "--no-error-summary"]
    done = subprocess.run(
        [sys.executable, "-m", "mypy", *options, "user.py"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    errors = [line for line in done.stdout.splitlines() if ": error:" in line]
    assert {int(line.split(":")[1]) for line in errors} == set(WRONG_LINES), done.stdout
    for number, word in WRONG_LINES.items():
        assert any(f":{number}:" in line and word in line for line in errors), done.stdout
