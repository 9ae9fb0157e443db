"""``lossmith doctor``: what this installation can do, and what to do where it cannot."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from lossmith.cli.show import output, print_json


def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="The findings as JSON.")] = False,
) -> None:
    """Look at versions, devices and folders, and train a small model on made-up data.

    Exits with 1 if something is missing or does not work.
    """
    from lossmith.training.doctor import examine

    found = []
    console, waiting = output(), Console(stderr=True)
    with waiting.status("Looking"):
        for finding in examine():
            found.append(finding)
            if not as_json:
                mark = Text("ok  ", style="green") if finding.ok else Text("FAIL", style="red")
                line = Text.assemble(mark, f"  {finding.name:<12}{finding.detail}")
                console.print(line.append(f"  {finding.fix}" if finding.fix else ""))
    if as_json:
        print_json([asdict(finding) for finding in found])
    if not all(finding.ok for finding in found):
        raise typer.Exit(1)
