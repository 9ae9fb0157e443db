"""Who used what: pairs of a user and an item, from ratings, play counts, clicks or baskets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from lossmith.data.errors import DataError
from lossmith.data.interaction_files import ENDINGS, Log, id_list, read_log, sole_log
from lossmith.data.labels import ordered
from lossmith.data.parts import ORDER, check_shares, part_files, percent
from lossmith.data.progress import track
from lossmith.data.roles import VALUE, option
from lossmith.data.tables import existing, fingerprint

Index = NDArray[np.int64]


@dataclass(frozen=True)
class Pairs:
    """Interactions, each once, sorted by user and then by item: int64 ``[n]`` and ``[n]``."""

    users: Index
    items: Index

    def __len__(self) -> int:
        return len(self.users)

    def rows(self, keep: NDArray[np.bool_]) -> Pairs:
        """The pairs where ``keep`` is true."""
        return Pairs(self.users[keep], self.items[keep])


@dataclass(frozen=True)
class InteractionData:
    """A data set of interactions; users and items are numbered from 0."""

    name: str
    users: int
    items: int
    parts: dict[str, Pairs]  # "train", maybe "valid" and "test"
    notes: tuple[str, ...]  # what was guessed or done to it, in sentences
    fingerprint: str  # of the content of all parts
    user_ids: list[str]  # the original names, by number
    item_ids: list[str]


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
    code = np.unique(users * max(items_count, 1) + items)
    return Pairs(*np.divmod(code, max(items_count, 1)))


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
    logs = {
        part: read_log(file, user=user, item=item, value=value, minimum=minimum)
        for part, file in track(files.items(), f"Reading {path.name}")
    }
    notes = list(dict.fromkeys(note for log in logs.values() for note in log.notes))
    notes += _value_notes(logs["train"], minimum)
    folder = path if path.is_dir() else path.parent
    whole = path.is_dir() and all(log.by_number for log in logs.values())
    user_ids = (id_list(folder / "user_list.txt") if whole else None) or _ids(logs, "user")
    item_ids = (id_list(folder / "item_list.txt") if whole else None) or _ids(logs, "item")
    listed_users = whole and (folder / "user_list.txt").is_file()
    listed_items = whole and (folder / "item_list.txt").is_file()
    parts: dict[str, Pairs] = {}
    for part, log in logs.items():
        users = _numbers(log, "user", None if listed_users else user_ids, len(user_ids))
        items = _numbers(log, "item", None if listed_items else item_ids, len(item_ids))
        parts[part] = unique_pairs(users, items, len(item_ids))
        repeated = len(users) - len(parts[part])
        if repeated:
            notes.append(
                f"{log.path.name}: {repeated:,} repeated pairs of user and item were merged."
            )
    if not len(parts["train"]):
        raise DataError(
            "no interactions"
            + ("" if minimum is None else f" with a value of {minimum:g} or more"),
            path=logs["train"].path,
            expected="at least one",
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


def _ids(logs: Mapping[str, Log], column: str) -> list[str]:
    seen = [log.pairs.get_column(column).unique() for log in logs.values()]
    return list(ordered(pl.concat(seen).to_list()))


def _numbers(log: Log, column: str, ids: list[str] | None, count: int) -> Index:
    """Each row's number: the place of its id, or the id itself where lists give the numbering."""
    series = log.pairs.get_column(column)
    if ids is not None:
        numbers = series.cast(pl.Enum(ids)).to_physical().cast(pl.Int64)
        return np.asarray(numbers.to_numpy(), dtype=np.int64)
    numbers = series.cast(pl.Int64)
    if len(numbers) and int(numbers.max()) >= count:  # type: ignore[arg-type]  # numbers, not dates
        raise DataError(
            f"{column} {numbers.max()} is not in {column}_list.txt, which ends at {count - 1}",
            path=log.path,
            value=numbers.max(),
            expected=f"a number below {count:,}",
            fix=f"Correct {column}_list.txt, or remove it to have the {column}s counted.",
        )
    return np.asarray(numbers.to_numpy(), dtype=np.int64)


def _leave_out_known(parts: dict[str, Pairs], items: int) -> list[str]:
    """Take from valid and test the pairs that an earlier part has: they are no prediction."""
    notes = []
    seen: Index = np.empty(0, dtype=np.int64)
    for part in ORDER:
        if part not in parts:
            continue
        pairs = parts[part]
        code = pairs.users * max(items, 1) + pairs.items
        new = ~np.isin(code, seen)
        if not new.all():
            parts[part] = pairs.rows(new)
            notes.append(
                f"{(~new).sum():,} {part} interactions are in an earlier part too and were left "
                f"out of {part}."
            )
        seen = np.concatenate([seen, code])
    return notes


def _only_trained(
    pairs: Pairs, trained_users: Index, part: str, users: int
) -> tuple[Pairs, list[str]]:
    known = np.zeros(users, dtype=bool)
    known[trained_users] = True
    keep = known[pairs.users]
    if keep.all():
        return pairs, []
    gone = len(np.unique(pairs.users[~keep]))
    note = (
        f"{gone:,} {'user has' if gone == 1 else 'users have'} no interactions to train on and "
        f"were left out of {part} ({(~keep).sum():,} interactions)."
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
