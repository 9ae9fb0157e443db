"""The files in which interactions come: tables, MovieLens' ``u.data``, one line per user."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import polars as pl

from lossmith.data.errors import DataError, listed
from lossmith.data.files import Table, format_of, read_bytes
from lossmith.data.parts import no_parts
from lossmith.data.roles import ITEM, USER, VALUE, Role, find_column, need_column, option
from lossmith.data.separated import SEPARATORS, read_delimited
from lossmith.data.tables import SUFFIXES, load_table

PLAIN = (".dat", ".data", ".txt", ".inter", "")  # endings that do not say what is inside
ENDINGS = (*SUFFIXES, *PLAIN[:-1])
MOVIELENS = ("user", "item", "rating", "timestamp")
EPOCH = 1e8  # seconds since 1970 of March 1973: a number above is a time, not a rating
SAMPLE = 50  # lines that show the shape of a file


@dataclass(frozen=True)
class Log:
    """The rows of one file: text columns ``user`` and ``item``."""

    path: Path
    pairs: pl.DataFrame
    value_column: str | None
    user_lines: bool  # whether it has a line per user: numbers that a list may explain
    notes: tuple[str, ...]


def read_log(
    path: Path,
    *,
    user: str | None,
    item: str | None,
    value: str | None,
    minimum: float | None,
    user_lines: bool | None = None,
) -> Log:
    """The interactions in one file, rows below the minimum left out.

    ``user_lines`` says whether there is a line per user; by default the look of the file does.
    """
    if format_of(path) not in PLAIN and format_of(path) not in SEPARATORS:
        return _from_table(load_table(path), user, item, value, minimum)
    data = read_bytes(path)
    head = [line for line in data[: 1 << 20].decode(errors="replace").splitlines() if line.strip()]
    head = head[:SAMPLE]
    if _one_line_per_user(head) if user_lines is None else user_lines:
        return _from_user_lines(path, data, minimum)
    separator = _separator(head[0])
    if separator == "::":
        data, separator = data.replace(b"::", b"\t"), "\t"
        head = [line.replace("::", "\t") for line in head]
    if _is_movielens(head, separator):
        table = read_delimited(path, data, separator, MOVIELENS)
        note = f"{path.name} has no header and the shape of MovieLens: {', '.join(MOVIELENS)}."
        table = Table(table.frame, path, (*table.notes, note), table.find_line)
        return _from_table(table, user, item, value, minimum)
    _need_header(path, head[0], separator)
    table = read_delimited(path, data, separator)
    if table.frame.height == 0:
        raise table.error("no rows below the header", expected="at least one row")
    return _from_table(table, user, item, value, minimum)


def sole_log(folder: Path, *, user: str | None, item: str | None, value: str | None) -> Path:
    """The one file of a folder that holds interactions: with values if only one has them."""
    movielens = folder / "u.data"
    if movielens.is_file():
        return movielens
    candidates: dict[Path, bool] = {}
    for file in sorted(folder.iterdir()):
        if file.is_file() and format_of(file) in ENDINGS:
            columns = header_columns(file)
            try:
                is_log = (
                    find_column(columns, USER, user, file) is not None
                    and find_column(columns, ITEM, item, file) is not None
                )
                if is_log:
                    candidates[file] = find_column(columns, VALUE, value, file) is not None
            except DataError:
                continue
    valued = [file for file, has_value in candidates.items() if has_value]
    found = valued if len(valued) == 1 else list(candidates)
    if len(found) == 1:
        return found[0]
    if found:
        raise DataError(
            f"{listed([file.name for file in found])} could each be the interactions",
            path=folder,
            expected="one such file, or train and test files",
            fix=f"Give the file itself: {found[0]}.",
        )
    raise no_parts(folder, ENDINGS)


def id_list(path: Path) -> list[str] | None:
    """The original ids by number, from a list ``org_id remap_id`` beside the interactions."""
    if not path.is_file():
        return None
    lines = read_bytes(path).decode().splitlines()[1:]
    ids = [line.split() for line in lines if line.strip()]
    for number, fields in enumerate(ids):
        if len(fields) < 2 or fields[-1] != str(number):
            raise DataError(
                f"{' '.join(fields)!r} is not an id and its number",
                path=path,
                line=number + 2,
                value=" ".join(fields),
                expected=f"an original id and the number {number}",
            )
    return [" ".join(fields[:-1]) for fields in ids]


def header_columns(path: Path) -> list[str]:
    """The names in the first line of a file, or those of its table; none where it has none."""
    if format_of(path) in (*SEPARATORS, *PLAIN) and path.suffix.lower() != ".gz":
        with path.open("rb") as file:
            header = file.readline().decode("utf-8-sig", errors="replace").strip()
        if _separator(header) == " ":  # as likely prose, in a README.txt
            return []
        return [name.strip('"') for name in header.split(_separator(header))]
    try:
        return load_table(path).frame.columns
    except DataError:
        return []


def _separator(header: str) -> str:
    marks = [mark for mark in ("::", "\t", ",", ";", "|") if mark in header]
    return marks[0] if marks else " "


def _numeric(fields: list[str]) -> bool:
    return all(
        field.strip().strip('"').lstrip("-").replace(".", "", 1).isdigit() for field in fields
    )


def _one_line_per_user(head: list[str]) -> bool:
    """Whether the lines are numbers between blanks, of many lengths, each of another user."""
    fields = [line.split() for line in head]
    if not all(" " in line.strip() or len(line.split()) == 1 for line in head):
        return False
    if "\t" in "".join(head) or not all(field.isdigit() for row in fields for field in row):
        return False
    users = [row[0] for row in fields]
    lengths = {len(row) for row in fields}
    return len(set(users)) == len(users) and (len(lengths) > 1 or max(lengths) > len(MOVIELENS))


def _is_movielens(head: list[str], separator: str) -> bool:
    rows = [line.split(separator) for line in head]
    return all(
        len(row) == 4 and _numeric(row) and float(row[3]) >= EPOCH and float(row[2]) < EPOCH
        for row in rows
    )


def _need_header(path: Path, first: str, separator: str) -> None:
    fields = first.split(separator)
    if _numeric(fields):
        raise DataError(
            f"the first line {first.strip()[:60]!r} holds numbers, not the names of columns",
            path=path,
            line=1,
            value=first,
            expected="a header such as user,item,rating; or MovieLens' four columns separated by "
            "tabs; or lines of 'user item item ...'",
            fix="Add a first line that names the columns.",
        )


def _from_user_lines(path: Path, data: bytes, minimum: float | None) -> Log:
    if minimum is not None:
        raise _no_value(path)
    lines = pl.Series("line", data.decode().splitlines())
    for row in (~lines.str.contains(r"^\s*(\d+\s*)*$")).arg_true()[:1]:
        raise DataError(
            f"{lines[row][:60]!r} is not numbers between blanks",
            path=path,
            line=row + 1,
            value=lines[row],
            expected="'user item item ...' as in the other lines",
        )
    fields = lines.str.strip_chars().str.replace_all(r"\s+", " ").str.split(" ")
    frame = pl.DataFrame({"user": fields.list.first(), "item": fields.list.slice(1)})
    empty = frame.filter((pl.col("user") != "") & (pl.col("item").list.len() == 0)).height
    pairs = frame.explode("item").drop_nulls("item")
    notes = [f"{path.name} has one line per user: the user, then the items."]
    if empty:
        notes.append(f"{path.name}: {empty:,} users have no items.")
    return Log(path, pairs, None, True, tuple(notes))


def _from_table(
    table: Table, user: str | None, item: str | None, value: str | None, minimum: float | None
) -> Log:
    columns = table.frame.columns
    user_column = need_column(columns, USER, user, table.path)
    item_column = need_column(columns, ITEM, item, table.path)
    value_column = find_column(columns, VALUE, value, table.path)
    ids = {
        "user": _id_column(table, user_column, USER),
        "item": _id_column(table, item_column, ITEM),
    }
    pairs = pl.DataFrame(ids)
    if minimum is not None:
        if value_column is None:
            raise _no_value(table.path)
        pairs = pairs.filter(_values(table, value_column) >= minimum)
    roles = ((user, USER, user_column), (item, ITEM, item_column), (value, VALUE, value_column))
    guessed = [
        f"{role.what} is {column!r}" for given, role, column in roles if not given and column
    ]
    notes = list(table.notes)
    if guessed and columns != list(MOVIELENS):
        sentence = ", ".join(guessed)
        notes.append(f"By the names of the columns, {sentence}.")
    return Log(table.path, pairs, value_column, False, tuple(notes))


def _id_column(table: Table, column: str, role: Role) -> pl.Series:
    series = table.frame.get_column(column)
    if series.dtype.is_nested():
        raise table.error(
            "holds lists", 0, column=column, value=series[0], expected=f"{role.what} in each row"
        )
    ids: pl.Series = series.cast(pl.String).str.strip_chars()
    blank = (ids.is_null() | (ids == "")).arg_true()
    if len(blank):
        raise table.error(
            f"{role.what} is blank" + (f" ({len(blank):,} rows)" if len(blank) > 1 else ""),
            int(blank[0]),
            column=column,
            value=series[int(blank[0])],
            expected="an id in each row",
            fix="Fill it in or remove the row.",
        )
    return ids


def _values(table: Table, column: str) -> pl.Series:
    series = table.frame.get_column(column)
    values: pl.Series = series.cast(pl.Float64, strict=False)
    bad = (values.is_null() | values.is_nan()).arg_true()
    if len(bad):
        raise table.error(
            f"{series[int(bad[0])]!r} is not a number",
            int(bad[0]),
            column=column,
            value=series[int(bad[0])],
            expected="a number to compare with the minimum",
        )
    return values


def _no_value(path: Path) -> DataError:
    return DataError(
        "a minimum was given, but no column holds values",
        path=path,
        expected="a column such as 'rating' or 'count'",
        fix=f"Name it, {option(VALUE, 'NAME')}, or leave the minimum out.",
    )
