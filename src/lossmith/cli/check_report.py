"""What a check found, for the terminal and as one offline HTML page."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from lossmith.check import Finding, Report

TEMPLATES = Path(__file__).parent / "templates"
STYLES = {"held": "green", "broken": "bold red", "untested": "yellow", "not applicable": "dim"}
MARKS = {"held": "✓", "broken": "✗", "untested": "?", "not applicable": "-"}


def with_status(report: Report, status: str) -> list[Finding]:
    """The findings of one kind, in the order of the laws."""
    return [finding for finding in report.findings if finding.status == status]


def verdict(report: Report) -> str:
    """The one line that says how it went.

    It counts the laws that could be tested: what does not apply is no merit.
    """
    broken, held = with_status(report, "broken"), with_status(report, "held")
    untested = with_status(report, "untested")
    tested = len(broken) + len(held)
    if broken:
        text = f"{len(broken)} of {tested} laws {'is' if len(broken) == 1 else 'are'} broken: "
        text += ", ".join(finding.law for finding in broken) + "."
    else:
        text = f"All {tested} laws hold." if tested else "No law was tested."
    if untested:
        text += f" {len(untested)} could not be tested."
    return text


def facts(report: Report) -> Iterator[tuple[str, str]]:
    """How the check was made, enough to repeat it."""
    yield "family", report.family
    yield "inputs", report.inputs
    yield "seed", str(report.seed)
    yield "time", f"{report.seconds:.1f} s"


def print_report(console: Console, report: Report, *, every_law: bool = True) -> None:
    """What held in short, what is broken in full, and the verdict last."""
    console.print(Text(report.loss, style="bold"), soft_wrap=True)
    console.print(Text(" · ".join(f"{k} {v}" for k, v in facts(report) if v), style="dim"))
    for note in report.notes:
        console.print(Text(note, style="dim"))
    if every_law:
        console.print()
        console.print(_in_short(report))
    for finding in with_status(report, "broken"):
        console.print()
        console.print(_in_full(finding))
    console.print()
    style = "bold red" if with_status(report, "broken") else "bold green"
    console.print(Text(verdict(report), style=style), soft_wrap=not console.is_terminal)


def _in_short(report: Report) -> Table:
    """The names of what held; what was not tried, by reason."""
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for status, reasons in by_reason(report).items():
        title = Text(f"{MARKS[status]} {status}", style=STYLES[status])
        for reason, laws in reasons.items():
            line = Text(", ".join(laws), style="dim" if status == "not applicable" else "")
            if reason:
                line.append(f": {reason}", style="dim")
            table.add_row(title, line)
            title = Text()
    return table


def by_reason(report: Report) -> dict[str, dict[str, list[str]]]:
    """For each status but broken: the reasons given, and the laws of each."""
    groups: dict[str, dict[str, list[str]]] = {}
    for status in ("held", "not applicable", "untested"):
        for finding in with_status(report, status):
            reason = "" if status == "held" else finding.detail
            groups.setdefault(status, {}).setdefault(reason, []).append(finding.law)
    return groups


def _in_full(finding: Finding) -> RenderableType:
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True, style="dim")
    table.add_column(overflow="fold")
    for key, value in _rows(finding):
        table.add_row(key, Text(value))
    title = Rule(Text(f"✗ {finding.law}", style="bold red"), align="left", style="red")
    return Group(title, Padding(table, (0, 0, 0, 2)))


def _rows(finding: Finding) -> Iterator[tuple[str, str]]:
    yield "what", finding.detail
    for key, value in finding.example.items():
        yield f"  {key}", value
    yield "expected", finding.expected
    yield "got", finding.got
    yield "why", finding.why
    yield "mend", finding.hint


def html(report: Report, command: str) -> str:
    """The page: no script, nothing loaded from anywhere."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("check.html.j2").render(
        report=report,
        verdict=verdict(report),
        facts=list(facts(report)),
        groups={status: with_status(report, status) for status in STYLES},
        command=command,
    )


def law_table(laws: Sequence[Mapping[str, str]]) -> Table:
    """Every law: what is tried, and what it means for training."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 1, 0))
    for title in ("law", "why it matters", "how it is tested"):
        table.add_column(title, overflow="fold")
    for law in laws:
        table.add_row(Text(law["law"], style="bold"), Text(law["why"]), Text(law["how"]))
    return table
