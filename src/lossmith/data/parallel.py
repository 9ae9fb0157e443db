"""Parallel text: a source and a target a line, and the keywords that the target has to say."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lossmith.data.errors import DataError
from lossmith.data.files import existing, fingerprint
from lossmith.data.parallel_files import (
    Pairs,
    find_line_files,
    is_pair,
    part_tables,
    read_line_files,
    read_pair_table,
)
from lossmith.data.parts import ORDER, check_shares, percent
from lossmith.data.progress import track
from lossmith.data.tables import load_table


@dataclass(frozen=True)
class ParallelPart:
    """Sources and targets, and for each pair the keywords that its target has to say."""

    sources: list[str]
    targets: list[str]
    keywords: list[tuple[str, ...]]

    def __len__(self) -> int:
        return len(self.sources)

    def rows(self, index: Sequence[int] | NDArray[np.int64]) -> ParallelPart:
        """The part made of these rows."""
        columns = (self.sources, self.targets, self.keywords)
        return ParallelPart(*([column[i] for i in index] for column in columns))  # type: ignore[arg-type]  # mypy joins the three types


@dataclass(frozen=True)
class ParallelData:
    """A data set of pairs: its parts (``train``, maybe ``valid`` and ``test``)."""

    name: str
    parts: dict[str, ParallelPart] = field(repr=False)
    notes: tuple[str, ...]  # what was guessed or done to it, in sentences
    has_keywords: bool  # whether the data came with keywords of its own

    @property
    def fingerprint(self) -> str:
        """16 digits for the content of all parts."""
        chunks: list[bytes | str] = ["generation"]
        for name, part in self.parts.items():
            chunks += [name, *part.sources, *part.targets]
            chunks += ["\n".join(terms) for terms in part.keywords]
        return fingerprint(chunks)


def make_parallel(
    name: str, parts: Mapping[str, Pairs], notes: Sequence[str], *, has_keywords: bool
) -> ParallelData:
    """A :class:`ParallelData` of pairs as read, white space made even and blank pairs left out."""
    notes = list(notes)
    made = {}
    for part in ORDER:
        if part not in parts:
            continue
        kept = []
        for i, (source, target, terms) in enumerate(parts[part].rows()):
            row = (" ".join(source.split()), " ".join(target.split()))
            if all(row):
                kept.append((*row, tuple(dict.fromkeys(" ".join(t.split()) for t in terms))))
            elif len(kept) == i:
                first = parts[part].place(i)
        blank = len(parts[part].sources) - len(kept)
        if not kept:
            raise parts[part].error("no pair has text on both sides")
        if blank:
            notes.append(
                f"{first}: {'a pair is' if blank == 1 else f'the first of {blank:,} pairs'} "
                "blank on one side; left out."
            )
        made[part] = ParallelPart(*(list(column) for column in zip(*kept, strict=True)))
    return ParallelData(name, made, tuple(notes), has_keywords)


def read_parallel(
    path: str | Path,
    *,
    source: str | None = None,
    target: str | None = None,
    keywords: str | None = None,
    test_set: str | None = None,
) -> ParallelData:
    """The pairs in a table, in two files line by line, or in the parts of a folder.

    - ``pairs.csv`` (or tsv, jsonl, json, parquet): ``source`` and ``target`` name its columns where
      their names do not tell; a column of keywords is used if there is one.
    - ``train.en,train.fr``: line n of the first is the source of line n of the second.
    - a folder with a table for each part, or with ``train.en``, ``train.fr``, ``test.en``, ...:
      ``source`` and ``target`` are the endings. All may end in ``.gz``. Of several test sets
      ``test_set`` names one (``test_2016_flickr``).
    """
    if is_pair(path):
        files = dict(zip(("source", "target"), map(existing, str(path).split(",")), strict=True))
        pairs = read_line_files(files["source"], files["target"])
        notes = [f"Each line of {files['source'].name} with that of {files['target'].name}."]
        name = re.split(r"[.\W]", files["source"].name)[0] or "pairs"
        return make_parallel(name, {"train": pairs}, notes, has_keywords=False)
    path = existing(path)
    tables = part_tables(path)
    if path.is_dir() and not tables:
        line_files, notes = find_line_files(path, source, target, test_set)
        read = track(line_files.items(), f"Reading {path.name}")
        parts = {part: read_line_files(*files) for part, files in read}
        return make_parallel(path.name, parts, notes, has_keywords=False)
    loaded = {part: load_table(file) for part, file in track(tables.items(), path.name)}
    parts, notes, has_keywords = read_pair_table(loaded, source, target, keywords)
    return make_parallel(path.name.split(".")[0], parts, notes, has_keywords=has_keywords)


# ---------------------------------------------------------------------------- the split


def split_parallel(
    data: ParallelData, *, test: float = 0.2, valid: float = 0.1, seed: int = 0, subset: int = 0
) -> ParallelData:
    """The data with the parts that are missing held out of ``train``.

    ``test`` is a share of the rows given as train, ``valid`` of what is left of them; copies of a
    source stay on one side. Parts that were given stay as they are, but with ``valid=0`` a given
    valid part is trained on. ``subset`` keeps that many training pairs, drawn at random.
    """
    check_shares(test, valid)
    parts, notes = dict(data.parts), list(data.notes)
    if valid == 0 and "valid" in parts:
        parts["train"] = _joined(parts["train"], parts.pop("valid"))
        notes.append("The given valid part is trained on, as valid=0 asks.")
    # Each part has a stream of its own, so that asking for no valid part leaves test as it is.
    for stream, (part, share) in enumerate((("test", test), ("valid", valid))):
        if part in parts or share == 0:
            continue
        whole = parts["train"]
        held = _held_out(whole.sources, share, np.random.default_rng([seed, stream]))
        if not 0 < held.sum() < len(whole):
            raise DataError(
                f"{data.name}: {len(whole):,} pairs are too few to hold out {percent(share)} "
                f"for {part}",
                expected="more pairs, or another share",
                fix=f"Give a {part} file, or {part}=0.5.",
            )
        parts[part] = whole.rows(np.flatnonzero(held))
        parts["train"] = whole.rows(np.flatnonzero(~held))
        notes.append(
            f"The {part} part is {percent(share)} of the train pairs ({held.sum():,} of "
            f"{len(whole):,}), drawn with seed {seed}; copies of a source stay together."
        )
    if 0 < subset < len(parts["train"]):
        whole = parts["train"]
        drawn = np.random.default_rng([seed, 2]).permutation(len(whole))[:subset]
        parts["train"] = whole.rows(np.sort(drawn))
        notes.append(
            f"{subset:,} of {len(whole):,} training pairs are used, drawn with seed {seed}."
        )
    return replace(
        data, parts={part: parts[part] for part in ORDER if part in parts}, notes=tuple(notes)
    )


def limit_words(data: ParallelData, most: int) -> ParallelData:
    """The data without the pairs of which a side has more words (parted by space) than ``most``."""
    parts, dropped, total = {}, 0, 0
    for name, part in data.parts.items():
        sides = zip(part.sources, part.targets, strict=True)
        short = [max(a.count(" "), b.count(" ")) < most for a, b in sides]
        parts[name] = part.rows(np.flatnonzero(short))
        dropped, total = dropped + len(part) - len(parts[name]), total + len(part)
        if not len(parts[name]):
            raise DataError(
                f"{data.name}: every pair of the {name} part has more than {most} words on a side",
                expected="shorter pairs, or a higher limit",
                fix=f"Try max_words={2 * most}.",
            )
    if not dropped:
        return data
    note = (
        f"{dropped:,} of {total:,} pairs are left out, of every part alike: a side has more than "
        f"{most} words (setting max_words)."
    )
    return replace(data, parts=parts, notes=(*data.notes, note))


def _joined(first: ParallelPart, second: ParallelPart) -> ParallelPart:
    return ParallelPart(
        first.sources + second.sources,
        first.targets + second.targets,
        first.keywords + second.keywords,
    )


def _held_out(sources: Sequence[str], share: float, rng: np.random.Generator) -> NDArray[np.bool_]:
    """Which rows to hold out: whole groups of equal sources, about that share of the rows."""
    groups: dict[str, int] = {}
    group = np.array([groups.setdefault(source, len(groups)) for source in sources])
    order = rng.permutation(len(groups))
    total = np.cumsum(np.bincount(group)[order])
    held = np.zeros(len(groups), dtype=bool)
    held[order[total <= round(share * len(sources))]] = True
    return np.asarray(held[group])
