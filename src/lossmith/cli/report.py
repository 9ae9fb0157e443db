"""``lossmith report``: the report of a run folder, made anew from what is finished there."""

from __future__ import annotations

from typing import Annotated

import typer

from lossmith.cli.show import print_json, print_report


def report(
    folder: Annotated[str, typer.Argument(metavar="RUN", help="A run folder, such as runs/...")],
    as_json: Annotated[bool, typer.Option("--json", help="Everything as JSON, on stdout.")] = False,
) -> None:
    """Show the verdict of a comparison again and rewrite its report; nothing is trained.

    Works while the comparison is still running, on what is finished by then.
    """
    from lossmith.compare.revisit import read_report

    found = read_report(folder)
    if as_json:
        print_json(found.as_dict())
    else:
        print_report(found)
