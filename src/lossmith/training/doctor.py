"""What this installation can do: versions, devices, folders, and a training on made-up data."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import random
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import lossmith
from lossmith.training.job import RequestError

# What the tool's packages are for, by the name they are imported by.
PACKAGES = {
    "torch": "the objectives",
    "jinja2": "the report's page",
    "matplotlib": "the report's plots",
    "numpy": "the tool's arithmetic",
    "polars": "reading tables",
    "rich": "what the terminal shows",
    "safetensors": "model folders",
    "scipy": "statistics",
    "sklearn": "reading svmlight",
    "tokenizers": "subwords",
    "tomli_w": "plan files",
}


def missing_packages() -> list[str]:
    """Those of :data:`PACKAGES` that are not installed."""
    return [name for name in PACKAGES if importlib.util.find_spec(name) is None]


def need_packages(what: str) -> None:
    """Raise RequestError, with what to type, unless all that the tool needs is installed."""
    absent = missing_packages()
    if absent:
        raise RequestError(
            f"{what} needs {', '.join(absent)}. Install the tool's packages with: "
            'pip install "lossmith[compare]"'
        )


@dataclass(frozen=True)
class Finding:
    """One thing looked at."""

    name: str
    ok: bool
    detail: str
    fix: str = ""


def examine() -> Iterator[Finding]:
    """Look at one thing after another; the last ones train, and take some seconds."""
    yield Finding("lossmith", True, f"{lossmith.__version__}, Python {platform.python_version()}")
    yield from map(_package, PACKAGES)
    if missing_packages():
        return  # what follows would only fail for the same reason
    yield from _devices()
    yield _folder("cache", _cache_folder())
    yield _folder("runs", Path("runs"))
    yield _timed("objectives", _every_objective_is_there)
    yield _timed("training", _train_on_made_up_text)


def _package(name: str) -> Finding:
    if name in missing_packages():
        install = "torch" if name == "torch" else '"lossmith[compare]"'
        return Finding(name, False, f"missing; {PACKAGES[name]} need it", f"pip install {install}")
    try:
        package = "scikit-learn" if name == "sklearn" else name
        return Finding(name, True, importlib.metadata.version(package))
    except importlib.metadata.PackageNotFoundError:
        return Finding(name, True, "of an unknown version")


def _devices() -> Iterator[Finding]:
    import torch

    yield Finding("cpu", True, f"{os.cpu_count()} processors, {torch.get_num_threads()} threads")
    if torch.cuda.is_available():
        for i in range(torch.cuda.device_count()):
            yield Finding(f"cuda:{i}", True, torch.cuda.get_device_name(i))
    if torch.backends.mps.is_available():
        yield Finding("mps", True, "available")


def _cache_folder() -> Path:
    from lossmith.data.corpus import cache_folder

    return cache_folder()


def _folder(name: str, folder: Path) -> Finding:
    """Whether a file can be put there; no folder is left behind that was not there before."""
    near = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    try:
        with tempfile.NamedTemporaryFile(dir=near):
            return Finding(name, True, f"{folder} can be written")
    except OSError as error:
        fix = "Set LOSSMITH_CACHE." if name == "cache" else "Give a folder with --out."
        return Finding(name, False, f"{folder} cannot be written ({error.strerror})", fix)


def _timed(name: str, work: Callable[[], str]) -> Finding:
    began = time.perf_counter()
    try:
        said = work()
    except Exception as error:  # whatever goes wrong here is what a doctor is for
        fix = "Please report it, with this page."
        return Finding(name, False, f"{type(error).__name__}: {error}", fix)
    return Finding(name, True, f"{said} in {time.perf_counter() - began:.1f} s")


def _every_objective_is_there() -> str:
    from lossmith.core.spec import objectives

    return f"{len(objectives())} objectives were loaded"


def _train_on_made_up_text() -> str:
    """Two epochs on texts whose class one word tells: a sound installation learns it."""
    from lossmith.training.job import Job
    from lossmith.training.run import run_job

    rng = random.Random(0)
    words = [f"word{i}" for i in range(50)]
    lines = ["text,label"]
    for i in range(600):
        label = ("yes", "no")[i % 2]
        lines.append(f"{' '.join(rng.choices(words, k=8))} {label}sign,{label}")
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder, "made-up.csv")
        data.write_text("\n".join(lines) + "\n", "utf-8")
        settings = {"epochs": 5, "learning_rate": 0.05}
        outcome = run_job(Job("classification", str(data), "binary_cross_entropy", 0, settings))
    accuracy = outcome.scores["accuracy"]
    if accuracy < 0.95:
        raise RuntimeError(f"a task that is learned elsewhere ended at accuracy {accuracy:.2f}")
    return f"a model learned made-up texts (accuracy {accuracy:.2f})"
