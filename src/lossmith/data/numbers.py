"""A number for each example, to be predicted from a text or from a table of features."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lossmith.data import svmlight
from lossmith.data.errors import DataError
from lossmith.data.features import (
    Matrix,
    blank_note,
    feature_columns,
    feature_notes,
    read_features,
    read_number,
)
from lossmith.data.files import Table, existing, fingerprint, format_of
from lossmith.data.parts import ORDER, held_out, no_parts, part_files, split_parts
from lossmith.data.progress import track
from lossmith.data.roles import FEATURES, NUMBER, TEXT, find_column, need_column, option
from lossmith.data.tables import SUFFIXES, load_table
from lossmith.data.text import TextData, TextPart, make_text, need_same, text_values

ENDINGS = (*SUFFIXES, *svmlight.ENDINGS)


@dataclass(frozen=True, eq=False)  # fingerprints are compared, not arrays
class FeaturePart:
    """Examples described by numbers, and the number of each that is to be predicted."""

    features: Matrix  # float32 [N, F], NaN where blank
    target: NDArray[np.float32]  # [N]

    def __len__(self) -> int:
        return len(self.target)

    def rows(self, index: NDArray[np.int64]) -> FeaturePart:
        """The part made of these examples."""
        return FeaturePart(self.features[index], self.target[index])


@dataclass(frozen=True, eq=False)  # fingerprints are compared, not arrays
class FeatureData:
    """A data set of features: its parts (``train``, maybe ``valid`` and ``test``)."""

    name: str
    features: tuple[str, ...]
    parts: dict[str, FeaturePart] = field(repr=False)
    notes: tuple[str, ...]  # what was guessed or done to it, in sentences
    fingerprint: str  # of the content of all parts


def make_features(
    name: str, features: Sequence[str], parts: Mapping[str, FeaturePart], notes: Sequence[str]
) -> FeatureData:
    """A :class:`FeatureData` with its parts in order and its fingerprint."""
    ordered = {part: parts[part] for part in ORDER if part in parts}
    chunks: list[bytes | str] = [*features]
    for part, content in ordered.items():
        chunks += [part, content.features.tobytes(), content.target.tobytes()]
    return FeatureData(name, tuple(features), ordered, tuple(notes), fingerprint(chunks))


def read_numbers(
    path: str | Path,
    *,
    text: str | None = None,
    target: str | None = None,
    features: str | None = None,
) -> TextData | FeatureData:
    """The examples in a file, or in the train, valid and test files of a folder.

    A table with a text (found by name, or named by ``text``) is text to number; one without, or
    with ``features`` named, is features to number; so is an svmlight file. ``target`` names the
    column with the number.
    """
    path = existing(path)
    files = part_files(path, ENDINGS) if path.is_dir() else {"train": path}
    if not files:
        raise no_parts(path, ENDINGS)
    if text and features:
        raise DataError(
            "both a text and features were named",
            path=path,
            expected="one of them, as a model here reads one kind",
            fix=f"Leave out {option(TEXT, text)} or {option(FEATURES, features)}.",
        )
    name = path.name.split(".")[0] or str(path)
    if format_of(files["train"]) not in SUFFIXES:
        return _from_svmlight(name, files)
    read = track(files.items(), f"Reading {path.name}")
    tables = {part: load_table(file) for part, file in read}
    first = tables["train"]
    text_column = None if features else find_column(first.frame.columns, TEXT, text, first.path)
    number = need_column(first.frame.columns, NUMBER, target, first.path)
    notes = [] if target else [f"The target is column {number!r}, by its name."]
    if text_column is not None:
        notes += [] if text else [f"The text is column {text_column!r}, by its name."]
        return _from_texts(name, tables, text_column, number, notes)
    return _from_columns(name, tables, features, number, notes)


def split_numbers(
    data: FeatureData, *, test: float = 0.2, valid: float = 0.1, seed: int = 0
) -> FeatureData:
    """The data with the parts that are missing held out of ``train``, copies of a row together.

    ``test`` is a share of the rows given as train, ``valid`` of what is left of them. Parts that
    were given stay as they are, but with ``valid=0`` a given valid part is trained on.
    """
    parts, notes = split_parts(
        data.name,
        data.parts,
        test=test,
        valid=valid,
        seed=seed,
        join=_joined,
        hold=_held_out,
        unit="rows",
        how="; copies of a row stay together",
    )
    return make_features(data.name, data.features, parts, [*data.notes, *notes])


def _joined(first: FeaturePart, second: FeaturePart) -> FeaturePart:
    return FeaturePart(
        np.concatenate([first.features, second.features]),
        np.concatenate([first.target, second.target]),
    )


def _held_out(part: FeaturePart, share: float, rng: np.random.Generator) -> NDArray[np.bool_]:
    groups: dict[bytes, int] = {}
    whole = np.column_stack([part.features, part.target])
    group = np.array([groups.setdefault(row.tobytes(), len(groups)) for row in whole])
    return held_out(group, np.zeros(len(groups), dtype=np.int64), share, rng)


def _from_texts(
    name: str, tables: Mapping[str, Table], text: str, number: str, notes: list[str]
) -> TextData:
    parts = {}
    unused = [c for c in tables["train"].frame.columns if c not in (text, number)]
    if unused:
        names = ", ".join(map(repr, unused[:8]))
        notes.append(f"Not used: {'column' if len(unused) == 1 else 'columns'} {names}.")
    for part, table in tables.items():
        notes += table.notes
        need_same(table, (TEXT, text), (NUMBER, number))
        values = read_number(table, number, NUMBER)
        parts[part] = TextPart(text_values(table, text, notes), values)
    _check_spread(parts["train"].labels, tables["train"].path, number)
    return make_text(name, "regression", (), parts, notes)


def _from_columns(
    name: str, tables: Mapping[str, Table], given: str | None, number: str, notes: list[str]
) -> FeatureData:
    first = tables["train"]
    columns = feature_columns(first, [number], given)
    notes += feature_notes(first, columns, [number])
    parts = {}
    for part, table in tables.items():
        notes += table.notes
        need_same(table, (NUMBER, number))
        values = read_number(table, number, NUMBER)
        parts[part] = FeaturePart(read_features(table, columns), values)
    notes += blank_note({part: content.features for part, content in parts.items()})
    _check_spread(parts["train"].target, first.path, number)
    return make_features(name, columns, parts, notes)


def _from_svmlight(name: str, files: Mapping[str, Path]) -> FeatureData:
    read = {part: svmlight.read_svmlight(file, queries=False) for part, file in files.items()}
    width = max(rows.features.shape[1] for rows in read.values())
    start = 0 if any(rows.features[:, 0].any() for rows in read.values()) else 1
    parts = {}
    for part, rows in read.items():
        whole = np.zeros((len(rows.labels), width), dtype=np.float32)
        whole[:, : rows.features.shape[1]] = rows.features
        parts[part] = FeaturePart(whole[:, start:], rows.labels.astype(np.float32))
    _check_spread(parts["train"].target, read["train"].path, None)
    columns = tuple(map(str, range(start, width)))
    notes = ["The target is the number at the start of a line; what qid: says is not used."]
    notes += blank_note({part: content.features for part, content in parts.items()})
    return make_features(name, columns, parts, notes)


def _check_spread(target: NDArray[np.float32], path: Path, column: str | None) -> None:
    if len(np.unique(target)) == 1:
        raise DataError(
            f"the target is {target[0]:g} in all {len(target):,} rows",
            path=path,
            column=column,
            value=float(target[0]),
            expected="numbers that differ",
            fix=f"Is it the right column? {option(NUMBER, 'NAME')} names another.",
        )
