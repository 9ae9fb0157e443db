"""Data that is always there: tasks made of the standard library of the running Python."""

from __future__ import annotations

import ast
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator

import numpy as np
import polars as pl

from lossmith.data import syntax
from lossmith.data.corpus import Source, cached_corpus
from lossmith.data.embedded_lists import candidate_data, candidate_rows
from lossmith.data.embedded_numbers import size_data, size_rows
from lossmith.data.embedded_pairs import pair_data, pair_rows
from lossmith.data.embedded_queries import query_data, query_rows
from lossmith.data.interactions import InteractionData, make_interactions, unique_pairs
from lossmith.data.labels import ordered
from lossmith.data.lists import RankingData
from lossmith.data.parallel import ParallelData
from lossmith.data.queries import RetrievalData
from lossmith.data.syntax import (
    TEST_IN,
    called_names,
    code_of,
    described,
    functions,
    imported_names,
    package_of,
    part_of,
    trees,
    without_name,
    words,
)
from lossmith.data.text import TextData, TextPart, make_text

FAMILIES = (
    "classification", "tagging", "regression", "generation", "retrieval", "ranking",
    "recommendation",
)  # fmt: skip
CLASS_EXAMPLES = 80  # docstrings that a package needs to be a class
TAGS = 30  # the most called names
USER_ITEMS, ITEM_USERS = 10, 5  # what a file and a name need to stay in the recommendation data


Embedded = TextData | InteractionData | RankingData | ParallelData | RetrievalData


def embedded(family: str, *, progress: bool | None = None) -> Embedded:
    """The embedded data of a family, read once from the standard library and then cached.

    - classification: a docstring -> the package it is from, whose name is taken out of the text;
    - tagging: what is known of a function from outside (the words of its name, arguments,
      docstring and file) -> which of the most called names it calls, every label known;
    - regression: the same -> how many statements it has, as a logarithm;
    - generation: the code of a function -> the first line of its docstring;
    - retrieval: the first paragraph of a docstring -> the code of its function;
    - ranking: a docstring x functions, its own among them -> how near they are to it;
    - recommendation: a file x the names that it imports or calls.

    ``progress`` shows a bar on stderr; by default, if that is a terminal and it takes a second.
    """
    if family not in FAMILIES:
        expected = ", ".join(FAMILIES)
        raise ValueError(f"family={family!r} has no embedded data; expected one of {expected}.")
    build, make = _MADE[family]
    makers = tuple(module.__file__ for module in (syntax, sys.modules[build.__module__]))
    return make(cached_corpus(family, build, makers=makers, show=progress))


# ---------------------------------------------------------------------------- classification


def docstring_rows(sources: Iterable[Source]) -> pl.DataFrame:
    """Each docstring (of module, class or function) once for its package, without its name."""
    rows: dict[tuple[str, str], str] = {}
    for source, tree in trees(sources):
        package = package_of(source.place)
        for node in ast.walk(tree):
            if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
                text = without_name(ast.get_docstring(node) or "", package)
                opening = re.findall("[a-z]+", text.lower())[:8]
                if len(opening) >= 3:
                    # Sentences that open alike are near copies and stay on one side.
                    rows[text, package] = part_of(" ".join(opening))
    sizes = Counter(package for _, package in rows)
    kept = [(*row, part) for row, part in rows.items() if sizes[row[1]] >= CLASS_EXAMPLES]
    return pl.DataFrame(kept, schema=["text", "label", "part"], orient="row")


def _classification(frame: pl.DataFrame) -> TextData:
    classes = ordered(frame.get_column("label").to_list())
    place = {name: i for i, name in enumerate(classes)}
    parts = {
        part: TextPart(
            rows.get_column("text").to_list(),
            np.array([place[name] for name in rows.get_column("label")], dtype=np.int64),
        )
        for part, rows in _by_part(frame)
    }
    return make_text(
        "embedded",
        "classification",
        classes,
        parts,
        [
            "Docstrings of Python's standard library; the class is the package, whose name is "
            f"taken out of the text; packages with {CLASS_EXAMPLES} docstrings or more.",
            f"One docstring in {TEST_IN} is for testing, by a hash of its first eight words, so "
            "that near copies stay on one side.",
        ],
    )


def _by_part(frame: pl.DataFrame) -> Iterator[tuple[str, pl.DataFrame]]:
    for part in ("train", "test"):
        yield part, frame.filter(pl.col("part") == part)


# ---------------------------------------------------------------------------- tagging


def function_rows(sources: Iterable[Source]) -> pl.DataFrame:
    """Each function that calls something: its words, and which of the common names it calls."""
    rows = []
    for source, tree in trees(sources):
        lines = source.content.decode("utf-8", "replace").splitlines()
        file_words = ["m_" + word for word in words(source.place.removesuffix(".py"))]
        for function, outermost in functions(tree):
            calls = called_names(function)
            if calls:
                text = " ".join([*described(function), *file_words])
                rows.append((text, sorted(calls), part_of(code_of(outermost, lines))))
    counts = Counter(name for _, calls, _ in rows for name in calls)
    common = {
        name for name, _ in sorted(counts.items(), key=lambda each: (-each[1], each[0]))[:TAGS]
    }
    kept = [(text, [name for name in calls if name in common], part) for text, calls, part in rows]
    return pl.DataFrame(
        kept,
        schema=[("text", pl.String), ("labels", pl.List(pl.String)), ("part", pl.String)],
        orient="row",
    )


def _tagging(frame: pl.DataFrame) -> TextData:
    counts = Counter(frame.get_column("labels").explode().drop_nulls().to_list())
    classes = tuple(sorted(counts, key=lambda name: (-counts[name], name)))
    parts = {}
    for part, rows in _by_part(frame):
        labels = [set(names) for names in rows.get_column("labels").to_list()]
        cells = np.array([[name in row for name in classes] for row in labels], dtype=np.float32)
        parts[part] = TextPart(rows.get_column("text").to_list(), cells)
    return make_text(
        "embedded",
        "tagging",
        classes,
        parts,
        [
            "Functions of Python's standard library: the words of name, arguments, docstring and "
            f"file (those as m_word), labelled with which of the {TAGS} most called names they "
            "call; every label is known.",
            f"One function in {TEST_IN} is for testing, by a hash of its code, so that copies of "
            "a function, and functions inside a function, stay on one side.",
        ],
    )


# ---------------------------------------------------------------------------- recommendation


def name_rows(sources: Iterable[Source]) -> pl.DataFrame:
    """Each file with each name that it imports or calls, both with enough of the other."""
    rows = [
        (source.place, name)
        for source, tree in trees(sources)
        for name in sorted(called_names(tree) | imported_names(tree))
    ]
    frame = pl.DataFrame(rows, schema=["user", "item"], orient="row")
    while True:
        height = frame.height
        frame = frame.filter(pl.len().over("item") >= ITEM_USERS)
        frame = frame.filter(pl.len().over("user") >= USER_ITEMS)
        if frame.height == height:
            return frame


def _recommendation(frame: pl.DataFrame) -> InteractionData:
    user_ids = sorted(set(frame.get_column("user").to_list()))
    item_ids = sorted(set(frame.get_column("item").to_list()))
    users, items = (
        frame.get_column(column).cast(pl.Enum(ids)).to_physical().cast(pl.Int64).to_numpy()
        for column, ids in (("user", user_ids), ("item", item_ids))
    )
    return make_interactions(
        "embedded",
        user_ids,
        item_ids,
        {"train": unique_pairs(users, items, len(item_ids))},
        [
            "Files of Python's standard library (users) and the names that they import or call "
            f"(items): files with {USER_ITEMS} names or more, names in {ITEM_USERS} files or more."
        ],
    )


_MADE: dict[str, tuple[Callable[[Iterable[Source]], pl.DataFrame], Callable[..., Embedded]]] = {
    "classification": (docstring_rows, _classification),
    "tagging": (function_rows, _tagging),
    "regression": (size_rows, size_data),
    "generation": (pair_rows, pair_data),
    "retrieval": (query_rows, query_data),
    "ranking": (candidate_rows, candidate_data),
    "recommendation": (name_rows, _recommendation),
}
