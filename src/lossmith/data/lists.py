"""Lists of items with graded relevance: the candidates of each query, described by numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lossmith.data.errors import DataError, listed
from lossmith.data.features import Matrix, blank_note
from lossmith.data.files import existing, fingerprint
from lossmith.data.list_files import ENDINGS, Rows, read_rows
from lossmith.data.parts import ORDER, held_out, no_parts, part_files, split_parts
from lossmith.data.progress import track

FOLDS = 5
# Fold k of LETOR trains on S_k and the next two, validates on the one after, tests on the last.
FOLD_PARTS = {"train": (0, 1, 2), "valid": (3,), "test": (4,)}


@dataclass(frozen=True, eq=False)  # fingerprints are compared, not arrays
class Lists:
    """Lists, one after the other; no list is ever cut."""

    features: Matrix  # float32 [items, F], NaN where blank
    relevance: NDArray[np.float32]  # [items], grades of 0 or more
    sizes: NDArray[np.int64]  # [lists], how many of the items each list has
    queries: list[str] = field(repr=False)  # the name of each list

    def __len__(self) -> int:
        return len(self.sizes)

    def rows(self, index: NDArray[np.int64]) -> Lists:
        """The part made of these lists."""
        ends = np.cumsum(self.sizes)
        kept = [np.arange(ends[i] - self.sizes[i], ends[i]) for i in index]
        items = np.concatenate([np.empty(0, dtype=np.int64), *kept])
        return Lists(
            self.features[items],
            self.relevance[items],
            self.sizes[index],
            [self.queries[i] for i in index],
        )


@dataclass(frozen=True, eq=False)  # fingerprints are compared, not arrays
class RankingData:
    """A data set of lists: its parts (``train``, maybe ``valid`` and ``test``)."""

    name: str
    features: tuple[str, ...]
    parts: dict[str, Lists] = field(repr=False)
    notes: tuple[str, ...]  # what was guessed or done to it, in sentences
    fingerprint: str  # of the content of all parts


def make_ranking(
    name: str, features: Sequence[str], parts: Mapping[str, Lists], notes: Sequence[str]
) -> RankingData:
    """A :class:`RankingData` with its parts in order and its fingerprint."""
    ordered = {part: parts[part] for part in ORDER if part in parts}
    chunks: list[bytes | str] = [*features]
    for part, lists in ordered.items():
        arrays = (lists.features, lists.relevance, lists.sizes)
        chunks += [part, *lists.queries, *(array.tobytes() for array in arrays)]
    return RankingData(name, tuple(features), ordered, tuple(notes), fingerprint(chunks))


def read_ranking(
    path: str | Path,
    *,
    query: str | None = None,
    label: str | None = None,
    features: str | None = None,
    fold: int = 1,
) -> RankingData:
    """The lists in a file, or in the train, valid and test files of a folder.

    Read are svmlight files with ``qid:``, or with LightGBM's file of list lengths beside them
    (``rank.train`` and ``rank.train.query``), and tables whose columns are found by name or named
    by ``query``, ``label`` and ``features``. LETOR's five parts (S1 to S5, or Fold1 to Fold5) make
    the parts of ``fold``.
    """
    path = existing(path)
    files, notes = _files(path, fold)
    read: dict[str, list[Rows]] = {}
    every = [(part, file) for part, several in files.items() for file in several]
    for part, file in track(every, f"Reading {path.name}"):
        like = read["train"][0] if "train" in read else None
        rows = read_rows(file, query=query, label=label, features=features, like=like)
        read.setdefault(part, []).append(rows)
    names = _common_features(read)
    notes += dict.fromkeys(
        note for several in read.values() for one in several for note in one.notes
    )
    parts = {}
    for part, several in read.items():
        parts[part], more = _lists(several, names)
        notes += more
    notes += blank_note({part: lists.features for part, lists in parts.items()})
    _check_relevance(read["train"][0], parts["train"])
    notes += _repeated_queries(parts)
    return make_ranking(path.name.split(".")[0] or str(path), names, parts, notes)


def split_ranking(
    data: RankingData, *, test: float = 0.2, valid: float = 0.1, seed: int = 0
) -> RankingData:
    """The data with the parts that are missing held out of ``train``, whole lists at random.

    ``test`` is a share of the lists given as train, ``valid`` of what is left of them. Parts that
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
        unit="lists",
        how=", each with all of its items",
    )
    return make_ranking(data.name, data.features, parts, [*data.notes, *notes])


def _joined(first: Lists, second: Lists) -> Lists:
    return Lists(
        np.concatenate([first.features, second.features]),
        np.concatenate([first.relevance, second.relevance]),
        np.concatenate([first.sizes, second.sizes]),
        first.queries + second.queries,
    )


def _held_out(lists: Lists, share: float, rng: np.random.Generator) -> NDArray[np.bool_]:
    every = np.arange(len(lists))
    return held_out(every, np.zeros_like(every), share, rng)


def _files(path: Path, fold: int) -> tuple[dict[str, list[Path]], list[str]]:
    """The files of each part, and a note where a fold decided which."""
    if not path.is_dir():
        return {"train": [path]}, []
    if not 1 <= fold <= FOLDS:
        raise ValueError(f"fold={fold!r}; expected 1 to {FOLDS}.")
    others = f"fold=1 to fold={FOLDS} name the others"
    if (path / f"Fold{fold}").is_dir():
        found = part_files(path / f"Fold{fold}", ENDINGS)
        return {part: [file] for part, file in found.items()}, [f"Read is Fold{fold}; {others}."]
    fifths = [_fifth(path, number) for number in range(1, FOLDS + 1)]
    if all(fifths):
        chosen = {
            part: [file for place in places if (file := fifths[(fold - 1 + place) % FOLDS])]
            for part, places in FOLD_PARTS.items()
        }
        words = "; ".join(
            f"{part} is {', '.join(file.stem for file in several)}"
            for part, several in chosen.items()
        )
        return chosen, [f"Fold {fold} of {FOLDS}: {words} ({others})."]
    found = part_files(path, ENDINGS)
    if not found:
        raise no_parts(path, ENDINGS)
    return {part: [file] for part, file in found.items()}, []


def _fifth(folder: Path, number: int) -> Path | None:
    return next((file for file in sorted(folder.glob(f"S{number}.*")) if file.is_file()), None)


def _common_features(read: Mapping[str, Sequence[Rows]]) -> tuple[str, ...]:
    """The names of the features; svmlight files end where their last non-zero stands."""
    every = [rows for several in read.values() for rows in several]
    for rows in every:
        if rows.numbered != every[0].numbered:
            raise DataError(
                f"this file and {every[0].path.name} describe items in different ways",
                path=rows.path,
                expected="tables for all parts, or svmlight files for all",
            )
    widest = max(every, key=lambda rows: len(rows.names))
    names = widest.names
    if names and names[0] == "0" and widest.numbered and all(rows.no_zeroth for rows in every):
        names = names[1:]
    if not names:
        raise DataError("no features", path=widest.path, expected="at least one in some row")
    return names


def _lists(several: Sequence[Rows], names: tuple[str, ...]) -> tuple[Lists, list[str]]:
    """The rows of one part brought together by query, in the order in which these appear."""
    features = np.concatenate([rows.columns(names) for rows in several])
    relevance = np.concatenate([rows.relevance for rows in several])
    queries = [query for rows in several for query in rows.queries]
    number: dict[str, int] = {}
    code = np.array([number.setdefault(query, len(number)) for query in queries])
    notes = []
    apart = int((np.diff(code) != 0).sum()) + 1 - len(number)
    if apart:
        count = f"{apart:,} time{'s' if apart > 1 else ''}"
        notes.append(
            f"{several[0].path.name}: rows of a query stand apart {count}; they were brought "
            "together."
        )
    order = np.argsort(code, kind="stable")
    sizes = np.bincount(code, minlength=len(number))
    return Lists(features[order], relevance[order], sizes, list(number)), notes


def _check_relevance(rows: Rows, train: Lists) -> None:
    grades = np.unique(train.relevance)
    if len(grades) == 1:
        raise DataError(
            f"the relevance is {grades[0]:g} in all {len(train.relevance):,} rows",
            path=rows.path,
            value=float(grades[0]),
            expected="at least two grades",
            fix="Nothing can be learnt about an order from these.",
        )


def _repeated_queries(parts: Mapping[str, Lists]) -> list[str]:
    notes = []
    seen: set[str] = set()
    for part, lists in parts.items():
        again = [query for query in lists.queries if query in seen]
        if again:
            count = f"{len(again):,} quer{'ies' if len(again) > 1 else 'y'}"
            there = "are" if len(again) > 1 else "is"
            notes.append(
                f"{count} of the {part} part {there} in an earlier part too: "
                f"{listed(again, limit=3)}."
            )
        seen.update(lists.queries)
    return notes
