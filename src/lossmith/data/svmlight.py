"""The svmlight format (LETOR, LightGBM, libsvm): ``label qid:7 1:0.5 3:1 # comment``."""

from __future__ import annotations

import io
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lossmith.data.errors import DataError
from lossmith.data.files import read_bytes

ENDINGS = (
    *(".txt", ".svm", ".svmlight", ".libsvm", ".letor", ".dat"),
    *(".train", ".test", ".valid", ".vali", ".val"),  # LightGBM's and LETOR's habit
)
MOST_NUMBERS = 2**31  # of a dense table: 8 GiB


@dataclass(frozen=True, eq=False)
class SvmRows:
    """The rows of one file. Columns are numbered as in the file; column 0 is empty in most."""

    path: Path
    data: bytes
    features: NDArray[np.float32]  # [rows, width]
    labels: NDArray[np.float64]  # [rows]
    queries: NDArray[np.int64] | None  # [rows], None where no row has one or none was asked for

    def line(self, row: int) -> int:
        """The line on which a row stands."""
        return next(line for i, (line, _) in enumerate(_filled(self.data)) if i == row)

    def error(self, problem: str, row: int, *, value: object, expected: str) -> DataError:
        """A :class:`DataError` about a row (which counts from 0)."""
        line = self.line(row)
        return DataError(problem, path=self.path, line=line, value=value, expected=expected)


def read_svmlight(path: Path, *, queries: bool) -> SvmRows:
    """The rows of a file, dense; a feature that is not written is 0, one written ``nan`` is NaN."""
    # It takes a second to import, which only this format should cost.
    from sklearn.datasets import load_svmlight_file

    data = read_bytes(path)
    try:
        sparse, labels, ids = load_svmlight_file(
            io.BytesIO(data), dtype=np.float64, zero_based=True, query_id=True
        )
    except (ValueError, OverflowError) as error:
        raise _fault(path, data) or _unreadable(path, error) from None
    rows, width = sparse.shape
    if rows == 0:
        raise DataError("no rows", path=path, expected="'label qid:7 1:0.5 3:1' on each line")
    if rows * width > MOST_NUMBERS:
        raise DataError(
            f"{rows:,} rows of {width:,} features make a table of {rows * width * 4 / 2**30:.0f} "
            "GiB",
            path=path,
            expected=f"at most {MOST_NUMBERS:,} numbers, as models here take dense features",
            fix="Number the features without gaps, or keep the frequent ones.",
        )
    features = sparse.toarray()
    # float32 has no room above 3e38; an infinity is no measurement either.
    features[np.abs(features) > np.finfo(np.float32).max] = np.inf
    made = SvmRows(
        path,
        data,
        features.astype(np.float32),
        labels,
        _queries(path, data, ids, rows) if queries else None,
    )
    _check_numbers(made)
    return made


def _queries(
    path: Path, data: bytes, queries: NDArray[np.int64], rows: int
) -> NDArray[np.int64] | None:
    if len(queries) == 0:
        return None
    if len(queries) < rows:
        line, text = next(
            (line, text) for line, text in _filled(data) if " qid:" not in " ".join(text.split())
        )
        raise DataError(
            "no query, though other rows have one",
            path=path,
            line=line,
            value=text,
            expected="'qid:NUMBER' after the label of every row",
        )
    return queries


def _check_numbers(rows: SvmRows) -> None:
    bad = np.flatnonzero(~np.isfinite(rows.labels))
    if len(bad):
        row = int(bad[0])
        value = rows.labels[row]
        raise rows.error(f"the label is {value}", row, value=value, expected="a finite number")
    infinite = np.argwhere(np.isinf(rows.features))
    if len(infinite):
        row, column = map(int, infinite[0])
        raise rows.error(
            f"feature {column} is infinite", row, value=math.inf, expected="a finite number, or nan"
        )


def _filled(data: bytes) -> Iterator[tuple[int, str]]:
    """The lines with something before the comment, numbered from 1."""
    for number, line in enumerate(data.decode().splitlines(), start=1):
        text = line.split("#", 1)[0].strip()
        if text:
            yield number, text


def _fault(path: Path, data: bytes) -> DataError | None:
    """The first line that does not read, as an error to raise."""
    for line, text in _filled(data):
        found = _fault_of_line(text)
        if found is not None:
            problem, expected = found
            return DataError(
                problem,
                path=path,
                line=line,
                value=text,
                expected=expected,
                fix="A table with a header line ends in .csv or .tsv." if line == 1 else None,
            )
    return None


def _fault_of_line(text: str) -> tuple[str, str] | None:
    label, *fields = text.split()
    if not _is_number(label):
        return f"the label {label[:40]!r} is not a number", "'label qid:7 1:0.5 3:1'"
    if fields and fields[0].startswith("qid:"):
        query = fields.pop(0).removeprefix("qid:")
        if not query.lstrip("-").isdecimal() or abs(int(query)) >= 2**63:
            return f"the query {query[:40]!r} is not a whole number", "such as qid:7"
    last = -1
    for field in fields:
        index, colon, value = field.partition(":")
        if not colon or not index.isdecimal():
            return f"{field[:40]!r} is not a feature", "'NUMBER:VALUE', such as 3:0.25"
        if not _is_number(value):
            return f"feature {index} is {value[:40]!r}", "a number"
        if int(index) <= last:
            return f"feature {index} stands after feature {last}", "features in rising order"
        last = int(index)
    return None


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _unreadable(path: Path, error: Exception) -> DataError:
    return DataError(
        f"cannot be read ({error})", path=path, expected="'label qid:7 1:0.5 3:1' on each line"
    )
