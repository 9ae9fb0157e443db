"""Who used what: pairs of a user and an item, from ratings, play counts, clicks or baskets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from lossmith.data.errors import DataError
from lossmith.data.files import existing, fingerprint
from lossmith.data.interaction_files import ENDINGS, Log, id_list, read_log, sole_log
from lossmith.data.labels import ordered
from lossmith.data.parts import ORDER, check_shares, part_files, percent
from lossmith.data.progress import track

Index = NDArray[np.int64]


@dataclass(frozen=True, eq=False)  # fingerprints are compared, not arrays
class Pairs:
    """Interactions, each once, sorted by user and then by item: int64 ``[n]`` and ``[n]``."""

    users: Index
    items: Index

    def __len__(self) -> int:
        return len(self.users)

    def rows(self, keep: NDArray[np.bool_]) -> Pairs:
        """The pairs where ``keep`` is true."""
        return Pairs(self.users[keep], self.items[keep])


@dataclass(frozen=True, eq=False)  # fingerprints are compared, not arrays
class InteractionData:
    """A data set of interactions; users and items are numbered from 0."""

    name: str
    users: int
    items: int
    parts: dict[str, Pairs] = field(repr=False)  # "train", maybe "valid" and "test"
    notes: tuple[str, ...]  # what was guessed or done to it, in sentences
    fingerprint: str  # of the content of all parts
    user_ids: list[str] = field(repr=False)  # the original names, by number
    item_ids: list[str] = field(repr=False)


def make_interactions(
    name: str,
    user_ids: list[str],
    item_ids: list[str],
    parts: Mapping[str, Pairs],
    notes: Sequence[str],
) -> InteractionData:
    """An :class:`InteractionData` with its parts in order, its counts and its fingerprint."""
    in_order = {part: parts[part] for part in ORDER if part in parts}
    chunks: list[bytes | str] = ["\n".join(user_ids), "\n".join(item_ids)]
    for part, pairs in in_order.items():
        chunks += [part, pairs.users.tobytes(), pairs.items.tobytes()]
    return InteractionData(
        name=name,
        users=len(user_ids),
        items=len(item_ids),
        parts=in_order,
        notes=tuple(notes),
        fingerprint=fingerprint(chunks),
        user_ids=user_ids,
        item_ids=item_ids,
    )


def unique_pairs(users: Index, items: Index, items_count: int) -> Pairs:
    """Each pair once, in order."""
    # By sorting: numpy's own unique hashes integers, which takes ten times as long here.
    code = np.sort(users * items_count + items)
    code = code[np.diff(code, prepend=-1) > 0]
    return Pairs(*np.divmod(code, items_count))


def read_interactions(
    path: str | Path,
    *,
    user: str | None = None,
    item: str | None = None,
    value: str | None = None,
    minimum: float | None = None,
) -> InteractionData:
    """The interactions in a file, or in a folder with one such file or one for each part.

    Read are tables with columns for user and item (found by name, or named by ``user``, ``item``,
    ``value``), MovieLens ``u.data`` by its shape, and files with one line per user,
    ``user item item ...``. Every row is an interaction; ``minimum`` keeps the rows whose value
    reaches it. The test and valid parts keep only users that have something to train on.
    """
    path = existing(path)
    files = part_files(path, ENDINGS) if path.is_dir() else {"train": path}
    files = files or {"train": sole_log(path, user=user, item=item, value=value)}
    logs: dict[str, Log] = {}
    for part, file in track(files.items(), f"Reading {path.name}"):
        # A test part of one item per user does not show its shape: the train part, first, does.
        user_lines = logs["train"].user_lines if logs else None
        logs[part] = read_log(
            file, user=user, item=item, value=value, minimum=minimum, user_lines=user_lines
        )
    if logs["train"].pairs.height == 0:
        raise DataError(
            "no interactions"
            + ("" if minimum is None else f" with a value of {minimum:g} or more"),
            path=logs["train"].path,
            expected="at least one",
        )
    notes = list(dict.fromkeys(note for log in logs.values() for note in log.notes))
    notes += _value_notes(logs["train"], minimum)
    user_ids, user_numbers = _numbered(path, logs, "user")
    item_ids, item_numbers = _numbered(path, logs, "item")
    parts: dict[str, Pairs] = {}
    for part, log in logs.items():
        users, items = user_numbers[part], item_numbers[part]
        parts[part] = unique_pairs(users, items, len(item_ids))
        repeated = len(users) - len(parts[part])
        if repeated:
            notes.append(
                f"{log.path.name}: {repeated:,} repeated pairs of user and item were merged."
            )
    notes += _leave_out_known(parts, len(item_ids))
    known = [pairs for part, pairs in parts.items() if part != "test"]
    if "test" in parts:
        trained = np.concatenate([pairs.users for pairs in known])
        parts["test"], more = _only_trained(parts["test"], trained, "test", len(user_ids))
        notes += more
    return make_interactions(path.name.split(".")[0] or str(path), user_ids, item_ids, parts, notes)


def _value_notes(log: Log, minimum: float | None) -> list[str]:
    if log.value_column is None:
        return []
    if minimum is not None:
        return [f"Kept are interactions whose {log.value_column!r} is {minimum:g} or more."]
    return [
        f"Every row counts as an interaction, whatever its {log.value_column!r}; "
        "a minimum keeps the high ones."
    ]


def _numbered(
    path: Path, logs: Mapping[str, Log], column: str
) -> tuple[list[str], dict[str, Index]]:
    """The ids of all parts in order, and each row's number among them.

    Where a list beside the files explains their numbers, those are kept.
    """
    series = {part: log.pairs.get_column(column) for part, log in logs.items()}
    listed = path.is_dir() and logs["train"].user_lines
    ids = id_list(path / f"{column}_list.txt") if listed else None
    if ids is None:
        seen = pl.concat([each.unique() for each in series.values()])
        ids = list(ordered(seen.to_list()))
        numbers = {part: each.cast(pl.Enum(ids)).to_physical() for part, each in series.items()}
    else:
        numbers = {part: each.cast(pl.Int64) for part, each in series.items()}
    for part, each in numbers.items():
        highest = each.cast(pl.Int64).max()
        if isinstance(highest, int) and highest >= len(ids):
            raise DataError(
                f"{column} {highest} is not in {column}_list.txt, which ends at {len(ids) - 1}",
                path=logs[part].path,
                value=highest,
                expected=f"a number below {len(ids):,}",
                fix=f"Correct {column}_list.txt, or remove it to have the {column}s counted.",
            )
    return ids, {part: each.cast(pl.Int64).to_numpy() for part, each in numbers.items()}


def _leave_out_known(parts: dict[str, Pairs], items: int) -> list[str]:
    """Take from valid and test the pairs that an earlier part has: they are no prediction."""
    notes = []
    seen: Index = np.empty(0, dtype=np.int64)
    for part in ORDER:
        if part not in parts:
            continue
        pairs = parts[part]
        code = pairs.users * items + pairs.items
        place = np.searchsorted(seen, code)
        new = np.append(seen, -1)[place] != code
        if not new.all():
            parts[part] = pairs.rows(new)
            notes.append(
                f"{(~new).sum():,} {part} interactions are in an earlier part too and were left "
                f"out of {part}."
            )
        seen = np.sort(np.concatenate([seen, code]))
    return notes


def _only_trained(
    pairs: Pairs, trained_users: Index, part: str, users: int
) -> tuple[Pairs, list[str]]:
    known = np.zeros(users, dtype=bool)
    known[trained_users] = True
    keep = known[pairs.users]
    if keep.all():
        return pairs, []
    gone = len(set(pairs.users[~keep].tolist()))
    note = (
        f"Left out of {part}: {gone:,} {'user' if gone == 1 else 'users'} without interactions to "
        f"train on ({(~keep).sum():,} of {len(pairs):,} interactions)."
    )
    return pairs.rows(keep), [note]


# ---------------------------------------------------------------------------- the split


def split_interactions(
    data: InteractionData, *, test: float = 0.2, valid: float = 0.1, seed: int = 0
) -> InteractionData:
    """The data with the parts that are missing held out of ``train``, at random over interactions.

    ``test`` is a share of the interactions given as train, ``valid`` of what is left of them.
    Parts that were given stay as they are, but with ``valid=0`` a given valid part is trained on.
    Users left without training interactions are not evaluated; items stay in the catalogue.
    """
    check_shares(test, valid)
    parts, notes = dict(data.parts), list(data.notes)
    if valid == 0 and "valid" in parts:
        first, second = parts["train"], parts.pop("valid")
        parts["train"] = unique_pairs(
            np.concatenate([first.users, second.users]),
            np.concatenate([first.items, second.items]),
            data.items,
        )
        notes.append("The given valid part is trained on, as valid=0 asks.")
    # Each part has a stream of its own, so that asking for no valid part leaves test as it is.
    for stream, (part, share) in enumerate((("test", test), ("valid", valid))):
        if part in parts or share == 0:
            continue
        whole = parts["train"]
        count = round(share * len(whole))
        if not 0 < count < len(whole):
            raise DataError(
                f"{data.name}: {len(whole):,} interactions are too few to hold out "
                f"{percent(share)} for {part}",
                expected="more interactions, or another share",
                fix=f"Give a {part} file, or {part}=0.5.",
            )
        held = np.zeros(len(whole), dtype=bool)
        held[np.random.default_rng([seed, stream]).permutation(len(whole))[:count]] = True
        parts[part], parts["train"] = whole.rows(held), whole.rows(~held)
        notes.append(
            f"The {part} part is {percent(share)} of the train interactions ({count:,} of "
            f"{len(whole):,}), drawn with seed {seed}."
        )
    for part in ("valid", "test"):
        if part in parts:
            parts[part], more = _only_trained(parts[part], parts["train"].users, part, data.users)
            notes += more
            if not len(parts[part]):
                raise DataError(
                    f"{data.name}: no user of the {part} part has interactions to train on",
                    expected="users with several interactions",
                )
    return make_interactions(data.name, data.user_ids, data.item_ids, parts, notes)
