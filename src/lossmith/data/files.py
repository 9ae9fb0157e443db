"""Files and what is said about them: finding, unpacking, decoding, and a table with its place."""

from __future__ import annotations

import difflib
import gzip
import hashlib
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from lossmith.data.errors import DataError, listed


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
