"""The files of retrieval: tables of pairs, or a folder with a corpus, queries and judgements."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import polars as pl

from lossmith.core.words import did_you_mean
from lossmith.data.errors import DataError, listed
from lossmith.data.files import Table, existing, read_bytes
from lossmith.data.parts import no_parts, part_files
from lossmith.data.progress import track
from lossmith.data.queries import Judgement, Queries, RetrievalData, even, gather, make_retrieval
from lossmith.data.roles import (
    ASKED,
    GRADE,
    NEGATIVE,
    POSITIVE,
    Role,
    find_column,
    need_column,
    normalised,
    option,
)
from lossmith.data.tables import SUFFIXES, json_objects, load_table

CORPUS, QUERIES, QRELS = "corpus.jsonl", "queries.jsonl", "qrels"
HEADER = ("query-id", "corpus-id", "score")  # of the judgements


def read_retrieval(
    path: str | Path,
    *,
    query: str | None = None,
    positive: str | None = None,
    negative: str | None = None,
    label: str | None = None,
) -> RetrievalData:
    """The queries and documents in a table of pairs, in its parts, or in a folder as BEIR has it.

    - ``pairs.csv`` (or tsv, jsonl, json, parquet), or a folder with a table for each part: a query
      and a relevant document a row, maybe documents that are not relevant. ``query``, ``positive``,
      ``negative`` (several: separated by commas) and ``label`` (the grade of the document) name
      the columns where their names do not tell. The corpus is every document of every part.
    - a folder with ``corpus.jsonl`` (``_id``, ``title``, ``text``), ``queries.jsonl`` (``_id``,
      ``text``) and ``qrels/train.tsv`` and the like (``query-id``, ``corpus-id``, ``score``).

    All may end in ``.gz``. Documents of the same text are one document, and so are queries.
    """
    path = existing(path)
    if path.is_dir() and _file(path, CORPUS) is not None:
        return _read_folder(path)
    files = part_files(path, SUFFIXES) if path.is_dir() else {"train": path}
    if not files:
        raise no_parts(path, SUFFIXES)
    tables = {part: load_table(file) for part, file in track(files.items(), f"Reading {path.name}")}
    return _read_tables(path, tables, query, positive, negative, label)


# ---------------------------------------------------------------------------- tables of pairs

# A query, a document and a grade, before the documents have places.
Row = tuple[str, str, float]


def _read_tables(
    path: Path,
    tables: Mapping[str, Table],
    query: str | None,
    positive: str | None,
    negative: str | None,
    label: str | None,
) -> RetrievalData:
    first = tables["train"]
    columns = first.frame.columns
    asked = need_column(columns, ASKED, query, first.path)
    right = need_column([c for c in columns if c != asked], POSITIVE, positive, first.path)
    wrong = _negative_columns(first, negative)
    grade = find_column([c for c in columns if c not in (asked, right)], GRADE, label, first.path)
    notes = [note for table in tables.values() for note in table.notes]
    for role, given, column in ((ASKED, query, asked), (POSITIVE, positive, right)):
        if given is None:
            notes.append(f"{role.what.capitalize()}: column {column!r}, by its name.")
    if wrong and negative is None:
        notes.append(f"Documents that are not relevant: {listed(wrong)}, by name.")
    if grade is not None and label is None:
        notes.append(f"The grade of a document: column {grade!r}, by its name; 0: not relevant.")
    unused = [c for c in columns if c not in (asked, right, grade, *wrong)]
    if unused:
        notes.append(f"Not used: {'column' if len(unused) == 1 else 'columns'} {listed(unused)}.")
    rows = {
        part: [*_positives(table, asked, right, grade), *_negatives(table, asked, wrong)]
        for part, table in tables.items()
    }
    # In the order of their texts, which knows nothing of who is relevant: equal scores are ranked
    # by place.
    documents = sorted({document for part in rows.values() for _, document, _ in part})
    place = {document: i for i, document in enumerate(documents)}
    parts = {
        part: _gathered(
            tables[part].path, part, [(q, place[d], grade) for q, d, grade in own], notes
        )
        for part, own in rows.items()
    }
    names = [str(i) for i in range(len(documents))]
    name = path.name.split(".")[0] or str(path)
    return make_retrieval(name, documents, names, parts, notes)


def _negative_columns(table: Table, given: str | None) -> list[str]:
    """The columns given, or those called ``negative``, ``negative_1``, ``hard_negative_2``, ..."""
    columns = table.frame.columns
    if given is not None:
        named = [name.strip() for name in given.split(",") if name.strip()]
        return [need_column(columns, NEGATIVE, name, table.path) for name in named]
    bare = ((column, re.sub(r"\d+$", "", normalised(column))) for column in columns)
    return [column for column, name in bare if name in NEGATIVE.plain]


def _positives(table: Table, query: str, positive: str, grade: str | None) -> list[Row]:
    queries = _texts(table, ASKED, query)
    lists = _text_lists(table, POSITIVE, positive)
    grades = [1.0] * len(queries) if grade is None else _grades(table, grade)
    rows = []
    for i, (asked, documents, value) in enumerate(zip(queries, lists, grades, strict=True)):
        if not asked:
            raise table.error(
                "the query is blank", i, column=query, expected="a text", fix="Remove the row."
            )
        if not documents or not all(documents):
            raise table.error(
                "the relevant document is blank",
                i,
                column=positive,
                expected="a text",
                fix="Remove the row.",
            )
        rows += [(asked, document, value) for document in documents]
    return rows


def _negatives(table: Table, query: str, columns: Sequence[str]) -> list[Row]:
    """A blank one is no document."""
    queries = _texts(table, ASKED, query)
    return [
        (asked, document, 0.0)
        for column in columns
        for asked, documents in zip(queries, _text_lists(table, NEGATIVE, column), strict=True)
        for document in documents
        if document
    ]


def _texts(table: Table, role: Role, column: str) -> list[str]:
    series = _column(table, role, column)
    if series.dtype != pl.String:
        raise _no_texts(table, role, series)
    return [even(text) for text in series.fill_null("")]


def _text_lists(table: Table, role: Role, column: str) -> list[list[str]]:
    """The text of each row, or its list of texts."""
    series = _column(table, role, column)
    if series.dtype == pl.List(pl.String):
        return [[even(text or "") for text in texts or []] for texts in series.to_list()]
    if series.dtype != pl.String:
        raise _no_texts(table, role, series)
    return [[even(text)] for text in series.fill_null("")]


def _column(table: Table, role: Role, column: str) -> pl.Series:
    if column not in table.frame.columns:
        raise table.error(
            f"no column {column!r} among {listed(table.frame.columns)}",
            column=column,
            expected=f"{role.what} there, as in the train part",
        )
    return table.frame.get_column(column)


def _no_texts(table: Table, role: Role, series: pl.Series) -> DataError:
    return table.error(
        f"holds values of type {series.dtype}",
        0,
        column=series.name,
        value=series[0],
        expected="texts",
        fix=f"Name the column that holds them: {option(role, 'NAME')}.",
    )


def _grades(table: Table, column: str) -> list[float]:
    """The numbers of a column; below 0 is not relevant, as 0 is."""
    series = _column(table, GRADE, column)
    values = series.cast(pl.Float64, strict=False)
    for i in (values.is_null() | values.is_nan()).arg_true().to_list():
        raise table.error(
            f"{series[i]!r} is not a number",
            i,
            column=column,
            value=series[i],
            expected="a grade: above 0 is relevant",
        )
    return [max(0.0, value) for value in values]


def _gathered(path: Path, part: str, judgements: Sequence[Judgement], notes: list[str]) -> Queries:
    queries, left_out = gather(judgements)
    if not len(queries):
        raise DataError(
            "no query has a relevant document", path=path, expected="a grade above 0 for some"
        )
    if left_out:
        first = next(q for q, _, _ in judgements if q not in set(queries.texts))
        notes.append(
            f"{path.name}: {left_out:,} {'query has' if left_out == 1 else 'queries have'} no "
            f"relevant document and left the {part} part (the first: {_short(first)!r})."
        )
    return queries


def _short(text: str) -> str:
    return text if len(text) <= 60 else text[:57] + "..."


# ---------------------------------------------------------------------------- a folder as BEIR has


def _file(folder: Path, name: str) -> Path | None:
    """The file of that name, or its ``.gz``."""
    return next((f for f in (folder / name, folder / f"{name}.gz") if f.is_file()), None)


def _read_folder(folder: Path) -> RetrievalData:
    corpus, queries = _file(folder, CORPUS), _file(folder, QUERIES)
    assert corpus is not None  # it is what makes the folder one of this kind
    if queries is None or not (folder / QRELS).is_dir():
        missing = QUERIES if queries is None else f"{QRELS}/"
        raise DataError(
            f"holds {CORPUS} and no {missing}",
            path=folder,
            expected=f"{CORPUS}, {QUERIES} and {QRELS}/train.tsv",
        )
    files = part_files(folder / QRELS, (".tsv",))
    if not files:
        raise no_parts(folder / QRELS, (".tsv",))
    notes: list[str] = []
    documents, place = _read_corpus(corpus, notes)
    asked = _read_entries(queries, title=False)
    texts = {name: text for name, (text, _) in asked.items()}
    for name, (text, line) in asked.items():
        if not text:
            raise DataError(
                f"the query {name!r} is blank", path=queries, line=line, expected="a text"
            )
    parts = {}
    for part, file in files.items():
        table = load_table(file)
        judgements = _read_judgements(table, texts, place, queries, corpus)
        parts[part] = _gathered(file, part, judgements, notes)
    names = [""] * len(documents)
    for name, i in reversed(place.items()):
        names[i] = name  # of copies the first
    return make_retrieval(folder.name, documents, names, parts, notes)


def _read_entries(path: Path, *, title: bool) -> dict[str, tuple[str, int]]:
    """Each id with its text (the title before it) and its line."""
    found: dict[str, tuple[str, int]] = {}
    for line, entry in track(json_objects(path, read_bytes(path)), f"Reading {path.name}"):
        for key in ("_id", "text"):
            if not isinstance(entry.get(key), (str, int)):
                raise DataError(
                    f"no {key!r} among {listed(list(entry))}",
                    path=path,
                    line=line,
                    expected='{"_id": "...", "text": "..."}' + (', maybe "title"' * title),
                )
        name = str(entry["_id"])
        if name in found:
            raise DataError(
                f"the id {name!r} stands in line {found[name][1]} already",
                path=path,
                line=line,
                value=name,
                expected="each id once",
            )
        heading = str(entry.get("title") or "") if title else ""
        found[name] = (even(f"{heading} {entry['text']}"), line)
    return found


def _read_corpus(path: Path, notes: list[str]) -> tuple[list[str], dict[str, int]]:
    """The texts, each once, and the place of each id."""
    entries = _read_entries(path, title=True)
    documents: dict[str, int] = {}
    place = {
        name: documents.setdefault(text, len(documents)) for name, (text, _) in entries.items()
    }
    copies = len(place) - len(documents)
    if copies:
        notes.append(
            f"{path.name}: {copies:,} of {len(place):,} documents "
            f"{'is a copy' if copies == 1 else 'are copies'} of another; copies are one document."
        )
    if "" in documents:
        notes.append(f"{path.name}: a document is blank, and can only be found by chance.")
    return list(documents), place


def _read_judgements(
    table: Table, texts: Mapping[str, str], place: Mapping[str, int], queries: Path, corpus: Path
) -> list[Judgement]:
    if not set(HEADER) <= set(table.frame.columns):
        raise table.error(
            f"the columns are {listed(table.frame.columns)}",
            expected=f"{listed(HEADER)}, parted by tabs",
            fix="Put a line that names them above the judgements.",
        )
    query, document, grade = HEADER
    asked, found = (
        table.frame.get_column(column).cast(pl.String).fill_null("").to_list()
        for column in (query, document)
    )
    grades = _grades(table, grade)
    rows = []
    for i, (q, d, value) in enumerate(zip(asked, found, grades, strict=True)):
        for name, known, column, file in ((q, texts, query, queries), (d, place, document, corpus)):
            if name not in known:
                close = did_you_mean(name, known) if len(known) < 20_000 else ""
                raise table.error(
                    f"the id {name!r} is not in {file.name}",
                    i,
                    column=column,
                    value=name,
                    expected="an id of that file",
                    fix=close.strip() if "Did you mean" in close else None,
                )
        rows.append((texts[q], place[d], value))
    return rows
