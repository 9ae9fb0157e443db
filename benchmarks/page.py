"""The page: what the results say, a section for every row."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.case import FLOOR, Case, Size, is_ours, label
from benchmarks.plots import draw
from benchmarks.statistics import Spread, exponent, growing, ratio, spread
from benchmarks.store import Measurement, Store
from benchmarks.verdict import Check, checks, has_floor, ours, verdict

NOTES = Path(__file__).with_name("notes.md")

INTRO = """# Benchmarks

Written by `python -m benchmarks page` from [results.json](results.json); measured by
`python -m benchmarks`. A run is a forward and a backward pass in float32 unless the row says
otherwise. Contenders run in processes of their own, one run at a time, in rounds of shuffled
order. Times are medians with quartiles in brackets. Ratios are taken within rounds, so load on
the machine falls on both sides. Memory is the peak of a fresh process above its inputs, gradients
of the inputs included. The floor is the arithmetic that must be done and nothing else, measured in
the same rounds.

Everything here is of a CPU. There are no Triton kernels, and nothing is claimed for GPUs.
"""


def write_page(cases: Mapping[str, Case], store: Store, folder: Path) -> Path:
    """Write the page and its plots beside the results."""
    notes = read_notes(NOTES.read_text()) if NOTES.exists() else {}
    sections, summary = [], []
    for name, case in cases.items():
        measured = [one for one in store.measurements if one["case"] == name]
        measured.sort(key=lambda one: list(one["size"].values()))
        found = checks(case, measured)
        outcome = verdict(found) if measured else "not measured"
        summary.append(f"| [{name}](#{anchor(name)}) | {case.target} | {_worst(outcome, found)} |")
        if measured or name in notes:
            sections.append(_section(case, measured, found, notes.get(name, ""), folder))
    unknown = sorted(set(notes) - set(cases))
    if unknown:
        raise ValueError(f"{NOTES.name} has notes on {', '.join(unknown)}, which is no case.")
    table = "\n".join(["| row | target | result |", "| --- | --- | --- |", *summary])
    text = "\n".join([INTRO, _machines(store.measurements), table, "", *sections])
    page = folder / "README.md"
    folder.mkdir(parents=True, exist_ok=True)
    page.write_text(text.rstrip() + "\n")
    return page


def read_notes(text: str) -> dict[str, str]:
    """What was tried, by case: the text under each heading "## name".

    >>> read_notes("# Notes\\n## one\\nTried it.\\n## two\\n")
    {'one': 'Tried it.', 'two': ''}
    """
    pieces = re.split(r"^## (.*)$", text, flags=re.MULTILINE)[1:]
    return {
        name.strip(): body.strip() for name, body in zip(pieces[::2], pieces[1::2], strict=True)
    }


def anchor(heading: str) -> str:
    """The link target that Markdown gives a heading.

    >>> anchor("info_nce, B x d")
    'info_nce-b-x-d'
    """
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def _worst(outcome: str, found: Sequence[Check]) -> str:
    """The verdict with the bound that is furthest from being kept."""
    seen = [check for check in found if check.value is not None]
    if not seen:
        return outcome
    worst = max(seen, key=lambda check: (check.value or Spread(0, 0, 0, 0)).median / check.limit)
    assert worst.value is not None
    kept = sum(bool(check.met) for check in seen)
    others = f"; {kept} of {len(seen)} bounds met" if kept < len(seen) else ""
    return (
        f"**{outcome}**: {worst.what} {_number(worst.value.median)} "
        f"(at most {worst.limit:g}) at {worst.size}{others}"
    )


def _machines(measurements: Sequence[Measurement]) -> str:
    """Where and under which load it was measured."""
    lines = []
    kinds = {tuple(one["machine"].items()): one["machine"] for one in measurements}
    for key, machine in kinds.items():
        here = [one for one in measurements if tuple(one["machine"].items()) == key]
        loads = [value for one in here for value in one["load"]]
        threads = sorted({one["threads"] for one in here})
        lines.append(
            f"- {machine['processor']}, {machine['cores']} cores, {machine['system']}, Python "
            f"{machine['python']}, torch {machine['torch']}; "
            f"{' or '.join(map(str, threads))} threads; load average {min(loads):.1f} to "
            f"{max(loads):.1f}; {min(one['began'] for one in here)[:10]} to "
            f"{max(one['began'] for one in here)[:10]}"
        )
    return "\n".join(["Machines:", "", *lines, ""]) if lines else ""


def _section(
    case: Case,
    measured: Sequence[Measurement],
    found: Sequence[Check],
    note: str,
    folder: Path,
) -> str:
    lines = [f"## {case.name}", "", f"Target: {case.target}.", ""]
    if found:
        lines += ["| bound | size | at most | measured | |", "| --- | --- | --- | --- | --- |"]
        lines += [_check_row(check) for check in found]
        lines.append("")
    if note:
        lines += [note, ""]
    for measurement in measured:
        lines += _size_table(case, measurement)
    lines += _growth(case, measured, folder)
    return "\n".join(lines)


def _check_row(check: Check) -> str:
    shown = _spread(check.value) if check.value else check.missing
    word = {True: "met", False: "**missed**", None: "not seen"}[check.met]
    return f"| {check.what} | {check.size} | {check.limit:g} | {shown} | {word} |"


def _size_table(case: Case, measurement: Measurement) -> list[str]:
    """The contenders at one size."""
    contenders, size = measurement["contenders"], measurement["size"]
    mine = contenders.get(ours(case), {}).get("wall", [])
    rated = case.handled is not None
    head = ["", "wall s", "CPU s"]
    head += ["x floor"] if has_floor(measurement) else []
    head += ["x ours", "MiB"]
    head += [f"{case.unit}/s"] if rated else []
    head += [case.value] if case.value else []
    lines = [
        f"**{label(size)}** (load {measurement['load'][0]:.1f} to {measurement['load'][1]:.1f})",
        "",
        f"| {' | '.join(head)} |",
        "|" + " --- |" * len(head),
    ]
    for name, one in contenders.items():
        wall = spread(one["wall"])
        if wall is None:
            cells = [one["error"] or "nothing", *[""] * (len(head) - 2)]
        else:
            cpu = spread(one["cpu"])
            cells = [_spread(wall), _number(cpu.median) if cpu else ""]
            if has_floor(measurement):
                cells.append(_spread(ratio(one["wall"], contenders[FLOOR]["wall"])))
            cells.append(_spread(ratio(one["wall"], mine)))
            cells.append("" if one["memory"] is None else f"{one['memory']:.0f}")
            if rated:
                assert case.handled is not None
                cells.append(f"{case.handled(size) / wall.median:,.0f}")
            if case.value:
                cells.append("" if one["value"] is None else f"{one['value']:.4f}")
        named = f"**{name}**" if is_ours(name) else name
        lines.append(f"| {named} | {' | '.join(cells)} |")
    return [*lines, ""]


def _growth(case: Case, measured: Sequence[Measurement], folder: Path) -> list[str]:
    """The plot and the fitted exponents, where more than one size was measured."""
    sizes: list[Size] = [one["size"] for one in measured]
    part = growing(sizes)
    if part is None:
        return []
    seconds, memory = curves(measured, part, "wall"), curves(measured, part, "memory")
    picture = folder / f"{anchor(case.name)}.svg"
    folder.mkdir(parents=True, exist_ok=True)
    panels = {"seconds": seconds, "MiB above the inputs": memory}
    draw(
        picture,
        part,
        {quantity: found for quantity, found in panels.items() if found},
        [name for name in case.contenders if is_ours(name)],
    )
    lines = [
        f"![{case.name}: time and memory against {part}]({picture.name})",
        "",
        f"Exponents of growth with {part}, fitted on logarithms:",
        "",
        "| | time | memory |",
        "| --- | --- | --- |",
    ]
    for name in seconds:
        fits = [exponent(found.get(name, {})) for found in (seconds, memory)]
        if any(fit is not None for fit in fits):
            cells = ["" if fit is None else f"{fit:.2f}" for fit in fits]
            lines.append(f"| {name} | {' | '.join(cells)} |")
    return [*lines, ""]


def curves(
    measured: Sequence[Measurement], part: str, quantity: str
) -> dict[str, dict[float, float]]:
    """The medians of each contender against the size."""
    found: dict[str, dict[float, float]] = {}
    for measurement in measured:
        for name, one in measurement["contenders"].items():
            value = _median(one, quantity)
            if value is not None and value > 0:
                found.setdefault(name, {})[float(measurement["size"][part])] = value
    return found


def _median(one: Mapping[str, Any], quantity: str) -> float | None:
    if quantity == "wall":
        times = spread(one["wall"])
        return times.median if times else None
    value: float | None = one[quantity]
    return value


def _spread(value: Spread | None) -> str:
    """A median with its quartiles.

    >>> _spread(Spread(1.234, 1.1, 1.3, 5))
    '1.23 [1.1, 1.3]'
    """
    if value is None:
        return ""
    if value.runs == 1:
        return _number(value.median)
    return f"{_number(value.median)} [{_number(value.low)}, {_number(value.high)}]"


def _number(value: float) -> str:
    """Three significant digits, without an exponent.

    >>> _number(0.0012345), _number(1234.5)
    ('0.00123', '1234')
    """
    return f"{value:.3g}" if 1e-4 <= abs(value) < 1000 else f"{value:.0f}" if value else "0"
