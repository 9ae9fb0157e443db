"""``lossmith losses``: the catalogue, read from the registry."""

from __future__ import annotations

import inspect
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from lossmith.cli.show import print_json

if TYPE_CHECKING:
    from lossmith.core.spec import Spec, Tune


def losses(
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="One loss, in full.")] = None,
    family: Annotated[
        str | None, typer.Option("--for", help="Only those that fit this family's task.")
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="The metadata as JSON, on stdout.")
    ] = False,
) -> None:
    """List the losses, or explain one."""
    if family is not None:
        _check_family(family)
    from lossmith.core.spec import find

    specs, peers = _fitting(family)
    if name is not None:
        try:
            specs = (find(name),)
        except ValueError as error:
            raise typer.BadParameter(str(error), param_hint="NAME") from error
    if as_json:
        print_json([_metadata(spec) for spec in specs])
        return
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=120)
    if name is not None:
        _explain(console, specs[0])
    else:
        _list(console, specs, peers)


def _check_family(family: str) -> None:
    from lossmith.core.words import FAMILIES, did_you_mean

    if family not in FAMILIES:
        raise typer.BadParameter(
            f"there is no family {family!r}.{did_you_mean(family, FAMILIES)}", param_hint="--for"
        )


def _fitting(family: str | None) -> tuple[tuple[Spec, ...], tuple[str, ...]]:
    """The objectives that a family's task can train with, and its peers."""
    from lossmith.core.spec import objectives

    if family is None:
        return objectives(), ()
    from lossmith.tasks.registry import load_task

    task = load_task(family)
    return task.fitting(), task.peers


def _metadata(spec: Spec) -> dict[str, Any]:
    """What the registry knows of one loss, as plain values."""
    knobs = {
        name: {
            "default": None if parameter.default is parameter.empty else parameter.default,
            "required": parameter.default is parameter.empty,
            "choices": list(spec.choices.get(name, ())),
            "search": _range(spec.tune[name]) if name in spec.tune else None,
        }
        for name, parameter in spec.knobs.items()
    }
    return {
        "name": spec.name,
        "module": spec.module_name,
        "family": spec.family,
        "summary": spec.summary,
        "inputs": list(spec.inputs),
        "mean_divides_by": spec.unit,
        "serves": spec.serves,
        "limit": spec.limit,
        "invariances": sorted(spec.invariances),
        "cost": spec.cost,
        "knobs": knobs,
        "aliases": list(spec.aliases),
        "source": spec.paper,
    }


def _list(console: Console, specs: Sequence[Spec], peers: Sequence[str]) -> None:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for title in ("loss", "family", "what it pushes", "serves"):
        table.add_column(title, overflow="fold")
    for spec in specs:
        table.add_row(Text(spec.name), spec.family, Text(spec.summary), Text(spec.serves))
    console.print(table)
    if peers:
        console.print(Text(f"\nAlso compared with: {', '.join(peers)}"))
    console.print(Text("\nlossmith losses NAME explains one."))


def _explain(console: Console, spec: Spec) -> None:
    console.print(Text(f"{spec.name}  ({spec.family}; lm.{spec.module_name})", style="bold"))
    for paragraph in _paragraphs(spec):
        console.print(Text(paragraph))
        console.print()
    if spec.knobs:
        console.print(_knob_table(spec))
        console.print()
    facts = {
        "takes": " or ".join(spec.inputs),
        "mean divides by": spec.unit,
        "work grows as": f"{spec.cost} at most, in the rows or inside one",
        "serves": spec.serves,
        "limit case": spec.limit,
        "also called": ", ".join(spec.aliases),
        "source": spec.paper,
    }
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for key, value in facts.items():
        if value:
            table.add_row(Text(key), Text(value))
    console.print(table)


def _paragraphs(spec: Spec) -> list[str]:
    """The docstring as a terminal shows it: no example, no markup, one line per paragraph."""
    blocks = (inspect.getdoc(spec.function) or "").split("\n\n")
    kept = [block for block in blocks if not block.lstrip().startswith((">>>", "Source:"))]
    plain = [re.sub(r":\w+:`~?([^`]+)`|``([^`]+)``", r"\1\2", block) for block in kept]
    return [" ".join(block.split()) for block in plain if block.strip()]


def _knob_table(spec: Spec) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for title in ("knob", "default", "choices or range searched"):
        table.add_column(title, overflow="fold")
    for knob, parameter in spec.knobs.items():
        default = "required" if parameter.default is parameter.empty else repr(parameter.default)
        listed = ", ".join(map(repr, spec.choices.get(knob, ())))
        tune = spec.tune.get(knob)
        table.add_row(knob, Text(default), Text(listed or (_range(tune) if tune else "")))
    return table


def _range(tune: Tune) -> str:
    if tune.choices:
        return ", ".join(map(repr, tune.choices))
    return f"{tune.low:g} to {tune.high:g}{', log scale' if tune.log else ''}"
