"""The verbs in one application, and what each kind of trouble exits with."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated

import typer

import lossmith
from lossmith.cli.check import check
from lossmith.cli.compare import compare
from lossmith.cli.doctor import doctor
from lossmith.cli.inspect import inspect
from lossmith.cli.losses import losses
from lossmith.cli.predict import evaluate, predict
from lossmith.cli.report import report
from lossmith.cli.train import train
from lossmith.training.launch import launched

OK, USAGE, DATA = 0, 2, 3  # 1, failed runs, and 130, interrupted, are the command's

app = typer.Typer(
    name="lossmith",
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command()(check)
app.command()(compare)
app.command()(train)
app.command()(predict)
app.command()(evaluate)
app.command()(inspect)
app.command()(losses)
app.command()(report)
app.command()(doctor)


def _version(wanted: bool) -> None:
    if wanted:
        print(f"lossmith {lossmith.__version__}")
        raise typer.Exit()


@app.callback(invoke_without_command=True)
def lossmith_command(
    context: typer.Context,
    version: Annotated[
        bool,
        typer.Option(
            "--version", help="Print the version and leave.", callback=_version, is_eager=True
        ),
    ] = False,
) -> None:
    """Train for what you care about: compare training objectives on your own data."""
    if context.invoked_subcommand is None:
        print(context.get_help())


def run(arguments: Sequence[str]) -> int:
    """Run one command line and return its exit code; a user's mistake is a message."""
    with _one_voice(arguments):
        try:
            app(list(arguments), prog_name="lossmith", obj=list(arguments))
        except SystemExit as end:
            return end.code if isinstance(end.code, int) else OK
        except ValueError as error:
            return _mistake(error)
        return OK


@contextlib.contextmanager
def _one_voice(arguments: Sequence[str]) -> Iterator[None]:
    """Of the processes that train together the first alone talks; a defect of ours shows in all.

    They do the same and find the same mistakes; :meth:`Processes.agreed` sees to the others. A
    launcher of ours keeps what they say.
    """
    together = list(arguments[:1]) == ["train"] and int(os.environ.get("WORLD_SIZE", "1")) > 1
    if not together or launched() or os.environ.get("RANK", "0") == "0":
        yield
        return
    with contextlib.ExitStack() as quiet:
        nowhere = quiet.enter_context(Path(os.devnull).open("w"))
        quiet.enter_context(contextlib.redirect_stdout(nowhere))
        quiet.enter_context(contextlib.redirect_stderr(nowhere))
        yield


def _mistake(error: ValueError) -> int:
    """The exit code of an error of the user's; an error of ours goes on as it is."""
    from lossmith.data.errors import DataError
    from lossmith.training.job import RequestError

    code = DATA if isinstance(error, DataError) else USAGE
    if code == USAGE and not isinstance(error, RequestError):
        raise error
    print(f"Error: {error}", file=sys.stderr)
    return code
