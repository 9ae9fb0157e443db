"""The options that several verbs share: the settings of a training and the columns of the data."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from lossmith.tasks import TASK_FAMILIES

COLUMNS = "Columns of your data"
SETTINGS = "Training"
RUNNING = "Running"

Model = Annotated[
    str | None,
    typer.Option(help="Reference model, my.py:build, or hf:FOLDER.", rich_help_panel=SETTINGS),
]
Epochs = Annotated[int | None, typer.Option(help="Passes over the data.", rich_help_panel=SETTINGS)]
BatchSize = Annotated[int | None, typer.Option(help="Examples per step.", rich_help_panel=SETTINGS)]
LearningRate = Annotated[float | None, typer.Option(help="Step size.", rich_help_panel=SETTINGS)]
ON_A_DEVICE = (
    "Where the model computes: cpu (default), cuda, cuda:N, mps or auto. Tested for tensors that "
    "are on the wrong one; not on a GPU."
)
Device = Annotated[str | None, typer.Option(help=ON_A_DEVICE, rich_help_panel=SETTINGS)]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", help="Any other setting, key=value.", rich_help_panel=SETTINGS),
]
TextColumn = Annotated[
    str | None, typer.Option(help="Column with the text.", rich_help_panel=COLUMNS)
]
Label = Annotated[str | None, typer.Option(help="Column with the label.", rich_help_panel=COLUMNS)]
Target = Annotated[
    str | None,
    typer.Option(help="Column with the number or target text.", rich_help_panel=COLUMNS),
]
Features = Annotated[
    str | None, typer.Option(help="Columns with features: a,b,c.", rich_help_panel=COLUMNS)
]
Query = Annotated[str | None, typer.Option(help="Column with the query.", rich_help_panel=COLUMNS)]
Positive = Annotated[
    str | None,
    typer.Option(help="Column with the relevant document.", rich_help_panel=COLUMNS),
]
Negative = Annotated[
    str | None,
    typer.Option(help="Columns with documents that are not.", rich_help_panel=COLUMNS),
]
User = Annotated[str | None, typer.Option(help="Column with the user.", rich_help_panel=COLUMNS)]
Item = Annotated[str | None, typer.Option(help="Column with the item.", rich_help_panel=COLUMNS)]
Source = Annotated[
    str | None,
    typer.Option(help="Column, or ending, of the source text.", rich_help_panel=COLUMNS),
]
Keywords = Annotated[
    str | None, typer.Option(help="Column with the keywords.", rich_help_panel=COLUMNS)
]
Glossary = Annotated[
    str | None,
    typer.Option(help="File of terms to be translated so.", rich_help_panel=COLUMNS),
]


def given_settings(context: typer.Context) -> dict[str, Any]:
    """The settings that were asked for, by options of their own or by ``--set key=value``.

    An option that the help lists among the columns or the settings of a training is a setting of
    that name.
    """
    from lossmith.compare.plan import read_setting

    given = {
        option.name: value
        for option in context.command.params
        if getattr(option, "rich_help_panel", None) in (COLUMNS, SETTINGS)
        and option.name not in (None, "settings")
        and (value := context.params[option.name]) is not None
    }
    return given | dict(map(read_setting, context.params["settings"] or ()))


def check_family(family: str) -> None:
    """Raise, with a suggestion, unless the family has a task."""
    from lossmith.core.words import did_you_mean

    if family not in TASK_FAMILIES:
        raise typer.BadParameter(
            f"there is no task {family!r}.{did_you_mean(family, TASK_FAMILIES)}",
            param_hint="FAMILY",
        )
