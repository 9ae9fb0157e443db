"""Separated values (csv, tsv and their kin): read by polars, and looked through where it fails."""

from __future__ import annotations

import csv
import io
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from lossmith.data.errors import DataError
from lossmith.data.files import Table, format_of

SEPARATORS = {".csv": ",", ".tsv": "\t", ".tab": "\t"}


def find_separator(data: bytes, usual: str) -> str:
    """The usual separator, unless the header has none of it and has another one."""
    header = data.lstrip().split(b"\n", 1)[0].decode()
    others = [mark for mark in ("\t", ";", ",") if mark != usual and mark in header]
    return others[0] if usual not in header and len(others) == 1 else usual


def read_delimited(
    path: Path, data: bytes, separator: str, names: tuple[str, ...] | None = None
) -> Table:
    """A table of text columns; ``names`` stand in where the file has no header."""
    rows = _Records(data, separator, '"')
    notes: tuple[str, ...] = ()
    frame, suspect = _try_parse(data, separator, names)
    if suspect:
        rows, notes = _reliable(path, rows, names, swallowed=frame is not None)
    if frame is None or notes:
        frame = _parse(data, separator, rows.quote, names, path)
    # A blank line arrives as a row of nulls.
    frame = frame.filter(~pl.all_horizontal(pl.all().is_null()))
    if separator != SEPARATORS.get(format_of(path), separator):
        notes += (f"{path.name}: columns are separated by {separator!r}.",)
    table = Table(frame, path, notes, lambda row: rows.line(row, header=names is None))
    _check_header(table, rows.header() if names is None else [])
    return table


def _try_parse(
    data: bytes, separator: str, names: tuple[str, ...] | None
) -> tuple[pl.DataFrame | None, bool]:
    """The table, if it can be parsed, and whether it has to be looked at closely.

    polars fills short rows with nulls and does not say where it stumbled; and a lone quotation
    mark at the start of a value swallows lines up to the next one.
    """
    try:
        frame = _parse_quickly(data, separator, '"', names)
    except pl.exceptions.PolarsError:
        return None, True
    short = frame.width > 1 and frame.get_column(frame.columns[-1]).null_count() > 0
    lines = data.rstrip().count(b"\n") + (0 if names is None else 1)
    return frame, short or (separator == "\t" and frame.height != lines)


def _reliable(
    path: Path, rows: _Records, names: tuple[str, ...] | None, *, swallowed: bool
) -> tuple[_Records, tuple[str, ...]]:
    """The way to read the file that gives every row its columns, or an error with the place."""
    fault = rows.fault(path, names)
    plain = _Records(rows.data, rows.separator, None)
    differs = fault or (swallowed and rows.count() != plain.count())
    if rows.separator == "\t" and differs and not plain.fault(path, names):
        return plain, (f"{path.name}: quotation marks are read as plain characters.",)
    if fault:
        raise fault
    return rows, ()


def _parse_quickly(
    data: bytes, separator: str, quote: str | None, names: tuple[str, ...] | None
) -> pl.DataFrame:
    return pl.read_csv(
        data,
        separator=separator,
        quote_char=quote,
        has_header=names is None,
        new_columns=None if names is None else list(names),
        infer_schema=False,
    )


def _parse(
    data: bytes, separator: str, quote: str | None, names: tuple[str, ...] | None, path: Path
) -> pl.DataFrame:
    try:
        return _parse_quickly(data, separator, quote, names)
    except pl.exceptions.PolarsError as error:
        raise DataError(
            f"cannot be read ({str(error).splitlines()[0]})",
            path=path,
            expected=f"values separated by {separator!r}",
        ) from None


def _check_header(table: Table, header: list[str]) -> None:
    twice = sorted({name for name in header if header.count(name) > 1})
    if twice:
        raise table.error(
            f"the header names {twice[0]!r} twice",
            column=twice[0],
            expected="every column to have its own name",
            fix="Rename one of them.",
        )


@dataclass(frozen=True)
class _Records:
    """The records of a separated file with the line each starts on."""

    data: bytes
    separator: str
    quote: str | None

    def __iter__(self) -> Iterator[tuple[int, list[str]]]:
        reader = csv.reader(
            io.StringIO(self.data.decode(), newline=""),
            delimiter=self.separator,
            quotechar=self.quote,
            quoting=csv.QUOTE_MINIMAL if self.quote else csv.QUOTE_NONE,
            strict=True,
        )
        with _long_fields():
            while True:
                start = reader.line_num + 1
                try:
                    record = next(reader)
                except StopIteration:
                    return
                except csv.Error as error:
                    raise DataError(
                        f"a quotation mark is not closed or is followed by text ({error})",
                        line=start,
                        expected='a quoted value to end with " and quotes inside it to be doubled',
                        fix='Write ""like this"" inside a quoted value.',
                    ) from None
                if any(record):
                    yield start, record

    def count(self) -> int:
        return sum(1 for _ in self)

    def header(self) -> list[str]:
        return next((record for _, record in self), [])

    def line(self, row: int, *, header: bool) -> int | None:
        wanted = row + 1 if header else row
        return next((line for i, (line, _) in enumerate(self) if i == wanted), None)

    def fault(self, path: Path, names: tuple[str, ...] | None) -> DataError | None:
        """The first record that does not fit the header, as an error to raise."""
        width = None if names is None else len(names)
        try:
            for line, record in self:
                width = len(record) if width is None else width
                if len(record) != width:
                    return DataError(
                        f"{len(record)} {'value' if len(record) == 1 else 'values'}",
                        path=path,
                        line=line,
                        value=record,
                        expected=f"{width}, one for each column of the header",
                        fix="Quote a value that holds the separator "
                        f"{self.separator!r}, or complete the line.",
                    )
        except DataError as error:
            return DataError(
                error.problem, path=path, line=error.line, expected=error.expected, fix=error.fix
            )
        return None


@contextmanager
def _long_fields() -> Iterator[None]:
    """Let the csv module read values of any length (a review may exceed its 128 KiB)."""
    before = csv.field_size_limit(min(sys.maxsize, 2**31 - 1))
    try:
        yield
    finally:
        csv.field_size_limit(before)
