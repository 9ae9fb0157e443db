"""The parts of a data set: the files of a folder that hold them, and what shares are allowed."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from lossmith.data.errors import DataError, listed
from lossmith.data.files import format_of

PART_WORDS = {
    "train": "train",
    "training": "train",
    "valid": "valid",
    "validation": "valid",
    "dev": "valid",
    "val": "valid",
    "vali": "valid",
    "test": "test",
    "testing": "test",
}
ORDER = ("train", "valid", "test")


class Part(Protocol):
    """Rows that belong together: what a part of a data set is made of."""

    def __len__(self) -> int:
        """How many there are."""

    def rows(self: P, index: NDArray[np.int64], /) -> P:
        """The part made of these."""


P = TypeVar("P", bound=Part)


def part_files(folder: Path, endings: Sequence[str]) -> dict[str, Path]:
    """The files of a folder that are called after a part: ``train.csv``, ``dev.csv``, ...

    A word of the name is enough (``sst2-train.jsonl``); two files for one part are an error, and
    so is a folder that has parts but none to train on. No part at all gives an empty dict.
    """
    found: dict[str, list[Path]] = {}
    for file in sorted(folder.iterdir()):
        if not file.is_file() or format_of(file) not in endings or file.name.startswith("."):
            continue
        words = re.split(r"[^a-z]+", file.name.lower())
        for part in {PART_WORDS[word] for word in words if word in PART_WORDS}:
            found.setdefault(part, []).append(file)
    for part, files in found.items():
        if len(files) > 1:
            raise DataError(
                f"{listed([file.name for file in files])} could each be the {part} part",
                path=folder,
                expected="one file for each part",
                fix="Put the files that belong together into a folder of their own.",
            )
    if found and "train" not in found:
        others = [found[part][0] for part in ORDER if part in found]
        raise DataError(
            f"no file for the train part; found {listed([file.name for file in others])}",
            path=folder,
            expected="train.csv, train.jsonl or the like beside them",
            fix=f"Rename one, or give a file and let it be split: {others[0]}.",
        )
    return {part: found[part][0] for part in ORDER if part in found}


def no_parts(folder: Path, endings: Sequence[str]) -> DataError:
    """The error for a folder in which nothing is called after a part."""
    names = sorted(entry.name for entry in folder.iterdir() if not entry.name.startswith("."))
    holds = f"it holds {listed(names)}" if names else "it is empty"
    usable = [name for name in names if format_of(Path(name)) in endings]
    return DataError(
        f"no file for the train part; {holds}",
        path=folder,
        expected="a file such as train.csv or train.jsonl, and test and valid files if there are",
        fix=f"Give a file itself and let it be split: {folder / usable[0]}." if usable else None,
    )


def check_shares(test: float, valid: float) -> None:
    """Raise unless the shares leave something to train on, test on and, if wanted, validate on."""
    for name, share, low in (("test", test, "(0"), ("valid", valid, "[0")):
        too_low = share <= 0 if low == "(0" else share < 0
        if isinstance(share, bool) or too_low or share >= 1:
            raise ValueError(f"{name} must lie in {low}, 1); got {share!r}.")


def split_parts(
    name: str,
    given: Mapping[str, P],
    *,
    test: float,
    valid: float,
    seed: int,
    join: Callable[[P, P], P],
    hold: Callable[[P, float, np.random.Generator], NDArray[np.bool_]],
    unit: str,
    how: str,
) -> tuple[dict[str, P], list[str]]:
    """The parts with those that are missing held out of ``train``, and notes on what was done.

    ``test`` is a share of what is given as train, ``valid`` of what is left of it; ``hold`` says
    which. Parts that were given stay as they are, but with ``valid=0`` a given valid part is
    joined to train. ``unit`` and ``how`` are words for the notes.
    """
    check_shares(test, valid)
    parts, notes = dict(given), []
    if valid == 0 and "valid" in parts:
        parts["train"] = join(parts["train"], parts.pop("valid"))
        notes.append("The given valid part is trained on, as valid=0 asks.")
    # Each part has a stream of its own, so that asking for no valid part leaves test as it is.
    for stream, (part, share) in enumerate((("test", test), ("valid", valid))):
        if part in parts or share == 0:
            continue
        whole = parts["train"]
        held = hold(whole, share, np.random.default_rng([seed, stream]))
        if not 0 < held.sum() < len(whole):
            raise DataError(
                f"{name}: {len(whole):,} {unit} are too few to hold out {percent(share)} for "
                f"{part}",
                expected=f"more {unit}, or another share",
                fix=f"Give a {part} file, or {part}=0.5.",
            )
        parts[part], parts["train"] = (
            whole.rows(np.flatnonzero(held)),
            whole.rows(np.flatnonzero(~held)),
        )
        notes.append(
            f"The {part} part is {percent(share)} of the train {unit} ({held.sum():,} of "
            f"{len(whole):,}), drawn with seed {seed}{how}."
        )
    return parts, notes


def held_out(
    group: NDArray[np.int64], stratum: NDArray[np.int64], share: float, rng: np.random.Generator
) -> NDArray[np.bool_]:
    """Which rows to hold out: whole groups, of each stratum the share of its rows.

    ``group`` numbers the group of each row from 0; ``stratum`` is one value for each group.
    """
    sizes = np.bincount(group)
    held = np.zeros(len(sizes), dtype=bool)
    for value in np.unique(stratum):
        members = rng.permutation(np.flatnonzero(stratum == value))
        total = np.cumsum(sizes[members])
        held[members[total <= round(share * int(total[-1]))]] = True
    return np.asarray(held[group])


def percent(share: float) -> str:
    """A share as the notes print it.

    >>> percent(0.125)
    '12.5 %'
    """
    return f"{100 * share:g} %"
