"""The model folder: weights, what the model reads with, configuration, metrics and a card.

Weights are safetensors and everything else is JSON or text: nothing in a folder is run when it
is loaded. ``config.json`` is there from the first second and claims the folder; it lists the
other files, with their hashes, once all of them are written, which is what "finished" means.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import safetensors.torch
import torch
from torch import Tensor, nn

from lossmith.core.load import LoadError
from lossmith.core.own import digest_of, where
from lossmith.core.spec import Inputs
from lossmith.data.errors import DataError
from lossmith.tasks.place import CPU, find, moved
from lossmith.tasks.reader import Reader
from lossmith.tasks.registry import load_task
from lossmith.tasks.seen import digests
from lossmith.tasks.settings import COMMON
from lossmith.tasks.task import Problem, Task
from lossmith.training.files import write_whole
from lossmith.training.job import RequestError

SCHEMA = 1
CONFIG, WEIGHTS, METRICS, CARD = "config.json", "model.safetensors", "metrics.json", "README.md"
SEEN = "seen.safetensors"  # a hash of each input that was trained on, or that chose the epoch
CHECKPOINT = "checkpoint.pt"


@dataclass(frozen=True)
class Kept:
    """A model that was read from its folder, ready to answer."""

    folder: Path
    config: Mapping[str, Any]
    metrics: Mapping[str, Any]  # what metrics.json says
    task: Task
    settings: Mapping[str, Any]
    reader: Reader
    model: nn.Module
    seen: Mapping[str, Tensor]  # hashes of inputs, "train" and "valid"; of users there are none

    @property
    def feed(self) -> Inputs:
        """What the loss was fed with."""
        if "inputs" in self.config:
            return cast(Inputs, self.config["inputs"])
        return self.task.objective(self.config["loss"], self.config["settings"])[1]


def read_config(folder: Path) -> dict[str, Any] | None:
    """The configuration of a model folder, None where there is none; a foreign one raises."""
    path = folder / CONFIG
    try:
        values = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        return None
    except (ValueError, OSError) as error:
        raise DataError(
            f"cannot be read ({error})",
            path=path,
            expected="the configuration that lossmith train wrote",
            fix="Train again with --fresh, or take the folder from a copy.",
        ) from None
    schema = values.get("lossmith_schema") if isinstance(values, dict) else None
    if type(schema) is not int:
        raise DataError(
            "is of another tool: it has no lossmith_schema",
            path=path,
            expected="a folder that lossmith train made",
        )
    if schema > SCHEMA:
        made = values.get("versions", {}).get("lossmith", "a later one")
        raise DataError(
            f"has format {schema}, and this lossmith knows formats up to {SCHEMA}",
            path=path,
            expected=f"a folder of this version or an earlier one (it was made by {made})",
            fix="Upgrade: pip install --upgrade lossmith.",
        )
    return dict(values)


def write_config(folder: Path, config: Mapping[str, Any]) -> None:
    """Claim a folder for a training, or say that it is finished."""
    text = json.dumps({"lossmith_schema": SCHEMA, **config}, indent=1, ensure_ascii=False)
    write_whole(folder / CONFIG, (text + "\n").encode())


def write_model(
    folder: Path,
    problem: Problem,
    model: nn.Module,
    config: Mapping[str, Any],
    metrics: Mapping[str, Any],
    card: str,
) -> None:
    """Write everything, the configuration last."""
    state = moved(model.state_dict(), CPU)
    weights = {name: value.detach().contiguous() for name, value in state.items()}
    files = {
        **problem.reader().files(),
        WEIGHTS: safetensors.torch.save(weights, {"format": "pt"}),
        SEEN: safetensors.torch.save(_seen(problem)),
        METRICS: (json.dumps(metrics, indent=1) + "\n").encode(),
    }
    for name, content in files.items():
        write_whole(folder / name, content)
    # A card is there to be written in.
    write_whole(folder / CARD, card.encode())
    hashes = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    write_config(folder, {**config, "files": hashes})


def load_model(folder: str | Path, device: str = "cpu") -> Kept:
    """The model of a folder, on whichever device; where it was trained does not matter.

    One that is damaged, unfinished or foreign raises a DataError.
    """
    try:
        place = find(COMMON["device"].read("device", device))
    except ValueError as error:
        raise RequestError(str(error)) from None
    folder = Path(folder)
    config = read_config(folder) if folder.is_dir() else None
    if config is None:
        raise DataError(
            "no model folder" if folder.exists() else "no such folder",
            path=folder,
            expected="a folder that lossmith train made, with config.json in it",
            fix="lossmith train FAMILY DATA --loss LOSS --out DIR makes one.",
        )
    if "files" not in config:
        raise DataError(
            "the training in it has not finished",
            path=folder,
            expected="a trained model",
            fix="The same lossmith train command again goes on with it.",
        )
    files = {name: _content(folder / name, right) for name, right in config["files"].items()}
    try:
        task = load_task(config["family"])
        settings = task.resolve(config["settings"])
        reader = task.restore(files)
        model = reader.model(settings)
        model.load_state_dict(safetensors.torch.load(files[WEIGHTS]))
    except LoadError as error:
        raise DataError(
            f"its own code cannot be loaded ({error})",
            path=folder,
            expected=f"what it was trained with: {', '.join(config.get('code', {}))}",
            fix="Go to the folder where the training was started, or put the file where it was.",
        ) from None
    except (KeyError, TypeError, ValueError, RuntimeError, safetensors.SafetensorError) as error:
        raise DataError(
            f"its files do not belong together ({str(error).splitlines()[0]})",
            path=folder,
            expected=f"what lossmith {config['versions']['lossmith']} wrote",
            fix="Take it from a copy, or train again with --fresh.",
        ) from None
    model.to(place).eval()
    metrics = json.loads(files[METRICS])
    seen = safetensors.torch.load(files[SEEN]) if SEEN in files else {}
    return Kept(folder, config, metrics, task, settings, reader, model, seen)


def _seen(problem: Problem) -> dict[str, Tensor]:
    parts = ("train", "valid") if problem.has_valid else ("train",)
    found = {part: torch.unique(digests(problem.inputs_of(part))) for part in parts}
    return {part: hashes for part, hashes in found.items() if len(hashes)}


def code_changes(kept: Kept) -> list[str]:
    """A sentence on each thing of the user's that is not what the model was trained with."""
    found = []
    for text, before in kept.config.get("code", {}).items():
        try:
            now = digest_of(text)
        except ValueError as error:
            found.append(f"nothing says whether {text} is what it was trained with: {error}")
            continue
        if now != before:
            found.append(
                f"{where(text)} has changed since the training ({text}: {before} then, {now} now)."
            )
    return found


def clear(folder: Path) -> bool:
    """Remove what says that a training is there; False, and nothing done, if none is.

    The other files are overwritten by what comes; what the user put beside them stays.
    """
    if not (folder / CONFIG).exists():
        return False
    config = read_config(folder) or {}
    for name in [*config.get("files", {}), CHECKPOINT, CARD, CONFIG]:
        (folder / name).unlink(missing_ok=True)
    return True


def _content(path: Path, right: str) -> bytes:
    try:
        content = path.read_bytes()
    except OSError as error:
        problem = f"cannot be read ({error.strerror})"
    else:
        if hashlib.sha256(content).hexdigest() == right:
            return content
        problem = "is not what was written after training: it was changed or damaged"
    raise DataError(
        problem,
        path=path,
        expected="the file whose hash config.json has",
        fix="Take the folder from a copy, or train again with --fresh.",
    )
