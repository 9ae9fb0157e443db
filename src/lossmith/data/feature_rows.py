"""Rows of features for a model that is trained already: its features are known by name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lossmith.data import svmlight
from lossmith.data.errors import DataError
from lossmith.data.features import Matrix, read_features, read_number
from lossmith.data.files import format_of
from lossmith.data.list_files import Rows, read_rows
from lossmith.data.lists import Lists
from lossmith.data.roles import NUMBER, need_column
from lossmith.data.tables import SUFFIXES, load_table


def read_numbered(path: Path, names: Sequence[str], *, target: str | None) -> tuple[Matrix, Matrix]:
    """The features of these names, and the number of each row, from a table or svmlight."""
    if format_of(path) not in SUFFIXES:
        rows = svmlight.read_svmlight(path, queries=False)
        return _numbered_columns(path, rows.features, names), rows.labels.astype(np.float32)
    table = load_table(path)
    column = need_column(table.frame.columns, NUMBER, target, path)
    return read_features(table, names), read_number(table, column, NUMBER)


def read_unnumbered(path: Path, names: Sequence[str]) -> Matrix:
    """The features of these names alone; what stands at the start of an svmlight line is unread."""
    if format_of(path) not in SUFFIXES:
        return _numbered_columns(path, svmlight.read_svmlight(path, queries=False).features, names)
    return read_features(load_table(path), names)


@dataclass(frozen=True, eq=False)
class Listed:
    """Lists of candidates, and the row of the file that each item stood in (from 0)."""

    lists: Lists
    rows: NDArray[np.int64] = field(repr=False)


def read_lists_of(
    path: Path, names: Sequence[str], *, query: str | None, label: str | None, labelled: bool
) -> Listed:
    """The lists in a file, in the order in which their queries appear; without ``labelled`` the
    relevance is not looked at, and is 0.
    """
    nothing = np.empty((0, len(names)), dtype=np.float32)
    svm = format_of(path) not in SUFFIXES
    like = Rows(path, tuple(names), nothing, nothing[:, 0], [], (), numbered=svm)
    rows = read_rows(path, query=query, label=label, features=None, like=like, labelled=labelled)
    features = _numbered_columns(path, rows.features, names) if svm else rows.features
    number: dict[str, int] = {}
    code = np.array([number.setdefault(one, len(number)) for one in rows.queries])
    order = np.argsort(code, kind="stable")
    sizes = np.bincount(code, minlength=len(number))
    return Listed(Lists(features[order], rows.relevance[order], sizes, list(number)), order)


def _numbered_columns(path: Path, features: Matrix, names: Sequence[str]) -> Matrix:
    """The columns of an svmlight file from the first name on; one that it lacks is 0."""
    first, end = int(names[0]), int(names[0]) + len(names)
    beyond = np.argwhere(np.nan_to_num(features[:, end:], nan=1.0) != 0)
    if len(beyond):
        raise DataError(
            f"feature {end + int(beyond[0][1])} was not there in training",
            path=path,
            row=int(beyond[0][0]) + 1,
            expected=f"features {names[0]} to {names[-1]}",
        )
    whole = np.zeros((len(features), len(names)), dtype=np.float32)
    own = features[:, first:end]
    whole[:, : own.shape[1]] = own
    return whole
