"""Tables from files (csv, tsv, jsonl, json, parquet, .gz); a fault is found and placed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl

from lossmith.data.errors import DataError
from lossmith.data.files import Table, existing, format_of, read_bytes
from lossmith.data.separated import SEPARATORS, find_separator, read_delimited

JSON_LINES = (".jsonl", ".ndjson")
SUFFIXES = (*SEPARATORS, *JSON_LINES, ".json", ".parquet")


def read_table(path: str | Path) -> pl.DataFrame:
    """The table in a file; the ending says the format, with or without ``.gz`` behind it.

    Columns of csv and tsv are all text: what a value means is for its reader to say.
    """
    return load_table(path).frame


def load_table(path: str | Path) -> Table:
    """:func:`read_table` with what is needed to speak about its lines."""
    path = existing(path)
    ending = format_of(path)
    if ending == ".parquet":
        return _read_parquet(path)
    text = read_bytes(path)
    if ending in SEPARATORS:
        table = read_delimited(path, text, find_separator(text, SEPARATORS[ending]))
    elif ending in JSON_LINES or (ending == ".json" and text.lstrip()[:1] == b"{"):
        table = _read_json_lines(path, text)
    elif ending == ".json":
        table = _read_json(path, text)
    else:
        raise DataError(
            f"the ending {ending or 'of the name'!r} is not a known format",
            path=path,
            expected=f"one of {', '.join(SUFFIXES)}, or one of the text formats with .gz",
            fix="Rename the file to what it holds, or convert it.",
        )
    if table.frame.height == 0:
        raise table.error("no rows below the header", expected="at least one row")
    return table


def _read_parquet(path: Path) -> Table:
    try:
        frame = pl.read_parquet(path)
    except (pl.exceptions.PolarsError, OSError) as error:
        reason = str(error).splitlines()[0]
        raise DataError(
            f"cannot be read as Parquet ({reason})", path=path, expected="a whole Parquet file"
        ) from None
    if frame.height == 0:
        raise DataError("the table has no rows", path=path, expected="at least one row")
    return Table(frame, path)


def _read_json_lines(path: Path, data: bytes) -> Table:
    def find_line(row: int) -> int | None:
        filled = (i for i, line in enumerate(data.splitlines(), start=1) if line.strip())
        return next((line for i, line in enumerate(filled) if i == row), None)

    try:
        frame = pl.read_ndjson(data, infer_schema_length=None)
    except (pl.exceptions.PolarsError, ValueError):
        # Python's reader is slower, says which line is at fault, and takes the NaN it writes.
        frame = _frame(path, [value for _, value in json_objects(path, data)])
    return Table(frame, path, (), find_line)


def json_objects(path: Path, data: bytes) -> Iterator[tuple[int, dict[str, Any]]]:
    """Each line that is not blank, and its object; anything else is an error with its place."""
    for number, line in enumerate(data.splitlines(), start=1):
        if not line.strip():
            continue
        try:
            value = json.loads(line.decode())
        except json.JSONDecodeError as error:
            raise DataError(
                f"not JSON ({error.msg}, character {error.pos + 1})",
                path=path,
                line=number,
                value=line.decode(),
                expected='one object a line, such as {"text": "...", "label": "..."}',
                fix="A file that is one JSON list ends in .json, not .jsonl."
                if line.lstrip()[:1] == b"[" and number == 1
                else "Correct or remove the line.",
            ) from None
        if not isinstance(value, dict):
            raise DataError(
                f"a JSON {type(value).__name__}",
                path=path,
                line=number,
                value=value,
                expected='an object, such as {"text": "...", "label": "..."}',
            )
        yield number, value


def _read_json(path: Path, data: bytes) -> Table:
    try:
        rows = json.loads(data.decode())
    except json.JSONDecodeError as error:
        raise DataError(
            f"not JSON ({error.msg})",
            path=path,
            line=error.lineno,
            expected="one list of objects",
            fix="A file with one object a line ends in .jsonl.",
        ) from None
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise DataError(
            f"holds a JSON {type(rows).__name__}"
            + ("" if not isinstance(rows, list) else " with other things than objects"),
            path=path,
            expected='a list of objects, such as [{"text": "...", "label": "..."}]',
        )
    return Table(_frame(path, rows), path)


def _frame(path: Path, rows: list[dict[str, Any]]) -> pl.DataFrame:
    try:
        return (
            pl.DataFrame(rows, infer_schema_length=None, strict=False) if rows else pl.DataFrame()
        )
    except (pl.exceptions.PolarsError, TypeError, ValueError) as error:
        raise DataError(
            f"the objects do not make a table ({str(error).splitlines()[0]})",
            path=path,
            expected="a key to hold the same kind of value in every object",
        ) from None
