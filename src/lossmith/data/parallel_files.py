"""The files of parallel text: two of lines, one table, or a folder with either for each part."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from lossmith.core.words import did_you_mean
from lossmith.data.errors import DataError, listed
from lossmith.data.files import Table, read_bytes
from lossmith.data.labels import read_lists
from lossmith.data.parts import ORDER, PART_WORDS, no_parts, part_files
from lossmith.data.roles import KEYWORDS, SOURCE, TARGET, Role, find_column, need_column, normalised
from lossmith.data.tables import SUFFIXES


@dataclass(frozen=True)
class Pairs:
    """Pairs as read, and how to speak of their places."""

    sources: list[str]
    targets: list[str]
    keywords: list[list[str]]
    path: Path
    table: Table | None = None

    def rows(self) -> Iterator[tuple[str, str, list[str]]]:
        """Source, target and keywords of each pair."""
        return zip(self.sources, self.targets, self.keywords, strict=True)

    def place(self, row: int) -> str:
        """Where a row stands, as the notes say it."""
        if self.table is None:
            return f"{self.path.name}, line {row + 1}"
        at = self.table.error("", row)
        return f"{self.path.name}, {f'line {at.line}' if at.line else f'row {at.row}'}"

    def error(self, problem: str) -> DataError:
        """An error about all of them."""
        return DataError(problem, path=self.path, expected="a text in each of the two")


def is_pair(path: str | Path) -> bool:
    """Whether the text names two files, ``train.en,train.fr``, and is no file itself."""
    return str(path).count(",") == 1 and not Path(path).exists()


def part_tables(path: Path) -> dict[str, Path]:
    """The table of each part: of a folder those called after one, else the file itself."""
    if path.is_dir():
        return part_files(path, SUFFIXES)
    if not any(name in SUFFIXES for name in path.suffixes[-2:]):
        raise DataError(
            f"the ending {path.suffix or 'of the name'!r} is not that of a table",
            path=path,
            expected=f"one of {', '.join(SUFFIXES)}, or two files of lines",
            fix=f"For two files give both, the source first: {path.name},{path.stem}.OTHER",
        )
    return {"train": path}


# ---------------------------------------------------------------------------- two files of lines


def read_line_files(source: Path, target: Path) -> Pairs:
    """Line n of one file with line n of the other; another number of lines is an error."""
    sources, targets = _lines(source), _lines(target)
    if len(sources) != len(targets):
        raise _unequal(source, sources, target, targets)
    return Pairs(sources, targets, [[] for _ in sources], source)


def _lines(path: Path) -> list[str]:
    # Only the line feed ends a line: a text may hold U+2028 and its like.
    lines = read_bytes(path).decode().split("\n")
    return lines[:-1] if lines[-1] == "" else lines


def _unequal(source: Path, sources: list[str], target: Path, targets: list[str]) -> DataError:
    """The first line without a partner, and where the two may have come apart before."""
    shorter, longer = (source, target) if len(sources) < len(targets) else (target, source)
    more = max(sources, targets, key=len)
    line = min(len(sources), len(targets)) + 1
    pairs = enumerate(zip(sources, targets, strict=False), start=1)
    apart = next((i for i, (a, b) in pairs if bool(a.strip()) != bool(b.strip())), None)
    hint = f"They may come apart at line {apart}, blank in one of them. " if apart else ""
    return DataError(
        f"has no partner: {shorter.name} ends after line {line - 1:,} of {len(more):,}",
        path=longer,
        line=line,
        value=more[line - 1],
        expected="as many lines in both files",
        fix=f"{hint}Complete or shorten one of them.",
    )


def find_line_files(
    folder: Path, source: str | None, target: str | None, test_set: str | None
) -> tuple[dict[str, tuple[Path, Path]], list[str]]:
    """The two files of each part, ``train.en`` and ``train.fr``, and what was chosen."""
    found: dict[str, dict[str, dict[str, Path]]] = {}  # part -> set -> ending -> file
    for file in sorted(folder.iterdir()):
        stem, _, ending = file.name.removesuffix(".gz").rpartition(".")
        words = {PART_WORDS[w] for w in re.split(r"[^a-z]+", stem.lower()) if w in PART_WORDS}
        if file.is_file() and stem and not stem.startswith(".") and words:
            # "test_2016.1.en" has five captions a picture: the set is test_2016.1.
            found.setdefault(words.pop(), {}).setdefault(stem, {})[ending] = file
    if not found:
        raise no_parts(folder, SUFFIXES)
    endings = sorted({e for sets in found.values() for files in sets.values() for e in files})
    notes: list[str] = []
    first = _ending(folder, endings, SOURCE, source, notes)
    second = _ending(folder, endings, TARGET, target, notes)
    chosen = {}
    for part in ORDER:
        sets = {n: f for n, f in found.get(part, {}).items() if first in f and second in f}
        if sets:
            name = _one_set(folder, part, list(sets), test_set, notes)
            chosen[part] = (sets[name][first], sets[name][second])
    if "train" not in chosen:
        raise DataError(
            f"no train.{first} with train.{second} in it",
            path=folder,
            expected=f"both; the endings there are {listed(endings)}",
        )
    return chosen, notes


def _ending(
    folder: Path, endings: list[str], role: Role, given: str | None, notes: list[str]
) -> str:
    if given is not None:
        if given in endings:
            return given
        raise DataError(
            f"no file ends in .{given}",
            path=folder,
            expected=f"one of {listed(endings)}",
            fix=did_you_mean(given, endings).strip(),
        )
    named = [ending for ending in endings if normalised(ending) in (*role.plain, *role.others)]
    if len(named) == 1:
        notes.append(f"{role.what.capitalize()} is in the files that end in .{named[0]}.")
        return named[0]
    raise DataError(
        f"which files hold {role.what}? They end in {listed(endings)}",
        path=folder,
        expected="to be told the endings",
        fix=f"Say which: --{role.name} {endings[0]}, for example.",
    )


def _one_set(
    folder: Path, part: str, names: list[str], test_set: str | None, notes: list[str]
) -> str:
    """The set of a part that is read, where there may be several to test on."""
    if part == "test" and test_set:
        if test_set in names:
            return test_set
        raise DataError(
            f"no test set {test_set!r}",
            path=folder,
            expected=f"one of {listed(names)}",
            fix=did_you_mean(test_set, names).strip(),
        )
    if len(names) > 1 and part != "test":
        raise DataError(
            f"{listed(names)} could each be the {part} part",
            path=folder,
            expected="one for each part",
            fix="Put the files that belong together into a folder of their own.",
        )
    if len(names) > 1:
        notes.append(f"Of the test sets {listed(names)} the first is read (setting test_set).")
    return names[0]


# ---------------------------------------------------------------------------- tables


def read_pair_table(
    tables: Mapping[str, Table], source: str | None, target: str | None, keywords: str | None
) -> tuple[dict[str, Pairs], list[str], bool]:
    """The pairs of each part's table, what was guessed, and whether there are keywords."""
    first = tables["train"]
    columns = first.frame.columns
    notes = [note for table in tables.values() for note in table.notes]
    if source is None and target is None:
        source, target = _by_file_name(first, notes)
    chosen = {
        SOURCE: need_column(columns, SOURCE, source, first.path),
        TARGET: need_column(columns, TARGET, target, first.path),
    }
    terms = find_column(columns, KEYWORDS, keywords, first.path)
    if terms is not None:
        chosen[KEYWORDS] = terms
    for role, given in ((SOURCE, source), (TARGET, target), (KEYWORDS, keywords)):
        if given is None and role in chosen:
            notes.append(f"{role.what.capitalize()}: column {chosen[role]!r}, by its name.")
    unused = [name for name in columns if name not in chosen.values()]
    if unused:
        notes.append(f"Not used: {'column' if len(unused) == 1 else 'columns'} {listed(unused)}.")
    parts = {}
    for part, table in tables.items():
        sources, targets = (_texts(table, role, chosen[role]) for role in (SOURCE, TARGET))
        lists = [[] for _ in sources] if terms is None else _lists(table, terms)
        parts[part] = Pairs(sources, targets, lists, table.path, table)
    return parts, notes, terms is not None


def _by_file_name(table: Table, notes: list[str]) -> tuple[str | None, str | None]:
    """Columns that the file is called after: ``en-fr.jsonl`` with columns en and fr."""
    words = re.split(r"[^A-Za-z]+", table.path.name.split(".")[0])
    if len(words) == 2 and words[0] != words[1] and set(words) <= set(table.frame.columns):
        notes.append(f"From {words[0]!r} to {words[1]!r}, as the file is called.")
        return words[0], words[1]
    return None, None


def _lists(table: Table, column: str) -> list[list[str]]:
    _need(table, KEYWORDS, column)
    return read_lists(table, column)


def _texts(table: Table, role: Role, column: str) -> list[str]:
    _need(table, role, column)
    series = table.frame.get_column(column)
    if series.dtype != pl.String:
        raise table.error(
            f"holds values of type {series.dtype}",
            0,
            column=column,
            value=series[0],
            expected="texts",
            fix=f"Name the column that holds them: --{role.name} NAME.",
        )
    return series.fill_null("").to_list()


def _need(table: Table, role: Role, column: str) -> None:
    if column not in table.frame.columns:
        raise table.error(
            f"no column {column!r} among {listed(table.frame.columns)}",
            column=column,
            expected=f"{role.what} there, as in the train part",
        )
