"""Labels as people write them: a class in each row, a list of tags, or a column for each label."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from lossmith.data.errors import DataError, listed
from lossmith.data.files import Table
from lossmith.data.roles import CLASS, option

MISSING = -1.0
_STATES = {
    **dict.fromkeys(("1", "1.0", "true"), 1.0),
    **dict.fromkeys(("0", "0.0", "false"), 0.0),
    **dict.fromkeys(("", "-1", "-1.0", "nan", "null", "none"), MISSING),
}


def ordered(names: Iterable[str]) -> tuple[str, ...]:
    """Each name once, by number if all are integers, else by letter.

    >>> ordered(["10", "9", "10"]), ordered(["10", "b"])
    (('9', '10'), ('10', 'b'))
    """
    names = set(names)
    if all(name.lstrip("-").isdecimal() for name in names):
        return tuple(sorted(names, key=lambda name: (int(name), name)))
    return tuple(sorted(names))


# ---------------------------------------------------------------------------- one class a row


def read_classes(
    tables: Mapping[str, Table], column: str
) -> tuple[tuple[str, ...], dict[str, NDArray[np.int64]]]:
    """The classes of the train part and each row's place among them."""
    names = {part: _class_names(table, column) for part, table in tables.items()}
    classes = ordered(names["train"])
    _check_classes(tables["train"], column, classes, len(names["train"]))
    indices = {
        part: _places(tables[part], column, values, classes) for part, values in names.items()
    }
    return classes, indices


def class_places(table: Table, column: str, classes: Sequence[str]) -> NDArray[np.int64]:
    """Each row's place among classes that are known already."""
    return _places(table, column, _class_names(table, column), classes)


def _places(
    table: Table, column: str, names: Sequence[str], classes: Sequence[str]
) -> NDArray[np.int64]:
    place = {name: i for i, name in enumerate(classes)}
    for row, name in enumerate(names):
        if name not in place:
            raise table.error(
                f"the label {name!r} does not occur in the train part",
                row,
                column=column,
                value=name,
                expected=f"one of {listed(list(classes))}",
                fix="Correct it, or add examples of it to the train part.",
            )
    return np.array([place[name] for name in names], dtype=np.int64)


def _class_names(table: Table, column: str) -> list[str]:
    series = table.frame.get_column(column)
    if series.dtype.is_nested():
        raise table.error(
            f"holds {_kind(series)}",
            0,
            column=column,
            value=series[0],
            expected="one class in each row",
            fix="Rows with several labels are the family 'tagging'.",
        )
    if series.dtype.is_float() and bool((series.is_nan() | (series % 1 == 0)).all()):
        # Whole numbers become floats where a table once had a gap.
        series = series.fill_nan(None).cast(pl.Int64)
    names = series.cast(pl.String).str.strip_chars()
    blank = (names.is_null() | (names == "")).arg_true()
    if len(blank):
        raise table.error(
            "the label is blank" + (f" ({len(blank):,} rows)" if len(blank) > 1 else ""),
            int(blank[0]),
            column=column,
            value=series[int(blank[0])],
            expected="a class in each row",
            fix="Fill it in or remove the row.",
        )
    return list(names)


def _check_classes(table: Table, column: str, classes: tuple[str, ...], rows: int) -> None:
    if len(classes) == 1:
        raise table.error(
            f"the label is {classes[0]!r} in all {rows:,} rows",
            column=column,
            value=classes[0],
            expected="at least two classes",
            fix=f"Is it the right column? {option(CLASS, 'NAME')} names another.",
        )
    if rows >= 20 and len(classes) > rows / 2:
        raise table.error(
            f"{len(classes):,} different labels in {rows:,} rows",
            column=column,
            value=classes[0],
            expected="classes that recur",
            fix=f"Is it the right column? {option(CLASS, 'NAME')} names another.",
        )


# ---------------------------------------------------------------------------- a list of tags


def read_tags(
    tables: Mapping[str, Table], column: str
) -> tuple[tuple[str, ...], dict[str, NDArray[np.float32]], list[str]]:
    """The tags of the train part, each row's 1 and 0 (-1 where the cell is blank), and notes."""
    separator = _separator(tables, column)
    lists = {part: _tag_lists(table, column, separator) for part, table in tables.items()}
    classes = ordered(tag for tags in lists["train"] for tag in tags or ())
    if len(classes) == 0:
        raise tables["train"].error("no row has a label", column=column, expected="some labels")
    notes = []
    if separator:
        notes.append(f"Column {column!r}: labels are separated by {separator!r}.")
    cells = {}
    for part, rows in lists.items():
        cells[part], more = _cells(tables[part], column, rows, classes)
        notes += more
    return classes, cells, notes


def tag_cells(
    table: Table, column: str, classes: Sequence[str]
) -> tuple[NDArray[np.float32], list[str]]:
    """Each row's 1, 0 and -1 for tags that are known already, and notes."""
    rows = _tag_lists(table, column, _separator({"": table}, column))
    return _cells(table, column, rows, classes)


def _cells(
    table: Table, column: str, rows: Sequence[Sequence[str] | None], classes: Sequence[str]
) -> tuple[NDArray[np.float32], list[str]]:
    place = {tag: i for i, tag in enumerate(classes)}
    values = np.zeros((len(rows), len(classes)), dtype=np.float32)
    unseen: set[str] = set()
    for row, tags in enumerate(rows):
        if tags is None:
            values[row] = MISSING
        for tag in tags or ():
            if tag in place:
                values[row, place[tag]] = 1.0
            else:
                unseen.add(tag)
    notes = []
    blank = sum(tags is None for tags in rows)
    if blank:
        notes.append(
            f"{table.path.name}: {blank:,} rows are blank in {column!r}, read as not "
            "labelled (all missing); write [] for a row that has no label."
        )
    if unseen:
        notes.append(
            f"{table.path.name}: labels that the train part never shows are left out: "
            f"{listed(ordered(unseen))}."
        )
    return values, notes


def read_lists(table: Table, column: str) -> list[list[str]]:
    """The list in each cell, such as ``["a", "b"]`` or ``a|b``; a blank cell is an empty one."""
    separator = _separator({"": table}, column)
    return [cell or [] for cell in _tag_lists(table, column, separator)]


def part_lists(
    tables: Mapping[str, Table], column: str
) -> tuple[dict[str, list[list[str]]], list[str]]:
    """:func:`read_lists` of each part, with one separator for all, and a note that names it."""
    separator = _separator(tables, column)
    lists = {
        part: [cell or [] for cell in _tag_lists(table, column, separator)]
        for part, table in tables.items()
    }
    notes = [f"Column {column!r}: entries are separated by {separator!r}."] if separator else []
    return lists, notes


def _separator(tables: Mapping[str, Table], column: str) -> str | None:
    """What separates tags in the cells of text that are no bracketed lists."""
    for mark in ("|", ";", ","):
        for table in tables.values():
            series = table.frame.get_column(column)
            if series.dtype == pl.String:
                plain = series.filter(~series.str.strip_chars().str.starts_with("["))
                if bool(plain.str.contains(mark, literal=True).any()):
                    return mark
    return None


def _tag_lists(table: Table, column: str, separator: str | None) -> list[list[str] | None]:
    series = table.frame.get_column(column)
    if isinstance(series.dtype, (pl.List, pl.Array)):
        # A blank among the tags of a list is no tag.
        return [
            None if tags is None else [str(tag).strip() for tag in tags if tag not in (None, "")]
            for tags in series.to_list()
        ]
    if series.dtype != pl.String and not series.dtype.is_integer():
        raise table.error(
            f"holds {_kind(series)}",
            0,
            column=column,
            value=series[0],
            expected="lists of labels, or text such as 'red|green'",
        )
    cells = series.cast(pl.String).to_list()
    return [_split_tags(table, column, row, cell, separator) for row, cell in enumerate(cells)]


def _split_tags(
    table: Table, column: str, row: int, cell: str | None, separator: str | None
) -> list[str] | None:
    if cell is None or not cell.strip():
        return None
    cell = cell.strip()
    if not cell.startswith("["):
        tags = cell.split(separator) if separator else [cell]
        return [tag.strip() for tag in tags if tag.strip()]
    try:
        values = ast.literal_eval(cell)
        if all(isinstance(value, (str, int)) for value in values):
            return [str(value).strip() for value in values]
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        pass
    raise table.error(
        f"{cell if len(cell) <= 60 else cell[:57] + '...'!r} is not a list of labels",
        row,
        column=column,
        value=cell,
        expected="a list such as ['red', 'green'], or red|green",
    )


# ---------------------------------------------------------------------------- a column per label


def states(series: pl.Series) -> list[float | None]:
    """1, 0 or -1 (missing) for each cell, None where it is none of these."""
    if series.dtype.is_float():
        series = series.fill_nan(None)
    by_cell = {cell: _state(cell) for cell in series.unique().to_list()}
    return [by_cell[cell] for cell in series.to_list()]


def _state(cell: Any) -> float | None:
    return _STATES.get("" if cell is None else str(cell).strip().lower())


def label_columns(table: Table, leave_out: Sequence[str]) -> list[str]:
    """The columns that hold 1, 0 and blanks; one that nearly does is an error, not a surprise."""
    found = []
    for column in table.frame.columns:
        series = table.frame.get_column(column)
        if column in leave_out or series.dtype.is_nested():
            continue
        cells = states(series)
        bad = [row for row, cell in enumerate(cells) if cell is None]
        if not bad and any(cell in (0.0, 1.0) for cell in cells):
            found.append(column)
        elif bad and len(bad) <= len(cells) / 10:
            raise _bad_state(table, column, bad[0])
    return found


def read_columns(
    tables: Mapping[str, Table], columns: Sequence[str]
) -> dict[str, NDArray[np.float32]]:
    """1, 0 and -1 for each row and each of the columns."""
    cells = {part: column_cells(table, columns) for part, table in tables.items()}
    if not bool((cells["train"] != MISSING).any()):
        raise tables["train"].error("no row has a label", expected="some cells that hold 1 or 0")
    return cells


def column_cells(table: Table, columns: Sequence[str]) -> NDArray[np.float32]:
    """Each row's 1, 0 and -1 in the columns."""
    values = np.empty((table.frame.height, len(columns)), dtype=np.float32)
    for i, column in enumerate(columns):
        read = states(table.frame.get_column(column))
        if None in read:
            raise _bad_state(table, column, read.index(None))
        values[:, i] = read
    return values


def _bad_state(table: Table, column: str, row: int) -> DataError:
    value = table.frame.get_column(column)[row]
    return table.error(
        f"{value!r} is not a label",
        row,
        column=column,
        value=value,
        expected="1, 0 or blank (missing; -1 and NaN mean it too)",
        fix="Correct it; if the column holds no labels, name those that do: "
        f"{option(CLASS, 'FIRST,SECOND')}.",
    )


def _kind(series: pl.Series) -> str:
    """What a column holds, in words.

    >>> _kind(pl.Series([[1]])), _kind(pl.Series([0.5]))
    ('lists', 'numbers of type Float64')
    """
    if isinstance(series.dtype, (pl.List, pl.Array)):
        return "lists"
    if series.dtype.is_numeric():
        return f"numbers of type {series.dtype}"
    return "objects" if series.dtype == pl.Struct else f"values of type {series.dtype}"
