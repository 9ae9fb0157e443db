"""One virtual environment for each peer, from its pinned requirements."""

from __future__ import annotations

import subprocess
import sys
import sysconfig
import venv
from collections.abc import Callable
from pathlib import Path

from benchmarks.child import ROOT

FOLDER = ROOT / "benchmarks" / "environments"
MADE = ROOT / ".bench" / "environments"
MAIN = "main"
# What must hold in every environment, before its own check.
SAME_TORCH = "import torch; assert torch.__version__.startswith('{}'), torch.__version__"
_DONE, _FAILED = "installed.txt", "reason.txt"


def python_of(name: str, *, install: bool, say: Callable[[str], None]) -> tuple[Path | None, str]:
    """The interpreter of an environment, or None and the reason why there is none."""
    if name == MAIN:
        return Path(sys.executable), ""
    requirements = FOLDER / f"{name}.txt"
    if not requirements.exists():
        return None, f"not installed: there is no {requirements.relative_to(ROOT)}"
    here = MADE / name
    wanted = requirements.read_text()
    if _read(here / _DONE) == wanted:
        return here / "bin" / "python", ""
    if not install:
        return None, "not installed: left out of this run (--install installs it)"
    failed = _read(here / _FAILED)
    if failed.startswith(wanted):
        return None, f"not installed: {failed[len(wanted) :].strip()}"
    say(f"installing {name}")
    reason = make(here, requirements)
    (here / _FAILED if reason else here / _DONE).write_text(wanted + reason)
    return (None, f"not installed: {reason}") if reason else (here / "bin" / "python", "")


def make(here: Path, requirements: Path) -> str:
    """Make an environment; the reason where it cannot be, else nothing."""
    venv.create(here, with_pip=True, clear=True)
    python = here / "bin" / "python"
    pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    torch = _torch()
    pin = here / "torch.txt"
    pin.write_text(f"{torch}\n")
    # torch comes first and is pinned after, so that no peer brings another one.
    site = sysconfig.get_path("purelib", vars={"base": str(here), "platbase": str(here)})
    name = requirements.stem
    options = directive(name, "pip").format(site=site).split()
    names = directive(name, "stand-ins").split()
    stand_ins = f"from benchmarks.standins import *; install_stand_ins({names})"
    same_torch = SAME_TORCH.format(torch.split("==")[1])
    steps = [
        [*pip, torch],
        [*pip, "--constraint", str(pin), *options, "--requirement", str(requirements)],
        [
            str(python),
            "-c",
            f"{same_torch}\n{stand_ins}\n{directive(name, 'check')}",
        ],
    ]
    for step in steps:
        done = subprocess.run(step, cwd=ROOT, capture_output=True, text=True)
        if done.returncode:
            return _last_line(done.stderr)
    return ""


def _torch() -> str:
    """The line of the constraints that pins torch."""
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    return next(line for line in lines if line.startswith("torch=="))


def directive(name: str, kind: str) -> str:
    """What an environment's file says in a line ``# kind: text``; nothing where it does not.

    ``pip``: options, with {site} for the environment's packages; ``check``: Python that must run
    there; ``stand-ins``: packages that the peer imports and its losses do not need.
    """
    path = FOLDER / f"{name}.txt"
    lines = path.read_text().splitlines() if path.exists() else []
    start = f"# {kind}: "
    return next((line[len(start) :] for line in lines if line.startswith(start)), "")


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("ERROR")]
    return (errors or lines or ["pip said nothing"])[-1][:300]


def _read(path: Path) -> str:
    return path.read_text() if path.exists() else ""
