"""Columns of numbers: features, and the number that is to be predicted or ranked by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import polars as pl
from numpy.typing import NDArray

from lossmith.data.errors import DataError, listed
from lossmith.data.files import Table
from lossmith.data.roles import FEATURES, IDENTIFIERS, Role, find_column, normalised, option

Matrix = NDArray[np.float32]
LARGEST = float(np.finfo(np.float32).max)
BLANK = ("", "na", "n/a", "nan", "null", "none", "?")


def feature_columns(table: Table, used: Sequence[str], given: str | None) -> list[str]:
    """The columns that are features: those given, or all that hold numbers and are not used yet.

    A column of which most values are numbers is one; a stray word in it is an error, later, and
    not a reason to leave the column out without a word.
    """
    columns = table.frame.columns
    if given is not None:
        named = [name.strip() for name in given.split(",") if name.strip()]
        for name in named:
            find_column(columns, FEATURES, name, table.path)
        return named
    found = [
        name
        for name in columns
        if name not in used and normalised(name) not in IDENTIFIERS and holds_numbers(table, name)
    ]
    if not found:
        raise table.error(
            f"no column holds numbers among {listed(columns)}",
            expected=f"features beside {listed(list(used))}",
            fix=f"Name them: {option(FEATURES, 'FIRST,SECOND')}.",
        )
    return found


def feature_notes(table: Table, columns: Sequence[str], used: Sequence[str]) -> list[str]:
    """What was taken as features, and what was not used at all."""
    names = list(columns)
    notes = [f"The features are {len(names)} columns of numbers: {listed(names)}."]
    unused = [name for name in table.frame.columns if name not in (*used, *names)]
    if unused:
        notes.append(f"Not used: {'column' if len(unused) == 1 else 'columns'} {listed(unused)}.")
    return notes


def read_features(table: Table, columns: Sequence[str]) -> Matrix:
    """The features ``[rows, F]``; NaN where a value is blank."""
    made = []
    for column in columns:
        if column not in table.frame.columns:
            raise table.error(
                f"no column {column!r} among {listed(table.frame.columns)}",
                column=column,
                expected="the features of the train part",
            )
        values, bad = _numbers(table.frame.get_column(column))
        row = _first(bad)
        if row is not None:
            raise _not_a_number(
                table,
                column,
                row,
                fix="Correct it, or leave the column out by naming the others: "
                f"{option(FEATURES, 'FIRST,SECOND')}.",
            )
        made.append(values.to_numpy().astype(np.float32))
    return np.stack(made, axis=1)


def read_number(table: Table, column: str, role: Role, *, low: float | None = None) -> Matrix:
    """The number of each row ``[rows]``; a blank, a word or one below ``low`` is an error."""
    series = table.frame.get_column(column)
    values, bad = _numbers(series)
    row = _first(bad | values.is_null() | values.is_nan())
    if row is not None:
        blank = not bad[row]
        raise _not_a_number(
            table,
            column,
            row,
            problem=f"{role.what} is blank" if blank else None,
            fix="Fill it in or remove the row."
            if blank
            else f"Is it the right column? {option(role, 'NAME')} names another.",
        )
    row = None if low is None else _first(values < low)
    if row is not None:
        raise _not_a_number(table, column, row, expected=f"a number, {low:g} or more")
    return values.to_numpy().astype(np.float32)


def blank_note(parts: Mapping[str, Matrix]) -> list[str]:
    """How many features are blank, and what is done about it."""
    blank = sum(int(np.isnan(values).sum()) for values in parts.values())
    if not blank:
        return []
    values = f"{blank:,} value{'s are' if blank > 1 else ' is'}"
    return [f"{values} blank among the features; the mean of the train part stands in."]


def holds_numbers(table: Table, column: str) -> bool:
    """Whether more of the column's values are numbers than anything else, blanks left aside."""
    values, bad = _numbers(table.frame.get_column(column))
    there = int((values.is_not_null() & ~values.is_nan()).fill_null(False).sum())
    return there > int(bad.sum())


def _numbers(series: pl.Series) -> tuple[pl.Series, pl.Series]:
    """The values in float64, null or NaN where blank, and which are no finite number."""
    if series.dtype.is_numeric() or series.dtype == pl.Boolean:
        values = series.cast(pl.Float64)
        return values, (values.abs() > LARGEST).fill_null(False) & ~values.is_nan().fill_null(False)
    if series.dtype != pl.String:
        nothing = pl.Series(series.name, [None] * len(series), dtype=pl.Float64)
        return nothing, series.is_not_null()
    text = series.fill_null("").str.strip_chars().str.to_lowercase()
    values = text.cast(pl.Float64, strict=False)
    wrong = (values.is_null() | values.is_nan() | (values.abs() > LARGEST)).fill_null(True)
    return values, ~text.is_in(BLANK) & wrong


def _first(rows: pl.Series) -> int | None:
    found = rows.fill_null(False).arg_true()
    return int(found[0]) if len(found) else None


def _not_a_number(
    table: Table,
    column: str,
    row: int,
    *,
    problem: str | None = None,
    expected: str = "a number",
    fix: str | None = None,
) -> DataError:
    value = table.frame.get_column(column)[row]
    return table.error(
        problem or f"{value!r} is not {expected}",
        row,
        column=column,
        value=value,
        expected=expected if problem else "a finite number" if expected == "a number" else expected,
        fix=fix,
    )
