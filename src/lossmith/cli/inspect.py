"""``lossmith inspect``: what a file is, which families fit, what would be wrong with it."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table
from rich.text import Text

from lossmith.cli.show import output, print_json
from lossmith.tasks import TASK_FAMILIES

if TYPE_CHECKING:
    from lossmith.tasks.inspection import Fit, Inspection

NOTHING_FITS = 3


def inspect(
    data: Annotated[str, typer.Argument(metavar="DATA", help='A file or a folder, or "embedded".')],
    family: Annotated[
        str | None, typer.Option(help=f"Only this one of {', '.join(TASK_FAMILIES)}.")
    ] = None,
    roles: Annotated[
        list[str] | None, typer.Option("--set", help="A column's role: label=stars.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="The findings as JSON.")] = False,
) -> None:
    """Say what data is, which families and losses fit it, and what would be wrong with it.

    Nothing is trained. Ends with the command that compares losses on it.
    """
    from lossmith.compare.plan import read_setting
    from lossmith.core.words import did_you_mean
    from lossmith.tasks.inspection import look

    if family is not None and family not in TASK_FAMILIES:
        raise typer.BadParameter(
            f"there is no task {family!r}.{did_you_mean(family, TASK_FAMILIES)}",
            param_hint="--family",
        )
    given = {name: str(value) for name, value in map(read_setting, roles or ())}
    found = look(data, family, given)
    if as_json:
        print_json(asdict(found))
    else:
        _print(found)
    if not found.fits and found.others:
        raise typer.Exit(NOTHING_FITS)


def _print(found: Inspection) -> None:
    console = output()
    rows = "" if found.rows is None else f", {found.rows:,} rows"
    size = f", {found.size / 1e6:,.1f} MB" if found.size else ""
    console.print(Text(f"{found.data}: {found.format}{rows}{size}"), soft_wrap=True)
    for note in found.notes:
        console.print(Text(note), soft_wrap=True)
    if found.columns:
        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
        examples = [f"row {i + 1}" for i in range(len(found.examples))]
        for title in ("column", "holds", "missing", *examples):
            table.add_column(title, overflow="ellipsis", no_wrap=True, max_width=40)
        for one in found.columns:
            values = [Text(row[one.name]) for row in found.examples]
            missing = f"{one.missing:,}" if one.missing else ""
            table.add_row(Text(one.name), one.kind, missing, *values)
        console.print()
        console.print(table)
    for fit in found.fits:
        console.print()
        for line in _lines(fit):
            console.print(Text(line), soft_wrap=True)
    if found.others:
        console.print()
        console.print(Text("Families that cannot read it:"))
        for family, why in found.others.items():
            console.print(Text(f"  {family}: {why}"), soft_wrap=True)


def _lines(fit: Fit) -> list[str]:
    rows = ", ".join(f"{part} {count:,}" for part, count in fit.rows.items())
    wrong = [f"  ! {fault}" for fault in fit.faults] or ["  nothing wrong was found"]
    return [
        f"{fit.family}: {rows}",
        *(f"  {note}" for note in fit.notes),
        *wrong,
        f"  losses that fit: {', '.join(fit.losses)}",
        f"  {fit.command}",
    ]
