"""``lossmith predict`` and ``lossmith evaluate``: what a model folder is for."""

from __future__ import annotations

import contextlib
import csv
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Annotated, Any

import typer
from rich.console import Console
from rich.text import Text

from lossmith.cli.options import ON_A_DEVICE
from lossmith.cli.show import output, print_json

FORMATS = ("jsonl", "csv")


def predict(
    folder: Annotated[str, typer.Argument(metavar="DIR", help="What lossmith train made.")],
    source: Annotated[
        str,
        typer.Argument(
            metavar="INPUT", help="A file as in training, labels not needed; -: lines of stdin."
        ),
    ],
    out: Annotated[
        str | None, typer.Option(help="A file for the answers; default: stdout.")
    ] = None,
    top: Annotated[int | None, typer.Option(help="How many answers to each input.", min=1)] = None,
    form: Annotated[
        str | None,
        typer.Option("--format", help="jsonl or csv; default: the ending of --out, or jsonl."),
    ] = None,
    device: Annotated[str, typer.Option(help=ON_A_DEVICE)] = "cpu",
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")] = False,
) -> None:
    """Let a trained model answer: a line for each input, in the order of the inputs.

    lossmith predict reviews-model new.csv --out answers.csv

    echo "a fine film" | lossmith predict reviews-model -
    """
    if form is None:
        form = "csv" if out is not None and out.lower().endswith(".csv") else "jsonl"
    if form not in FORMATS:
        raise typer.BadParameter(
            f"{form!r}; expected one of {', '.join(FORMATS)}.", param_hint="--format"
        )
    from lossmith.data.progress import track
    from lossmith.training.doctor import need_packages

    need_packages("predicting")
    from lossmith.training.folder import code_changes, load_model
    from lossmith.training.judge import answers

    try:
        kept = load_model(folder, device)
        _warn(code_changes(kept))
        found = answers(kept, source, top=top)
        show = False if quiet or (out is None and sys.stdout.isatty()) else None
        with _written(out) as file:
            write = _Csv(file).write if form == "csv" else _lines_to(file)
            for records in track(found, "Predicting", show=show):
                write(records)
                file.flush()
    except KeyboardInterrupt:
        raise typer.Exit(130) from None
    except BrokenPipeError:  # the reader has seen enough; what is still in the buffer goes nowhere
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def evaluate(
    folder: Annotated[str, typer.Argument(metavar="DIR", help="What lossmith train made.")],
    data: Annotated[
        str, typer.Argument(metavar="DATA", help="A labelled file, or a folder with a test part.")
    ],
    metrics: Annotated[
        str | None, typer.Option(help="Which: accuracy,log_loss; default: those of training.")
    ] = None,
    device: Annotated[str, typer.Option(help=ON_A_DEVICE)] = "cpu",
    as_json: Annotated[bool, typer.Option("--json", help="Everything as JSON, on stdout.")] = False,
) -> None:
    """Measure a trained model on labelled data.

    Given the data of its training, it scores the part that was held out for the test and no other.
    """
    from lossmith.training.doctor import need_packages

    need_packages("evaluating")
    from lossmith.training.folder import load_model
    from lossmith.training.judge import evaluate as judge

    console = Console(stderr=True, quiet=as_json, highlight=False)
    try:
        result = judge(load_model(folder, device), data, metrics)
    except KeyboardInterrupt:
        raise typer.Exit(130) from None
    _warn(result["warnings"])
    if as_json:
        print_json(result)
        return
    for note in (result["scored"], *result["notes"]):
        console.print(Text(note, style="dim"), soft_wrap=True)
    shown = output()
    for name, value in result["metrics"].items():
        shown.print(
            Text(f"{name:<24}{'none' if value is None else f'{value:.4f}'}"), soft_wrap=True
        )


def _warn(sentences: list[str]) -> None:
    console = Console(stderr=True, highlight=False)
    for sentence in sentences:
        console.print(Text(f"warning: {sentence}", style="yellow"), soft_wrap=True)


@contextlib.contextmanager
def _written(out: str | None) -> Iterator[IO[str]]:
    """stdout, or a file that appears under its name when it is whole."""
    if out is None:
        yield sys.stdout
        return
    from lossmith.training.job import RequestError

    path = Path(out)
    unfinished = path.with_name(f".unfinished-{path.name}")
    try:
        file = unfinished.open("w", encoding="utf-8", newline="")
    except OSError as error:
        raise RequestError(f"{out} cannot be written ({error.strerror}).") from None
    try:
        with file:
            yield file
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


def _lines_to(file: IO[str]) -> Any:
    def write(records: list[dict[str, Any]]) -> None:
        for record in records:
            file.write(json.dumps(record, ensure_ascii=False) + "\n")

    return write


class _Csv:
    """Rows under a header: a list is joined by |, numbers by name become columns."""

    def __init__(self, file: IO[str]) -> None:
        self.writer, self.header = csv.writer(file, lineterminator="\n"), False

    def write(self, records: list[dict[str, Any]]) -> None:
        for record in records:
            flat = dict(_flat(record))
            if not self.header:
                self.writer.writerow(flat)
                self.header = True
            self.writer.writerow(flat.values())


def _flat(record: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    for key, value in record.items():
        if isinstance(value, dict):
            yield from ((f"{key}: {name}", one) for name, one in value.items())
        elif isinstance(value, list):
            yield key, "|".join(map(str, value))
        else:
            yield key, value
