"""A kept model on other data: its answers to inputs, and its metrics on labelled data."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from lossmith.data.errors import DataError
from lossmith.tasks.reader import Question, Record
from lossmith.tasks.seen import digests
from lossmith.tasks.task import Problem
from lossmith.training.files import without_nan
from lossmith.training.folder import Kept, code_changes
from lossmith.training.job import RequestError


def answers(kept: Kept, source: str, *, top: int | None = None) -> Iterator[list[Record]]:
    """What the model says of each input, some at a time."""
    if top is not None and top < 1:
        raise RequestError(f"top={top}: expected how many answers to give, 1 or more.")
    yield from kept.reader.answers(kept.model, Question(source, kept.settings, kept.feed, top))


def evaluate(kept: Kept, data: str, metrics: str | None = None) -> dict[str, Any]:
    """The metrics of the model on labelled data, and a sentence on what was scored.

    Data that it was trained on is told by its name and content, and only the part that training
    held out is scored.
    """
    asked = (
        kept.settings if metrics is None else {**kept.settings, "metric": "", "metrics": metrics}
    )
    try:
        wanted = kept.task.metrics(asked)
    except ValueError as error:
        raise RequestError(str(error)) from error
    problem = _trained_on(kept, data)
    if problem is not None:
        scored = f"The test part of the data that it was trained on ({problem.description.split})."
    else:
        problem = kept.reader.labelled(data, kept.settings)
        scored = f"All of {problem.description.name}."
    seen = _seen(kept, problem)
    values = problem.evaluate(kept.model, "test", wanted)
    plain: dict[str, Any] = without_nan(
        {
            "model": str(kept.folder),
            "data": data,
            "rows": problem.description.rows["test"],
            "scored": scored,
            "seen_in_training": seen,
            "warnings": [*code_changes(kept), *_on_seen(seen, problem)],
            "notes": list(problem.description.notes),
            "metrics": values,
        }
    )
    return plain


def _seen(kept: Kept, problem: Problem) -> dict[str, int] | None:
    """How many inputs read the same as those trained on, and as those that chose the epoch.

    None where a folder does not say.
    """
    if not kept.seen:
        return None
    scored = digests(problem.inputs_of("test"))
    parts = [part for part in ("train", "valid") if part in kept.seen]
    return {part: int(torch.isin(scored, kept.seen[part]).sum()) for part in parts}


def _on_seen(seen: Mapping[str, int] | None, problem: Problem) -> Iterator[str]:
    rows = problem.description.rows["test"]
    told = {"train": "of the training", "valid": "that chose the epoch in training"}
    for part, count in (seen or {}).items():
        if count:
            yield (
                f"{count:,} of {rows:,} rows read the same to the model as rows {told[part]}: on "
                "these the numbers say nothing of how it does on new data."
            )


def _trained_on(kept: Kept, data: str) -> Problem | None:
    """The problem of the training, if this is its data: by name first, which costs nothing."""
    before = str(kept.config["data"])
    if Path(data).name != Path(before).name:
        return None
    try:
        problem = kept.task.problem(data, kept.settings)
    except ValueError:  # it cannot be trained on, so it was not
        if data == "embedded":
            raise
        return None
    if problem.description.fingerprint == kept.config["data_fingerprint"]:
        return problem
    if data == "embedded":
        raise DataError(
            "the embedded data of this Python is not what the model was trained on",
            expected=f"fingerprint {kept.config['data_fingerprint']}",
            fix=f"Use Python {kept.config['versions']['python']}, or train again.",
        )
    return None
