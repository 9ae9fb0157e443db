"""What several verbs print: a report in the terminal, and values as JSON."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from lossmith.compare.report import Report

STYLES = {"better": "green", "worse": "red"}


def output() -> Console:
    """stdout; in a pipe or a file, lines are as long as their content."""
    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=200)


def print_json(values: object) -> None:
    """Values as JSON, one document on stdout."""
    print(json.dumps(values, indent=1, default=str, ensure_ascii=False))


def print_report(report: Report) -> None:
    """The verdict, the table of the deciding metric, the signature and where the page is."""
    console = output()
    # A terminal breaks lines between words; a reader of a pipe wants the sentence whole.
    console.print(Text(report.verdict), soft_wrap=not console.is_terminal)
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("loss", overflow="fold")
    columns = {"value": report.plan.metric}
    if report.comparisons:
        columns |= {
            "difference": "difference",
            "interval": "95 % interval",
            "p": "Holm p",
            "wins": "better in",
            "verdict": "verdict",
        }
    for key, title in columns.items():
        table.add_column(title, justify="left" if key == "verdict" else "right", no_wrap=True)
    for row in report.rows():
        cells = [Text(row[key], style=STYLES.get(row[key], "")) for key in columns]
        table.add_row(Text(row["arm"]), *cells)
    console.print()
    console.print(table)
    console.print()
    console.print(Text(report.signature, style="dim"), soft_wrap=True)
    console.print(Text(str(report.path)), soft_wrap=True)
