"""What an installed wheel must do with torch alone: import, compute, name what is missing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import lossmith as lm

assert "torch" not in sys.modules, "importing lossmith must not import torch"

import torch  # noqa: E402  (after the check above)

assert Path(lm.__file__).is_relative_to(sys.prefix), f"{lm.__file__} is not the installed wheel"
queries = torch.eye(4, requires_grad=True)
loss = lm.InfoNCE(temperature=0.1)(queries, torch.eye(4))
loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
assert queries.grad is not None and queries.grad.isfinite().all()
assert len(lm.objectives()) >= 20
assert lm.from_text("warp(margin=0.5)").text == "warp(margin=0.5)"

tool = subprocess.run(
    [sys.executable, "-m", "lossmith", "--help"], capture_output=True, text=True, check=False
)
assert "lossmith[compare]" in tool.stdout + tool.stderr, tool
print(f"lossmith {lm.__version__} with torch {torch.__version__} alone: ok")
