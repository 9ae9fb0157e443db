"""Tables from files: csv, tsv, jsonl, json, parquet and their .gz; any fault is found and placed."""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import json
import sys
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from lossmith.data.errors import DataError, listed

SEPARATORS = {".csv": ",", ".tsv": "\t", ".tab": "\t"}
JSON_LINES = (".jsonl", ".ndjson")
SUFFIXES = (*SEPARATORS, *JSON_LINES, ".json", ".parquet")


@dataclass(frozen=True)
class Table:
    """A table, where it came from, and how to find the line of a row again."""

    frame: pl.DataFrame
    path: Path
    notes: tuple[str, ...] = ()
    find_line: Callable[[int], int | None] = lambda row: None

    def error(self, problem: str, row: int | None = None, **fields: Any) -> DataError:
        """A :class:`DataError` about this table, or about its row (which counts from 0)."""
        if row is None:
            return DataError(problem, path=self.path, **fields)
        line = self.find_line(row)
        return DataError(
            problem, path=self.path, line=line, row=None if line else row + 1, **fields
        )


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
        table = read_delimited(path, text, _separator(text, SEPARATORS[ending]))
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


def existing(path: str | Path) -> Path:
    """The path, or an error that names what lies near it."""
    path = Path(path)
    if path.exists():
        return path
    parent = next(folder for folder in path.absolute().parents if folder.is_dir())
    missing = path.absolute().relative_to(parent).parts[0]
    names = sorted(entry.name for entry in parent.iterdir() if not entry.name.startswith("."))
    near = _near(missing, names)
    if near:
        fix = f"Did you mean {str(parent / near)!r}?"
    else:
        fix = f"{parent} holds {listed(names)}." if names else f"{parent} is empty."
    raise DataError("no such file or folder", path=path, fix=fix)


def _near(missing: str, names: list[str]) -> str | None:
    import difflib

    # A forgotten or different ending is the commonest slip, and too far for a spelling match.
    same_stem = [name for name in names if name.split(".")[0] == missing.split(".")[0]]
    close = same_stem or difflib.get_close_matches(missing, names, n=1, cutoff=0.6)
    return close[0] if close else None


def format_of(path: Path) -> str:
    """The ending that says the format, lower case, a final ``.gz`` left aside."""
    path = path.with_suffix("") if path.suffix.lower() == ".gz" else path
    return path.suffix.lower()


def read_bytes(path: Path) -> bytes:
    """The content as UTF-8 without a byte order mark, unpacked; anything else is an error."""
    try:
        data = path.read_bytes()
        if path.suffix.lower() == ".gz":
            data = gzip.decompress(data)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise DataError(
            f"cannot be unpacked ({error})",
            path=path,
            expected="a whole gzip file",
            fix="Download or compress it again, or drop the .gz if it is plain text.",
        ) from None
    except OSError as error:
        raise DataError(f"cannot be read ({error.strerror})", path=path) from None
    data = data.removeprefix(b"\xef\xbb\xbf")
    try:
        data.decode("utf-8")
    except UnicodeDecodeError as error:
        utf16 = data[:2] in (b"\xff\xfe", b"\xfe\xff")
        encoding = "utf-16" if utf16 else "cp1252"
        raise DataError(
            f"byte {data[error.start]:#04x} at position {error.start:,} is not UTF-8"
            + (" (the file starts as UTF-16)" if utf16 else ""),
            path=path,
            line=data.count(b"\n", 0, error.start) + 1,
            value=data[error.start],
            expected="text in UTF-8",
            fix=f"Convert it: iconv -f {encoding} -t utf-8 {path.name} > new-{path.name} "
            f"(if {encoding} is what it is).",
        ) from None
    if not data.strip():
        raise DataError("the file is empty", path=path, expected="a header and rows")
    return data


def fingerprint(chunks: Iterable[bytes | str]) -> str:
    """16 hexadecimal digits that stand for this content and this order.

    >>> fingerprint(["ab", "c"]) == fingerprint(["a", "bc"])
    False
    """
    digest = hashlib.sha256()
    for chunk in chunks:
        data = chunk.encode("utf-8", "surrogatepass") if isinstance(chunk, str) else chunk
        digest.update(len(data).to_bytes(8, "little"))
        digest.update(data)
    return digest.hexdigest()[:16]


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


# ---------------------------------------------------------------------------- separated values


def _separator(data: bytes, usual: str) -> str:
    """The usual separator, unless the header has none of it and has another one."""
    header = data.lstrip().split(b"\n", 1)[0].decode()
    others = [mark for mark in ("\t", ";", ",") if mark != usual and mark in header]
    return others[0] if usual not in header and len(others) == 1 else usual


def read_delimited(
    path: Path, data: bytes, separator: str, names: tuple[str, ...] | None = None
) -> Table:
    """A table of text columns; ``names`` stand in where the file has no header."""
    rows, quote = _Records(data, separator, '"'), '"'
    try:
        frame = _parse(data, separator, quote, names)
        suspect = frame.width > 1 and frame.get_column(frame.columns[-1]).null_count() > 0
    except pl.exceptions.PolarsError:
        frame, suspect = pl.DataFrame(), True
    notes: tuple[str, ...] = ()
    if suspect:
        # polars fills short rows with nulls and does not say where it stumbled, so whenever
        # either may have happened a second, slower reader looks.
        fault = rows.fault(path, names)
        if fault and separator == "\t" and not _Records(data, separator, None).fault(path, names):
            rows, quote, fault = _Records(data, separator, None), "", None
            notes = (f"{path.name}: quotation marks are read as plain characters.",)
        if fault:
            raise fault
        try:
            frame = _parse(data, separator, quote or None, names)
        except pl.exceptions.PolarsError as error:
            raise DataError(
                f"cannot be read ({str(error).splitlines()[0]})",
                path=path,
                expected=f"values separated by {separator!r}",
            ) from None
    # A blank line arrives as a row of nulls.
    frame = frame.filter(~pl.all_horizontal(pl.all().is_null()))
    if separator != SEPARATORS.get(format_of(path), separator):
        notes += (f"{path.name}: columns are separated by {separator!r}.",)
    table = Table(frame, path, notes, lambda row: rows.line(row, header=names is None))
    _check_header(table, rows.header() if names is None else [])
    return table


def _parse(
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
            error = DataError(
                error.problem, path=path, line=error.line, expected=error.expected, fix=error.fix
            )
            return error
        return None


@contextmanager
def _long_fields() -> Iterator[None]:
    """Let the csv module read values of any length (a review may exceed its 128 KiB)."""
    before = csv.field_size_limit(min(sys.maxsize, 2**31 - 1))
    try:
        yield
    finally:
        csv.field_size_limit(before)


# ---------------------------------------------------------------------------- json


def _read_json_lines(path: Path, data: bytes) -> Table:
    def find_line(row: int) -> int | None:
        filled = (i for i, line in enumerate(data.splitlines(), start=1) if line.strip())
        return next((line for i, line in enumerate(filled) if i == row), None)

    try:
        frame = pl.read_ndjson(data, infer_schema_length=None)
    except (pl.exceptions.PolarsError, ValueError):
        # Python's reader is slower, says which line is at fault, and takes the NaN it writes.
        frame = _frame(path, list(_objects(path, data)))
    return Table(frame, path, (), find_line)


def _objects(path: Path, data: bytes) -> Iterator[dict[str, Any]]:
    for number, line in enumerate(data.splitlines(), start=1):
        if not line.strip():
            continue
        try:
            value = json.loads(line)
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
        yield value


def _read_json(path: Path, data: bytes) -> Table:
    try:
        rows = json.loads(data)
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
            pl.from_dicts(rows, infer_schema_length=None, strict=False) if rows else pl.DataFrame()
        )
    except (pl.exceptions.PolarsError, TypeError, ValueError) as error:
        raise DataError(
            f"the objects do not make a table ({str(error).splitlines()[0]})",
            path=path,
            expected="a key to hold the same kind of value in every object",
        ) from None
