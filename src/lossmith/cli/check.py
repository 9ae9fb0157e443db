"""``lossmith check``: what is wrong with a loss function, before it costs a training run."""

from __future__ import annotations

import contextlib
import json
import shlex
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

if TYPE_CHECKING:
    from lossmith.check import Report

BROKEN, USAGE, INTERRUPTED = 1, 2, 130  # exit codes
HOW = "How it is checked"
OUTPUT = "What comes out"
Progress = Callable[[str, int, int], None]


def check(
    context: typer.Context,
    target: Annotated[
        str | None,
        typer.Argument(
            metavar="TARGET",
            help="file.py:Name, package.module:Name, or a loss of ours such as info_nce.",
        ),
    ] = None,
    family: Annotated[
        str | None, typer.Option(help="classification, ranking, ...", rich_help_panel=HOW)
    ] = None,
    inputs: Annotated[
        str | None,
        typer.Option(help="What it is called with: logits+class, ...", rich_help_panel=HOW),
    ] = None,
    args: Annotated[
        str | None,
        typer.Option(help='Arguments it needs or knobs to set: "margin=0.5".', rich_help_panel=HOW),
    ] = None,
    laws: Annotated[
        str | None, typer.Option(help="Only these, with commas.", rich_help_panel=HOW)
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the examples.", rich_help_panel=HOW)] = 0,
    seconds: Annotated[
        float, typer.Option(help="Time that it may take.", min=0.1, rich_help_panel=HOW)
    ] = 20.0,
    as_json: Annotated[
        bool, typer.Option("--json", help="JSON on stdout.", rich_help_panel=OUTPUT)
    ] = False,
    html: Annotated[
        Path | None, typer.Option(help="Write one offline page.", rich_help_panel=OUTPUT)
    ] = None,
    quiet: Annotated[
        bool,
        typer.Option(
            "--quiet", "-q", help="No progress; only what is broken.", rich_help_panel=OUTPUT
        ),
    ] = False,
    show_laws: Annotated[
        bool, typer.Option("--list", help="List the laws and leave.", rich_help_panel=OUTPUT)
    ] = False,
) -> None:
    """Tell what is wrong with a loss function: yours, a library's, or ours.

    Each law is tried on small batches. Exit code 0: all held. 1: some law is broken. stdout is
    the result, stderr the progress.

    lossmith check my_losses.py:MyLoss --inputs logits+class --args "margin=0.5"
    """
    if show_laws:
        _list_laws(as_json)
        return
    if target is None:
        raise typer.BadParameter("say which loss to check.", param_hint="TARGET")
    _check_family(family)
    asked: dict[str, Any] = {"family": family, "inputs": inputs, "seed": seed, "seconds": seconds}
    asked |= {"args": _read_args(args), "laws": _read_laws(laws)}
    _check_inputs(inputs)
    report, interrupted = _check(target, quiet, asked)
    command = shlex.join(["lossmith", *context.obj])
    if html is not None:
        _write_page(html, report, command)
    _print(report, as_json, quiet)
    if interrupted:
        print("Interrupted: the laws that were not reached are untested.", file=sys.stderr)
        raise typer.Exit(INTERRUPTED)
    if not report.ok:
        raise typer.Exit(BROKEN)


def _check_family(family: str | None) -> None:
    from lossmith.core.words import FAMILIES, did_you_mean

    if family is not None and family not in FAMILIES:
        raise typer.BadParameter(
            f"there is no family {family!r}.{did_you_mean(family, FAMILIES)}",
            param_hint="--family",
        )


def _read_args(text: str | None) -> dict[str, object]:
    from lossmith.core.call import parse_call

    if text is None:
        return {}
    try:
        return parse_call(f"loss({text})")[1]
    except ValueError:
        raise typer.BadParameter(
            f"{text!r} does not read as name=value, name=value, ... with plain values.",
            param_hint="--args",
        ) from None


def _check_inputs(text: str | None) -> None:
    from lossmith.check.signature import parse_inputs

    if text is not None:
        try:
            parse_inputs(text)
        except ValueError as error:
            raise typer.BadParameter(str(error), param_hint="--inputs") from None


def _read_laws(text: str | None) -> list[str] | None:
    from lossmith.check.laws import laws
    from lossmith.core.words import did_you_mean

    if text is None:
        return None
    asked = [word.strip() for word in text.split(",") if word.strip()]
    known = laws()
    for word in asked:
        if word not in known:
            raise typer.BadParameter(
                f"there is no law {word!r}.{did_you_mean(word, known)}", param_hint="--laws"
            )
    return asked


def _check(target: str, quiet: bool, asked: dict[str, Any]) -> tuple[Report, bool]:
    """What was found, in a child process that may hang or die; whether Ctrl-C cut it short."""
    from lossmith.check import check_loss
    from lossmith.check.report import Interrupted

    try:
        with _progress(quiet) as show:
            return check_loss(target, on_law=show, **asked), False
    except Interrupted as stop:
        return stop.report, True
    except ValueError as error:
        # Plainly: a box would break the lines of the user's own traceback.
        print(f"Error: {error}", file=sys.stderr)
        raise typer.Exit(USAGE) from None


def _list_laws(as_json: bool) -> None:
    from lossmith.check.laws import laws
    from lossmith.cli.check_report import law_table

    rows = [{"law": law.name, "why": law.why, "how": law.how} for law in laws().values()]
    if as_json:
        print(json.dumps(rows, indent=2))
    else:
        _console().print(law_table(rows))


def _console() -> Console:
    """stdout; in a pipe or a file, a width that suits a reader there."""
    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=120)


@contextlib.contextmanager
def _progress(quiet: bool) -> Iterator[Progress | None]:
    """A bar on stderr that names the law at work; nothing where nobody watches."""
    console = Console(stderr=True)
    if quiet or not console.is_terminal:
        yield None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
    from rich.progress import Progress as Bars

    columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}"))
    with Bars(*columns, console=console, transient=True) as bars:
        task = bars.add_task("starting", total=None)

        def show(law: str, done: int, total: int) -> None:
            bars.update(task, description=law, completed=done, total=total)

        yield show


def _write_page(path: Path, report: Report, command: str) -> None:
    from lossmith.cli.check_report import html

    try:
        path.write_text(html(report, command), "utf-8")
    except OSError as error:
        raise typer.BadParameter(f"{path}: {error.strerror}.", param_hint="--html") from None


def _print(report: Report, as_json: bool, quiet: bool) -> None:
    if as_json:
        print(json.dumps(report.to_dict(), indent=2))
        return
    from lossmith.cli.check_report import print_report

    print_report(_console(), report, every_law=not quiet)
