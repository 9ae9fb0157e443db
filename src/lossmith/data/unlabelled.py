"""Inputs without labels: the rows of a file, or the lines of stdin as they come."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, TextIO, TypeVar

import polars as pl

from lossmith.data.errors import DataError, listed
from lossmith.data.files import existing, format_of, read_bytes
from lossmith.data.roles import TEXT, USER, Role, find_column, need_column, option
from lossmith.data.tables import SUFFIXES, load_table
from lossmith.data.text import text_values

T = TypeVar("T")

STDIN = "-"
AT_ONCE = 512  # rows: the batches in which predictions are made


def read_texts(source: str, column: str | None, role: Role = TEXT) -> Iterator[list[str]]:
    """The texts of a file, or of stdin line by line, in batches.

    A line of stdin is a JSON object with the column, or the text itself; a file that is no table
    has a text on each line.
    """
    if source == STDIN:
        yield from _batches(_lines(sys.stdin, role, column))
        return
    path = one_file(source)
    if format_of(path) not in SUFFIXES:
        yield from _batches(iter(_file_lines(path)))
        return
    table = load_table(path)
    name = need_column(table.frame.columns, role, column, table.path)
    texts = text_values(table, name, [])
    for start in range(0, len(texts), AT_ONCE):
        yield texts[start : start + AT_ONCE]


# The name of an id, and what makes an error about the place where it stood.
Id = tuple[str, Callable[..., DataError]]


def read_ids(source: str, column: str | None, role: Role = USER) -> Iterator[list[Id]]:
    """The ids in a column of a table, or on the lines of another file or of stdin, in batches."""
    found: Iterable[Id]
    path = Path("stdin") if source == STDIN else one_file(source)
    if source == STDIN or format_of(path) not in SUFFIXES:
        lines = sys.stdin if source == STDIN else _file_lines(path)
        found = (
            (line.strip(), partial(DataError, path=path, line=number))
            for number, line in enumerate(lines, start=1)
            if line.strip()
        )
    else:
        table = load_table(path)
        name = need_column(table.frame.columns, role, column, path)
        values = table.frame.get_column(name).cast(pl.String).str.strip_chars().fill_null("")
        found = (
            (value, partial(table.error, row=row, column=name)) for row, value in enumerate(values)
        )
    yield from _batches(iter(found))


def one_file(source: str) -> Path:
    """The file that is meant; a folder or stdin, where it cannot be, is an error."""
    if source == STDIN:
        raise DataError(
            "stdin cannot be read here",
            expected="a file, as this task reads rows that belong together",
            fix="Write the rows to a file and give its name.",
        )
    path = existing(source)
    if path.is_dir():
        raise DataError("a folder", path=path, expected="the file with the inputs")
    return path


def _lines(stream: TextIO, role: Role, column: str | None) -> Iterator[str]:
    for number, line in enumerate(stream, start=1):
        line = line.rstrip("\r\n")
        yield _text_of(line, number, role, column) if line.lstrip().startswith("{") else line


def _text_of(line: str, number: int, role: Role, column: str | None) -> str:
    place: dict[str, Any] = {"path": "stdin", "line": number, "value": line}
    try:
        values = json.loads(line)
    except json.JSONDecodeError as error:
        raise DataError(
            f"not JSON ({error.msg}, character {error.pos + 1})",
            expected=f'an object such as {{"{role.name}": "..."}}, or a plain text that does not '
            "begin with a brace",
            **place,
        ) from None
    name = find_column(list(values), role, column, Path("stdin"), line=number)
    if name is None:
        raise DataError(
            f"no key for {role.what} among {listed(list(values))}",
            expected=f"one named {role.plain[0]!r} or the like",
            fix=f"Say which it is: {option(role, 'NAME')}.",
            **place,
        )
    if not isinstance(values[name], str):
        raise DataError(f"{values[name]!r} is not a text", expected="a text", column=name, **place)
    return str(values[name])


def _file_lines(path: Path) -> list[str]:
    lines = read_bytes(path).decode().split("\n")
    return [line.rstrip("\r") for line in (lines[:-1] if lines[-1] == "" else lines)]


def _batches(things: Iterator[T]) -> Iterator[list[T]]:
    batch: list[T] = []
    for thing in things:
        batch.append(thing)
        if len(batch) == AT_ONCE:
            yield batch
            batch = []
    if batch:
        yield batch
