"""Text with labels: one class for each text (classification) or any number of them (tagging)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from lossmith.data.errors import listed
from lossmith.data.files import Table, existing, fingerprint
from lossmith.data.labels import label_columns, read_classes, read_columns, read_tags, states
from lossmith.data.parts import ORDER, held_out, no_parts, part_files, split_parts
from lossmith.data.progress import track
from lossmith.data.roles import CLASS, TAGS, TEXT, Role, find_column, need_column, option
from lossmith.data.tables import SUFFIXES, load_table

FAMILIES = ("classification", "tagging")


@dataclass(frozen=True, eq=False)  # fingerprints are compared, not arrays
class TextPart:
    """Texts and their labels.

    Classification: int64 ``[N]``, places in the classes. Tagging: float32 ``[N, C]`` of 1 and 0,
    with -1 where the label is missing. Regression: float32 ``[N]``.
    """

    texts: list[str]
    labels: NDArray[Any]

    def __len__(self) -> int:
        return len(self.texts)

    def rows(self, index: NDArray[np.int64]) -> TextPart:
        """The part made of these rows."""
        return TextPart([self.texts[i] for i in index], self.labels[index])


@dataclass(frozen=True, eq=False)  # fingerprints are compared, not arrays
class TextData:
    """A data set of texts: its parts (``train``, maybe ``valid`` and ``test``) and its classes."""

    name: str
    family: str
    classes: tuple[str, ...]
    parts: dict[str, TextPart] = field(repr=False)
    notes: tuple[str, ...]  # what was guessed or done to it, in sentences
    fingerprint: str  # of the content of all parts


def make_text(
    name: str,
    family: str,
    classes: tuple[str, ...],
    parts: Mapping[str, TextPart],
    notes: Sequence[str],
) -> TextData:
    """A :class:`TextData` with its parts in order and its fingerprint."""
    ordered = {part: parts[part] for part in ORDER if part in parts}
    chunks: list[bytes | str] = [family, *classes]
    for part, content in ordered.items():
        chunks += [part, *content.texts, content.labels.tobytes()]
    return TextData(name, family, classes, ordered, tuple(notes), fingerprint(chunks))


def read_text(
    path: str | Path, family: str, *, text: str | None = None, label: str | None = None
) -> TextData:
    """The texts and labels in a file, or in the train, valid and test files of a folder.

    Columns are found by name; ``text`` and ``label`` name them where the names do not tell. For
    tagging, ``label`` may name several columns, separated by commas.
    """
    if family not in FAMILIES:
        raise ValueError(f"family={family!r} has no texts with labels; expected one of {FAMILIES}.")
    path = existing(path)
    files = part_files(path, SUFFIXES) if path.is_dir() else {"train": path}
    if not files:
        raise no_parts(path, SUFFIXES)
    tables = {part: load_table(file) for part, file in track(files.items(), f"Reading {path.name}")}
    first = tables["train"]
    notes = [note for table in tables.values() for note in table.notes]
    text_column = need_column(first.frame.columns, TEXT, text, first.path)
    if family == "classification":
        columns = [need_column(first.frame.columns, CLASS, label, first.path)]
    else:
        columns = _tagging_columns(first, text_column, label)
    for table in tables.values():
        need_same(table, (TEXT, text_column), *((CLASS, column) for column in columns))
    texts = {part: text_values(table, text_column, notes) for part, table in tables.items()}
    labels: Mapping[str, NDArray[Any]]
    if family == "classification":
        classes, labels = read_classes(tables, columns[0])
    elif _one_list(first, columns):
        classes, labels, more = read_tags(tables, columns[0])
        notes += more
    else:
        classes, labels = tuple(columns), read_columns(tables, columns)
    parts = {part: TextPart(texts[part], labels[part]) for part in tables}
    notes = [*_role_notes(first, text, text_column, label, columns), *notes]
    return make_text(path.name.split(".")[0] or str(path), family, classes, parts, notes)


def _tagging_columns(table: Table, text_column: str, label: str | None) -> list[str]:
    """The column that lists the labels, or the columns that are labels."""
    columns = table.frame.columns
    if label is not None and label not in columns and "," in label:
        named = [name.strip() for name in label.split(",") if name.strip()]
        return [need_column(columns, TAGS, name, table.path) for name in named]
    found = find_column(columns, TAGS, label, table.path)
    if found is not None:
        return [found]
    several = label_columns(table, [text_column])
    # One column of 1 and 0 is as likely an identifier or a flag: it has to be named.
    return several if len(several) > 1 else [need_column(columns, TAGS, None, table.path)]


def _one_list(table: Table, columns: list[str]) -> bool:
    """Whether the labels are lists in one column, and not a column of 1, 0 and blanks."""
    series = table.frame.get_column(columns[0])
    return len(columns) == 1 and (series.dtype.is_nested() or None in states(series))


def need_same(table: Table, *columns: tuple[Role, str]) -> None:
    """Raise unless a part has the columns of the train part."""
    for role, column in columns:
        if column not in table.frame.columns:
            raise table.error(
                f"no column {column!r} among {listed(table.frame.columns)}",
                column=column,
                expected=f"{role.what} there, as in the train part",
                fix=f"Rows without {role.what.removeprefix('the ')} cannot be scored: leave this "
                "file out."
                if role is not TEXT
                else None,
            )


def _role_notes(
    table: Table, text: str | None, text_column: str, label: str | None, columns: list[str]
) -> list[str]:
    notes = []
    if text is None:
        notes.append(f"The text is column {text_column!r}, by its name.")
    if label is None and len(columns) == 1:
        notes.append(f"The label is column {columns[0]!r}, by its name.")
    elif label is None:
        notes.append(
            f"The labels are the {len(columns)} columns that hold 1, 0 or blank: "
            f"{listed(columns)} ({option(TAGS, 'FIRST,SECOND')} names others)."
        )
    unused = [name for name in table.frame.columns if name not in (text_column, *columns)]
    if unused:
        notes.append(f"Not used: {'column' if len(unused) == 1 else 'columns'} {listed(unused)}.")
    return notes


def text_values(table: Table, column: str, notes: list[str]) -> list[str]:
    """The texts of a column; blank ones are allowed and noted."""
    series = table.frame.get_column(column)
    if series.dtype != pl.String:
        raise table.error(
            f"holds values of type {series.dtype}",
            0,
            column=column,
            value=series[0],
            expected="texts",
            fix=f"Name the column that holds them: {option(TEXT, 'NAME')}.",
        )
    texts = series.fill_null("")
    blank = (texts.str.strip_chars() == "").arg_true()
    if len(blank) == len(texts):
        raise table.error("every text is blank", column=column, expected="texts")
    if len(blank):
        place = table.error("", int(blank[0]))
        where = f"line {place.line}" if place.line else f"row {place.row}"
        count = "1 text is" if len(blank) == 1 else f"{len(blank):,} texts are"
        notes.append(f"{table.path.name}: {count} blank (the first in {where}).")
    return texts.to_list()


# ---------------------------------------------------------------------------- the split


def split_text(data: TextData, *, test: float = 0.2, valid: float = 0.1, seed: int = 0) -> TextData:
    """The data with the parts that are missing held out of ``train``.

    ``test`` is a share of the rows given as train, ``valid`` of what is left of them. Copies of a
    text stay on one side; for classification every class is held out in proportion. Parts that
    were given stay as they are, but with ``valid=0`` a given valid part is trained on.
    """
    stratified = data.family == "classification"
    parts, notes = split_parts(
        data.name,
        data.parts,
        test=test,
        valid=valid,
        seed=seed,
        join=_joined,
        hold=lambda part, share, rng: _held_out(part, share, rng, stratified=stratified),
        unit="rows",
        how=(", each class in proportion" if stratified else "") + "; copies of a text stay "
        "together",
    )
    return make_text(data.name, data.family, data.classes, parts, [*data.notes, *notes])


def _joined(first: TextPart, second: TextPart) -> TextPart:
    return TextPart(first.texts + second.texts, np.concatenate([first.labels, second.labels]))


def _held_out(
    part: TextPart, share: float, rng: np.random.Generator, *, stratified: bool
) -> NDArray[np.bool_]:
    """Which rows to hold out: equal texts together, in each class the share of its rows."""
    group = text_groups(part.texts)
    _, first = np.unique(group, return_index=True)
    stratum = part.labels[first] if stratified else np.zeros(len(first), dtype=np.int64)
    return held_out(group, stratum, share, rng)


def text_groups(texts: Sequence[str]) -> NDArray[np.int64]:
    """A number for each text, the same for texts that differ in white space alone.

    >>> text_groups(["a b", "c", "a  b"]).tolist()
    [0, 1, 0]
    """
    groups: dict[str, int] = {}
    return np.array([groups.setdefault(" ".join(text.split()), len(groups)) for text in texts])
