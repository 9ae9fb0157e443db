"""What a file or a folder is, which families can read it, and what would be wrong with it."""

from __future__ import annotations

import inspect as introspection
import shlex
import tempfile
from collections.abc import Callable, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from lossmith.data.errors import DataError
from lossmith.data.faults import faults, lengths
from lossmith.data.files import existing, format_of
from lossmith.tasks import TASK_FAMILIES

if TYPE_CHECKING:
    from collections.abc import Iterator

LARGE = 30_000_000  # bytes; of a larger table the first rows are looked at
FIRST = 20_000  # rows of it
SHOWN = 3  # rows that are printed
LONG = 60  # characters of a value that are printed


@dataclass(frozen=True)
class Column:
    """One column of a table."""

    name: str
    kind: str
    missing: int  # nulls, and of text the blank ones


@dataclass(frozen=True)
class Fit:
    """How a family reads the data."""

    family: str
    rows: Mapping[str, int]  # by part
    notes: tuple[str, ...]  # which roles were guessed, and what was done to the data
    faults: tuple[str, ...]
    losses: tuple[str, ...] = ()
    command: str = ""


@dataclass(frozen=True)
class Inspection:
    """What was found."""

    data: str
    format: str
    size: int  # bytes
    rows: int | None
    columns: tuple[Column, ...]
    examples: tuple[Mapping[str, str], ...]
    fits: tuple[Fit, ...]
    others: Mapping[str, str] = field(default_factory=dict)  # why a family cannot read it
    notes: tuple[str, ...] = ()


def look(
    data: str, family: str | None = None, roles: Mapping[str, str] | None = None
) -> Inspection:
    """Look at data; a file that is not there, or that nothing can be made of, is a DataError."""
    if data == "embedded":
        families = (family,) if family else ()
        fits = tuple(_fit(one, data, data, {}) for one in families)
        listed = ", ".join(TASK_FAMILIES)
        note = f"Every family has it: {listed}. Name one with --family to look at it."
        said = () if family else (note,)
        return Inspection(data, "texts that every Python has", 0, None, (), (), fits, notes=said)
    path = existing(data)
    found: list[Fit] = []
    others: dict[str, str] = {}
    with _first_rows(path) as (small, notes):
        rows, columns, examples = _table(small)
        for one in (family,) if family else TASK_FAMILIES:
            try:
                found.append(_fit(one, str(small), data, roles or {}))
            except ValueError as error:
                if family and isinstance(error, DataError):
                    raise
                others[one] = str(error).splitlines()[0].partition("; expected")[0]
    return Inspection(
        data, _format(path), _size(path), rows, columns, examples, tuple(found), others, notes
    )


def _fit(family: str, path: str, data: str, roles: Mapping[str, str]) -> Fit:
    found = _read(family, path, roles)
    parts = getattr(found, "parts", None)
    rows = {name: len(_countable(part)) for name, part in parts.items()} if parts else found.rows
    from lossmith.tasks.registry import load_task  # torch: after the data was found to be good
    from lossmith.tasks.text import label_facts

    task = load_task(family)
    given = [word for name, value in roles.items() for word in ("--set", f"{name}={value}")]
    usual = ",".join(task.usual_losses(label_facts(found), task.resolve(roles)))
    words = ["lossmith", "compare", family, data, "--losses", usual, *given]
    losses = tuple(spec.name for spec in task.fitting())
    notes = (*found.notes, *lengths(found))
    return Fit(family, rows, notes, tuple(faults(found)), losses, shlex.join(words))


def _countable(part: Any) -> Any:
    return part if hasattr(part, "__len__") else part.users


def _read(family: str, path: str, roles: Mapping[str, str]) -> Any:
    """What the family's reader makes of it; a family without one here is asked by its task."""
    from lossmith.data.embedded import embedded
    from lossmith.data.interactions import read_interactions
    from lossmith.data.lists import read_ranking
    from lossmith.data.numbers import read_numbers
    from lossmith.data.parallel import read_parallel
    from lossmith.data.query_files import read_retrieval
    from lossmith.data.text import read_text

    def with_family(path: str, **columns: Any) -> Any:
        return read_text(path, family, **columns)

    readers: Mapping[str, tuple[Callable[..., Any], Callable[..., Any]]] = {
        "classification": (with_family, read_text),
        "tagging": (with_family, read_text),
        "regression": (read_numbers, read_numbers),
        "retrieval": (read_retrieval, read_retrieval),
        "ranking": (read_ranking, read_ranking),
        "recommendation": (read_interactions, read_interactions),
        "generation": (read_parallel, read_parallel),
    }
    if family not in readers:
        from lossmith.tasks.registry import load_task

        task = load_task(family)
        return task.describe(path, task.resolve(roles))
    if path == "embedded":
        return embedded(family)
    reader, signature = readers[family]
    taken = introspection.signature(signature).parameters
    return reader(path, **{name: value for name, value in roles.items() if name in taken})


def _table(path: Path) -> tuple[int | None, tuple[Column, ...], tuple[Mapping[str, str], ...]]:
    """Rows, columns and the first rows of a table; nothing of what is none."""
    from lossmith.data.tables import SUFFIXES, load_table

    if path.is_dir() or format_of(path) not in SUFFIXES:
        return None, (), ()
    try:
        frame = load_table(path).frame
    except DataError:  # what is wrong with it as a table, the readers say
        return None, (), ()
    columns = []
    for name in frame.columns:
        values = frame[name]
        missing = int(values.null_count())
        kind = str(values.dtype)
        if kind == "String":
            missing += int((values.str.strip_chars() == "").sum())
            kind = _kind_of_text(values.head(1000).to_list())
        columns.append(Column(name, kind, missing))
    examples = tuple(
        {name: _short(value) for name, value in row.items()}
        for row in frame.head(SHOWN).iter_rows(named=True)
    )
    return frame.height, tuple(columns), examples


def _kind_of_text(values: list[str | None]) -> str:
    filled = [value.strip() for value in values if value and value.strip()]
    for kind, read in (("whole numbers", int), ("numbers", float)):
        try:
            for value in filled:
                read(value)
        except ValueError:
            continue
        if filled:
            return kind
    return "text"


def _short(value: object) -> str:
    text = "" if value is None else str(value)
    return text if len(text) <= LONG else f"{text[: LONG - 1]}…"


def _format(path: Path) -> str:
    if path.is_dir():
        names = sorted(entry.name for entry in path.iterdir() if not entry.name.startswith("."))
        more = f" and {len(names) - 8} more" if len(names) > 8 else ""
        return f"folder with {', '.join(names[:8])}{more}"
    packed = " (gzip)" if path.suffix.lower() == ".gz" else ""
    ending = format_of(path).removeprefix(".") or "no ending"
    return f"{ending}{packed}" if ending == "parquet" else f"{ending}{packed}, UTF-8"


def _size(path: Path) -> int:
    if path.is_file():
        return path.stat().st_size
    return sum(entry.stat().st_size for entry in path.rglob("*") if entry.is_file())


@contextmanager
def _first_rows(path: Path) -> Iterator[tuple[Path, tuple[str, ...]]]:
    """The file, or of a large one a smaller with its first rows."""
    lines = (".csv", ".tsv", ".jsonl", ".ndjson", ".txt", ".svm", ".data", ".dat", ".libsvm")
    if path.is_dir() or path.stat().st_size < LARGE or path.suffix.lower() not in lines:
        yield path, ()
        return
    with tempfile.TemporaryDirectory() as folder:
        small = Path(folder, path.name)
        source: IO[bytes]
        with path.open("rb") as source, small.open("wb") as target:
            target.writelines(islice(source, FIRST + 1))
        yield small, (f"A large file: what follows is about its first {FIRST:,} rows.",)
