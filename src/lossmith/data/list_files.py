"""The files in which lists come: svmlight with ``qid:``, tables with a query column, and LightGBM's
file of list lengths beside either."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lossmith.data import svmlight
from lossmith.data.errors import DataError
from lossmith.data.features import (
    Matrix,
    feature_columns,
    feature_notes,
    read_features,
    read_number,
)
from lossmith.data.files import Table, format_of, read_bytes
from lossmith.data.roles import QUERY, RELEVANCE, find_column, need_column
from lossmith.data.tables import SUFFIXES, load_table

ENDINGS = (*SUFFIXES, *svmlight.ENDINGS)
LENGTHS = (".query", ".group")  # LightGBM's name, and XGBoost's


@dataclass(frozen=True, eq=False)
class Rows:
    """The rows of one file."""

    path: Path
    names: tuple[str, ...]  # of the features
    features: Matrix = field(repr=False)
    relevance: NDArray[np.float32] = field(repr=False)
    queries: list[str] = field(repr=False)  # of each row
    notes: tuple[str, ...]
    numbered: bool  # svmlight: the names are places, and a file may end early

    @property
    def no_zeroth(self) -> bool:
        """Whether feature 0 is empty, as where features are numbered from 1."""
        return not self.features[:, 0].any()

    def columns(self, names: tuple[str, ...]) -> Matrix:
        """The features of these names; those that a numbered file does not reach are 0."""
        if self.names == names:
            return self.features
        first = self.names.index(names[0]) if names[0] in self.names else len(self.names)
        whole = np.zeros((len(self.features), len(names)), dtype=np.float32)
        own = self.features[:, first:]
        whole[:, : own.shape[1]] = own
        return whole


def read_rows(
    path: Path,
    *,
    query: str | None,
    label: str | None,
    features: str | None,
    like: Rows | None,
    labelled: bool = True,
) -> Rows:
    """The rows of a file; ``like`` is the first file of the train part, whose features count.

    Where they are not ``labelled`` the relevance is not looked at, and is 0.
    """
    if format_of(path) in SUFFIXES:
        return _from_table(load_table(path), query, label, features, like, labelled)
    for name, value in (("query", query), ("label", label), ("features", features)):
        if value:
            raise DataError(
                f"svmlight files have no columns with names, so {name}={value!r} finds none",
                path=path,
                expected="a table (.csv, .tsv, .jsonl, .parquet)",
                fix=f"Leave {name} out.",
            )
    rows = svmlight.read_svmlight(path, queries=True)
    low = np.flatnonzero(rows.labels < 0)
    if len(low) and labelled:
        row = int(low[0])
        value = rows.labels[row]
        raise rows.error(f"the label is {value:g}", row, value=value, expected="a grade, 0 or more")
    queries, notes = _queries(rows)
    names = tuple(map(str, range(rows.features.shape[1])))
    relevance = rows.labels.astype(np.float32) * labelled
    return Rows(path, names, rows.features, relevance, queries, notes, numbered=True)


def _queries(rows: svmlight.SvmRows) -> tuple[list[str], tuple[str, ...]]:
    if rows.queries is not None:
        return [str(query) for query in rows.queries.tolist()], ()
    queries = _by_lengths(rows.path, len(rows.labels))
    if queries is None:
        line = rows.line(0)
        raise DataError(
            "no query",
            path=rows.path,
            line=line,
            value=rows.data.decode().splitlines()[line - 1],
            expected="'qid:NUMBER' after the label",
            fix=f"Or put the lengths of the lists, one a line, into {rows.path.name}.query.",
        )
    return queries


def _from_table(
    table: Table,
    query: str | None,
    label: str | None,
    features: str | None,
    like: Rows | None,
    labelled: bool,
) -> Rows:
    columns = table.frame.columns
    label_column = need_column(columns, RELEVANCE, label, table.path) if labelled else None
    query_column = find_column(columns, QUERY, query, table.path)
    notes = list(table.notes)
    used = [label_column] if label_column else []
    by_lengths = _by_lengths(table.path, table.frame.height) if query_column is None else None
    if by_lengths is not None:
        queries, more = by_lengths
        notes += more
    else:
        query_column = need_column(columns, QUERY, query, table.path)
        used.append(query_column)
        queries = _query_column(table, query_column)
    roles = ((query, QUERY, query_column), (label, RELEVANCE, label_column))
    guessed = [
        f"{role.what} is {column!r}" for given, role, column in roles if not given and column
    ]
    if guessed:
        notes.append(f"By the names of the columns, {' and '.join(guessed)}.")
    if like is None:
        names: Sequence[str] = feature_columns(table, used, features)
        notes += feature_notes(table, names, used)
    else:
        names = like.names
    if label_column is None:
        relevance = np.zeros(table.frame.height, dtype=np.float32)
    else:
        relevance = read_number(table, label_column, RELEVANCE, low=0.0)
    values = read_features(table, names)
    return Rows(table.path, tuple(names), values, relevance, queries, tuple(notes), numbered=False)


def _query_column(table: Table, column: str) -> list[str]:
    series = table.frame.get_column(column)
    if series.dtype.is_nested():
        raise table.error(
            "holds lists", 0, column=column, value=series[0], expected="a query in each row"
        )
    names: list[str | None] = series.cast(str).str.strip_chars().to_list()
    for row, name in enumerate(names):
        if not name:
            raise table.error(
                "the query is blank",
                row,
                column=column,
                value=name,
                expected="what says which rows belong to one list",
                fix="Fill it in or remove the row.",
            )
    return [name for name in names if name]


def _by_lengths(path: Path, rows: int) -> tuple[list[str], tuple[str, ...]] | None:
    """Each row's query from the file of list lengths beside the data; None where there is none."""
    beside = [path.with_name(path.name + ending) for ending in LENGTHS]
    beside += [path.with_suffix(ending) for ending in LENGTHS]
    file = next((file for file in beside if file.is_file()), None)
    if file is None:
        return None
    lengths: list[int] = []
    for line, text in enumerate(read_bytes(file).decode().splitlines(), start=1):
        if not text.strip():
            continue
        if not text.strip().isdecimal() or int(text) == 0:
            raise DataError(
                f"{text.strip()[:40]!r} is not the length of a list",
                path=file,
                line=line,
                value=text,
                expected="a whole number, 1 or more, on each line",
            )
        lengths.append(int(text))
    if sum(lengths) != rows:
        raise DataError(
            f"the lengths add up to {sum(lengths):,}, and {path.name} has {rows:,} rows",
            path=file,
            value=sum(lengths),
            expected=f"{len(lengths):,} lengths that add up to {rows:,}",
            fix="Is it the file that belongs to this one?",
        )
    # With the name of the file, so that the first list of another file is another query.
    queries = [f"{path.name}:{i}" for i, n in enumerate(lengths, start=1) for _ in range(n)]
    return queries, (f"The lists of {path.name} are told apart by {file.name}.",)
