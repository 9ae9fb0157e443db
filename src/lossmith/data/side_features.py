"""What is known of users or items beside who used what: numbers, categories and sets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from lossmith.data.errors import listed
from lossmith.data.features import holds_numbers, read_features
from lossmith.data.files import Table, fingerprint
from lossmith.data.labels import read_lists
from lossmith.data.roles import ITEM, USER, Role, find_column, normalised
from lossmith.data.tables import load_table

SET_MARK = "|"
FEW_ROWS = 20  # in fewer rows than these, values that never recur may still be categories
SIDES = {"user": USER, "item": ITEM}
ID_NAMES = ("id", "index", "key")

# One feature of one row: the row, the feature's name, its value.
Cell = tuple[int, str, float]


@dataclass(frozen=True, eq=False)
class SideFeatures:
    """Features of all users or all items, sparse: a row's k-th is ``index`` with ``value``.

    Rows with fewer features than others are filled up with index 0 and value 0.
    """

    names: list[str]  # "year", "genre=Comedy"
    index: NDArray[np.int64] = field(repr=False)  # [rows, k]
    value: NDArray[np.float32] = field(repr=False)  # [rows, k]
    notes: tuple[str, ...] = ()
    fingerprint: str = ""

    def dense(self) -> NDArray[np.float32]:
        """The same as a table ``[rows, names]``.

        >>> SideFeatures(["a", "b"], np.array([[1, 0], [0, 0]]), np.array([[2, 0], [3, 0]])).dense()
        array([[0., 2.],
               [3., 0.]], dtype=float32)
        """
        table = np.zeros((len(self.index), len(self.names)), dtype=np.float32)
        np.add.at(table, (np.arange(len(self.index))[:, None], self.index), self.value)
        return table


def read_side_features(
    path: str | Path, side: str, ids: Sequence[str], *, column: str | None = None
) -> SideFeatures:
    """The features of the users or items (``side``) with these ids, from a table with an id column.

    A column of numbers is standardised over the rows that are used (a blank counts as the mean);
    text is a category, or with ``|`` in it a set, and each value is a feature of its own, 1 where
    the row has it. Columns whose values never recur, such as titles, are left out. Ids that
    ``ids`` does not have are left out, and ids without a row have no features; both are noted.
    """
    table = load_table(path)
    id_column = _id_column(table, SIDES[side], column)
    place = {name: i for i, name in enumerate(ids)}
    given = [str(each).strip() for each in table.frame.get_column(id_column).to_list()]
    _check_once(table, id_column, given)
    known = np.array([name in place for name in given])
    if not known.any():
        raise table.error(
            f"none of its {len(given):,} ids is a {side} of the interactions",
            0,
            column=id_column,
            value=given[0],
            expected=f"{side} ids such as {listed(list(ids[:3]))}",
        )
    rows = [place[name] for name in given if name in place]
    used = Table(table.frame.filter(pl.Series(known)), table.path)
    cells: list[Cell] = []
    left_out = []
    for name in table.frame.columns:
        if name != id_column:
            found = _cells(table, used, name)
            left_out += [] if found else [name]
            cells += found
    if not cells:
        raise table.error(
            f"no column of {listed(table.frame.columns)} tells one {side} from another",
            expected="numbers, categories, or sets such as drama|comedy",
        )
    columns = len(table.frame.columns) - 1 - len(left_out)
    missing = len(ids) - len(rows)
    notes = [f"{table.path.name}: {columns} columns describe {len(rows):,} {side}s."]
    if missing:
        notes.append(f"{missing:,} {side}s have no row in {table.path.name} and no features.")
    if not known.all():
        notes.append(
            f"{table.path.name}: {(~known).sum():,} rows of {side}s without interactions were "
            "left out."
        )
    if left_out:
        notes.append(f"{table.path.name}: not used, without values that recur: {listed(left_out)}.")
    return _packed([(rows[row], name, value) for row, name, value in cells], len(ids), notes)


def _id_column(table: Table, role: Role, given: str | None) -> str:
    columns = table.frame.columns
    if given is not None and given in columns:
        return given
    first = normalised(columns[0])
    if first in (*role.plain, *role.others, *ID_NAMES):
        return columns[0]
    found = find_column(columns, replace(role, last=ID_NAMES), None, table.path)
    if found is None:
        raise table.error(
            f"no column holds the ids of the {role.name}s among {listed(columns)}",
            expected=f"a column named {role.name}, {role.name}_id or id",
            fix="Rename it so, or put it first under such a name.",
        )
    return found


def _check_once(table: Table, column: str, ids: Sequence[str]) -> None:
    seen: set[str] = set()
    for row, name in enumerate(ids):
        if name in seen:
            raise table.error(
                f"{name!r} has a row already", row, column=column, value=name, expected="one row"
            )
        seen.add(name)


def _cells(table: Table, used: Table, column: str) -> list[Cell]:
    """The features that a column makes of each used row; none if it tells nothing."""
    series = used.frame.get_column(column)
    if not series.dtype.is_nested() and holds_numbers(table, column):
        read_features(table, [column])  # a stray word is an error, wherever it stands
        values = read_features(used, [column])[:, 0].astype(np.float64)
        centre, spread = np.nanmean(values), np.nanstd(values)
        if not spread > 0:
            return []
        scaled = np.nan_to_num((values - centre) / spread)
        return [(row, column, float(value)) for row, value in enumerate(scaled) if value]
    sets = _sets(used, series)
    seen = [value for row in sets for value in row]
    distinct = len(set(seen))
    if distinct < 2 or (len(sets) >= FEW_ROWS and distinct > len(seen) / 2):
        return []
    return [(row, f"{column}={value}", 1.0) for row, those in enumerate(sets) for value in those]


def _sets(table: Table, series: pl.Series) -> list[list[str]]:
    """The values of each row: a set's, or the one category; none where blank."""
    text = series.dtype == pl.String
    if series.dtype.is_nested() or (
        text and bool(series.str.contains(SET_MARK, literal=True).any())
    ):
        return [list(dict.fromkeys(row)) for row in read_lists(table, series.name)]
    values = series.cast(pl.String).fill_null("").str.strip_chars().to_list()
    return [[value] if value else [] for value in values]


def _packed(cells: list[Cell], rows: int, notes: list[str]) -> SideFeatures:
    names = sorted({name for _, name, _ in cells})
    place = {name: i for i, name in enumerate(names)}
    row = np.array([cell[0] for cell in cells])
    order = np.argsort(row, kind="stable")
    row = row[order]
    column = np.arange(len(row)) - np.searchsorted(row, row)
    index = np.zeros((rows, column.max() + 1), dtype=np.int64)
    value = np.zeros(index.shape, dtype=np.float32)
    index[row, column] = np.array([place[cell[1]] for cell in cells])[order]
    value[row, column] = np.array([cell[2] for cell in cells], dtype=np.float32)[order]
    content = fingerprint(["\n".join(names), index.tobytes(), value.tobytes()])
    return SideFeatures(names, index, value, tuple(notes), content)
