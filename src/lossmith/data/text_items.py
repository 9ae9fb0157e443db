"""Texts and the items that belong to each: a title and its tags, a post and its hashtags."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lossmith.data.errors import DataError, listed
from lossmith.data.files import existing, fingerprint, format_of
from lossmith.data.interaction_files import ENDINGS, header_columns
from lossmith.data.interactions import InteractionData, Pairs, make_interactions, unique_pairs
from lossmith.data.labels import ordered, part_lists
from lossmith.data.parts import ORDER, held_out, no_parts, part_files, split_parts
from lossmith.data.progress import track
from lossmith.data.roles import ITEMS, TEXT, USER, find_column, need_column
from lossmith.data.tables import SUFFIXES, load_table
from lossmith.data.text import need_same, text_groups, text_values


@dataclass(frozen=True)
class TextItemsPart:
    """Texts, and the items of each."""

    texts: list[str]
    items: list[list[str]]

    def __len__(self) -> int:
        return len(self.texts)

    def rows(self, index: NDArray[np.int64]) -> TextItemsPart:
        """The part made of these rows."""
        return TextItemsPart([self.texts[i] for i in index], [self.items[i] for i in index])


@dataclass(frozen=True, eq=False)
class TextItemsData:
    """A data set of texts with items: its parts (``train``, maybe ``valid`` and ``test``)."""

    name: str
    parts: dict[str, TextItemsPart] = field(repr=False)
    notes: tuple[str, ...]  # what was guessed or done to it, in sentences

    @property
    def item_ids(self) -> list[str]:
        """The catalogue: every item that some text has, in order."""
        return list(ordered(i for part in self.parts.values() for row in part.items for i in row))

    def texts(self) -> list[str]:
        """The texts of all parts, one part after the other."""
        return [text for part in self.parts.values() for text in part.texts]

    def interactions(self) -> InteractionData:
        """The same with each text as a user of its own, numbered as :meth:`texts` lists them."""
        items = self.item_ids
        place = {item: i for i, item in enumerate(items)}
        parts: dict[str, Pairs] = {}
        rows = 0
        for name, part in self.parts.items():
            counts = [len(row) for row in part.items]
            users = np.repeat(np.arange(rows, rows + len(part), dtype=np.int64), counts)
            taken = [place[item] for row in part.items for item in row]
            parts[name] = unique_pairs(users, np.array(taken, dtype=np.int64), len(items))
            rows += len(part)
        made = make_interactions(
            self.name, [str(row) for row in range(rows)], items, parts, self.notes
        )
        texts = fingerprint([made.fingerprint, *self.texts()])
        return InteractionData(**{**vars(made), "fingerprint": texts})


def is_text_items(path: str | Path, *, text: str | None, user: str | None) -> bool:
    """Whether rows are texts: a column of texts is named, or there is one and none for a user."""
    if text or user:
        return bool(text)
    return _known(path) == {"text", "items"}


def is_of_users(path: str | Path) -> bool:
    """Whether there is a column for a user and none that is known to hold texts."""
    known = _known(path)
    return "user" in known and "text" not in known


def _known(path: str | Path) -> set[str]:
    """Which of user, text and items have a column, by the names; nothing where it is no table."""
    path = existing(path)
    file = part_files(path, ENDINGS).get("train") if path.is_dir() else path
    if file is None or format_of(file) not in SUFFIXES:
        return set()
    columns = header_columns(file)
    roles = {"user": USER, "text": TEXT, "items": ITEMS}
    try:
        return {name for name, role in roles.items() if find_column(columns, role, None, file)}
    except DataError:  # several would do: the reader of interactions says so
        return set()


def read_text_items(
    path: str | Path, *, text: str | None = None, item: str | None = None
) -> TextItemsData:
    """The texts and items in a table, or in the train, valid and test tables of a folder.

    Columns are found by name, or named by ``text`` and ``item``. A cell of items is a list
    (JSON's, Parquet's, or Python's as text, which is parsed and never evaluated), or words
    between ``|``, ``;`` or ``,``. Rows without an item are left out: they say nothing.
    """
    path = existing(path)
    files = part_files(path, SUFFIXES) if path.is_dir() else {"train": path}
    if not files:
        raise no_parts(path, SUFFIXES)
    tables = {part: load_table(file) for part, file in track(files.items(), f"Reading {path.name}")}
    first = tables["train"]
    notes = [note for table in tables.values() for note in table.notes]
    text_column = need_column(first.frame.columns, TEXT, text, first.path)
    item_column = need_column(first.frame.columns, ITEMS, item, first.path)
    for table in tables.values():
        need_same(table, (TEXT, text_column), (ITEMS, item_column))
    lists, more = part_lists(tables, item_column)
    notes += [_role_note(first.frame.columns, text_column, item_column), *more]
    parts: dict[str, TextItemsPart] = {}
    for name, table in tables.items():
        whole = TextItemsPart(text_values(table, text_column, notes), lists[name])
        some = np.flatnonzero([bool(row) for row in whole.items])
        if not len(some):
            raise table.error("no row has an item", column=item_column, expected="some items")
        if len(some) < len(whole):
            count = len(whole) - len(some)
            notes.append(f"{table.path.name}: {count:,} rows without an item were left out.")
        parts[name] = whole.rows(some)
    notes += _unseen(parts)
    in_order = {part: parts[part] for part in ORDER if part in parts}
    return TextItemsData(path.name.split(".")[0] or str(path), in_order, tuple(notes))


def _role_note(columns: Sequence[str], text: str, item: str) -> str:
    note = f"Each row is a text, column {text!r}, and its items are in column {item!r}."
    unused = [name for name in columns if name not in (text, item)]
    return f"{note} Not used: {listed(unused)}." if unused else note


def _unseen(parts: Mapping[str, TextItemsPart]) -> list[str]:
    """Items that no text to train on has: they stay in the catalogue, and can hardly be found."""
    trained = {item for row in parts["train"].items for item in row}
    notes = []
    for name, part in parts.items():
        new = {item for row in part.items for item in row} - trained
        if new:
            notes.append(
                f"{len(new):,} items of the {name} part are in no training text: "
                f"{listed(ordered(new))}."
            )
    return notes


def split_text_items(
    data: TextItemsData, *, test: float = 0.2, valid: float = 0.1, seed: int = 0
) -> TextItemsData:
    """The data with the parts that are missing held out of ``train``, copies of a text together.

    ``test`` is a share of the texts given as train, ``valid`` of what is left of them. Parts that
    were given stay as they are, but with ``valid=0`` a given valid part is trained on.
    """
    parts, notes = split_parts(
        data.name,
        data.parts,
        test=test,
        valid=valid,
        seed=seed,
        join=lambda one, two: TextItemsPart(one.texts + two.texts, one.items + two.items),
        hold=_held_out,
        unit="texts",
        how="; copies of a text stay together",
    )
    in_order = {part: parts[part] for part in ORDER if part in parts}
    return TextItemsData(data.name, in_order, (*data.notes, *notes))


def _held_out(part: TextItemsPart, share: float, rng: np.random.Generator) -> NDArray[np.bool_]:
    group = text_groups(part.texts)
    return held_out(group, np.zeros(group.max() + 1, dtype=np.int64), share, rng)
