"""Labelled data for a model that is trained already: its classes are known and no part is drawn."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from lossmith.data.errors import DataError, listed
from lossmith.data.features import read_number
from lossmith.data.files import Table, existing
from lossmith.data.labels import class_places, column_cells, tag_cells
from lossmith.data.parts import part_files
from lossmith.data.roles import CLASS, NUMBER, TAGS, TEXT, need_column
from lossmith.data.tables import SUFFIXES, load_table
from lossmith.data.text import TextData, TextPart, make_text, text_values


def scored_file(path: str, endings: Sequence[str] = SUFFIXES) -> Path:
    """The file whose rows are scored: the test part of a folder, or the file itself."""
    found = existing(path)
    if not found.is_dir():
        return found
    files = part_files(found, endings)
    if "test" not in files:
        names = sorted(entry.name for entry in found.iterdir() if not entry.name.startswith("."))
        raise DataError(
            f"no file for the test part; it holds {listed(names)}",
            path=found,
            expected="a file such as test.csv",
            fix="Or give the file itself.",
        )
    return files["test"]


def read_labelled(
    path: str, family: str, classes: Sequence[str], *, text: str | None, label: str | None
) -> TextData:
    """Texts with labels among those known, as the part "test"; for regression with numbers."""
    table = load_table(scored_file(path))
    column = need_column(table.frame.columns, TEXT, text, table.path)
    notes = list(table.notes)
    texts = text_values(table, column, notes)
    labels: NDArray[Any]
    if family == "classification":
        name = need_column(table.frame.columns, CLASS, label, table.path)
        labels = class_places(table, name, classes)
    elif family == "tagging":
        labels, more = _tags(table, classes, label)
        notes += more
    else:
        labels = read_number(
            table, need_column(table.frame.columns, NUMBER, label, table.path), NUMBER
        )
    part = TextPart(texts, labels)
    return make_text(table.path.name, family, tuple(classes), {"test": part}, notes)


def _tags(
    table: Table, classes: Sequence[str], label: str | None
) -> tuple[NDArray[Any], list[str]]:
    """From a column for each label where all are there, else from the column that lists them."""
    columns = table.frame.columns
    if set(classes) <= set(columns):
        return column_cells(table, classes), []
    return tag_cells(table, need_column(columns, TAGS, label, table.path), classes)
