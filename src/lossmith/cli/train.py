"""``lossmith train``: one model under one loss, into a folder that predicts and evaluates."""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer
from rich.console import Console
from rich.text import Text

from lossmith.cli.options import (
    RUNNING,
    SETTINGS,
    BatchSize,
    Device,
    Epochs,
    Features,
    Glossary,
    Item,
    Keywords,
    Label,
    LearningRate,
    Model,
    Negative,
    Positive,
    Query,
    Settings,
    Source,
    Target,
    TextColumn,
    User,
    check_family,
    given_settings,
)
from lossmith.cli.show import output, print_json
from lossmith.tasks import TASK_FAMILIES
from lossmith.training.doctor import need_packages
from lossmith.training.launch import PARTED, follow, launch, launched, processors

if TYPE_CHECKING:
    from lossmith.training.fit import Fitted


def train(
    context: typer.Context,
    family: Annotated[str, typer.Argument(metavar="FAMILY", help=f"{', '.join(TASK_FAMILIES)}.")],
    data: Annotated[str, typer.Argument(metavar="DATA", help='A file or a folder, or "embedded".')],
    loss: Annotated[str, typer.Option(help="What to train for: 'warp(margin=0.5)'.")],
    out: Annotated[str, typer.Option(help="The model folder.")],
    metric: Annotated[
        str | None,
        typer.Option(help="What chooses the epoch: precision@10.", rich_help_panel=SETTINGS),
    ] = None,
    seed: Annotated[int, typer.Option(help="Of weights, batches and draws.", min=0)] = 0,
    model: Model = None,
    epochs: Epochs = None,
    batch_size: BatchSize = None,
    learning_rate: LearningRate = None,
    valid: Annotated[
        float | None,
        typer.Option(
            help="Share held out to choose the epoch; 0: train on it, keep the last epoch.",
            rich_help_panel=SETTINGS,
        ),
    ] = None,
    test: Annotated[
        float | None,
        typer.Option(help="Share held out for the test.", rich_help_panel=SETTINGS),
    ] = None,
    device: Device = None,
    settings: Settings = None,
    text: TextColumn = None,
    label: Label = None,
    target: Target = None,
    features: Features = None,
    query: Query = None,
    positive: Positive = None,
    negative: Negative = None,
    user: User = None,
    item: Item = None,
    source: Source = None,
    keywords: Keywords = None,
    glossary: Glossary = None,
    checkpoint_every: Annotated[
        float,
        typer.Option(
            help="Seconds between two checkpoints; 0: after every step.",
            min=0.0,
            rich_help_panel=RUNNING,
        ),
    ] = 60.0,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Start the folder over.", rich_help_panel=RUNNING)
    ] = False,
    processes: Annotated[
        int,
        typer.Option(
            help="Processes on this machine, each of which computes some rows of a batch; "
            "pays where the model is large.",
            min=1,
            rich_help_panel=RUNNING,
        ),
    ] = 1,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="No progress.", rich_help_panel=RUNNING)
    ] = False,
    as_json: Annotated[
        bool,
        typer.Option("--json", help="The metrics as JSON, on stdout.", rich_help_panel=RUNNING),
    ] = False,
) -> None:
    """Train a reference model under a loss; write weights, configuration, metrics and a card.

    With validation data the best epoch is kept, else the last. The same command again goes on
    where it was stopped, with the same result as if it had not been.

    lossmith train classification reviews.csv --loss hinge --out reviews-model

    lossmith predict reviews-model new.csv

    --processes 2 computes the rows of a batch in two processes, which pays where the model is
    large: a small one is faster alone. torchrun -m lossmith train ... does so on several machines.
    """
    check_family(family)
    given = given_settings(context)
    if launched():
        follow()
    elif processes > 1:
        _launch(context.obj, processes, threads=given.get("threads", 1))
    fitted = _fit(
        context.obj,
        (family, data, loss, seed, given),
        folder=out,
        quiet=quiet,
        fresh=fresh,
        checkpoint_every=checkpoint_every,
    )
    if as_json:
        print_json(
            {"folder": str(fitted.folder), "already_finished": fitted.already}
            | dict(fitted.metrics)
        )
    else:
        _print(fitted)


def _launch(arguments: list[str], count: int, threads: object) -> NoReturn:
    """Do it in several processes, the first of which says what there is to say."""
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise typer.BadParameter(
            "another launcher has started this process as one of several; leave --processes out, "
            "or leave the launcher out.",
            param_hint="--processes",
        )
    need_packages("training")
    each = threads if isinstance(threads, int) else 1  # what is no number, the processes refuse
    if count * each > processors():
        _say(
            f"warning: {count} processes of threads={each} wait for each other on "
            f"{processors()} processors."
        )
    end = launch([sys.executable, "-m", "lossmith", *arguments], count)
    if end.words:
        _say(end.words)
    if end.asked:
        _say(f"Interrupted. This goes on:\n  {_again(arguments)}")
    raise typer.Exit(end.code)


def _fit(
    arguments: list[str],
    asked: tuple[str, str, str, int, dict[str, Any]],
    *,
    folder: str,
    quiet: bool,
    **how: Any,
) -> Fitted:
    from lossmith.cli.train_progress import shown
    from lossmith.data.errors import DataError
    from lossmith.training.job import RequestError

    need_packages("training")
    first = os.environ.get("RANK", "0") == "0"
    try:
        from lossmith.training.distributed import PartedError
        from lossmith.training.fit import Stopped, fit, settle

        family, data, loss, seed, given = asked
        job = settle(family, data, loss, seed=seed, settings=given)
        with shown(quiet=quiet or not first) as watch:
            return fit(job, Path(folder), **watch, **how)
    except KeyboardInterrupt as stop:
        kept = "A checkpoint is written. " if isinstance(stop, Stopped) else ""
        _say(f"Interrupted. {kept}This goes on:\n  {_again(arguments)}")
        raise typer.Exit(130) from None
    except (DataError, RequestError):
        raise
    except PartedError as error:
        if not (first and launched()):  # the launcher knows which one it was
            _say(f"The training failed: {error} {error.__cause__}")
        raise typer.Exit(PARTED if launched() else 1) from None
    except (ValueError, ArithmeticError) as error:
        _say(f"The training failed: {error}")
        raise typer.Exit(1) from None


def _again(arguments: list[str]) -> str:
    launcher = ["lossmith"]
    if int(os.environ.get("WORLD_SIZE", "1")) > 1 and not launched():
        here = os.environ.get("LOCAL_WORLD_SIZE", "2")
        launcher = ["torchrun", "--nproc-per-node", here, "-m", "lossmith"]
    # --fresh would throw away what was just kept.
    return shlex.join([*launcher, *(word for word in arguments if word != "--fresh")])


def _say(text: str) -> None:
    Console(stderr=True, highlight=False).print(Text(text), soft_wrap=True)


def _print(fitted: Fitted) -> None:
    console, metrics = output(), fitted.metrics
    if fitted.already:
        console.print(
            Text(f"{fitted.folder} is finished already; --fresh trains it again."), soft_wrap=True
        )
    best = "best on validation data" if metrics["valid"] else "the last: no validation data"
    console.print(
        Text(f"epoch {metrics['chosen_epoch']} of {metrics['epochs_trained']} ({best})"),
        soft_wrap=True,
    )
    for part in ("valid", "test"):
        for name, value in metrics[part].items():
            shown_value = "none" if value is None else f"{value:.4f}"
            console.print(Text(f"{part:<6}{name:<24}{shown_value}"), soft_wrap=True)
    console.print(Text(str(fitted.folder)), soft_wrap=True)
