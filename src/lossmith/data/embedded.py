"""Data that is always there: tasks made of the standard library of the running Python."""

from __future__ import annotations

import ast
import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Literal, overload

import numpy as np
import polars as pl

from lossmith.data.corpus import Source, cached_corpus
from lossmith.data.embedded_pairs import embedded_pairs
from lossmith.data.interactions import InteractionData, make_interactions, unique_pairs
from lossmith.data.labels import ordered
from lossmith.data.parallel import ParallelData
from lossmith.data.text import TextData, TextPart, make_text

FAMILIES = ("classification", "tagging", "recommendation", "generation")
TEST_IN = 5  # one key in five goes to the test part
CLASS_EXAMPLES = 80  # docstrings that a package needs to be a class
TAGS = 30  # the most called names
DOCSTRING_WORDS = 60
USER_ITEMS, ITEM_USERS = 10, 5  # what a file and a name need to stay in the recommendation data

Function = ast.FunctionDef | ast.AsyncFunctionDef
Embedded = TextData | InteractionData | ParallelData


@overload
def embedded(
    family: Literal["classification", "tagging"], *, progress: bool | None = None
) -> TextData: ...
@overload
def embedded(
    family: Literal["recommendation"], *, progress: bool | None = None
) -> InteractionData: ...
@overload
def embedded(family: Literal["generation"], *, progress: bool | None = None) -> ParallelData: ...
@overload
def embedded(family: str, *, progress: bool | None = None) -> Embedded: ...
def embedded(family: str, *, progress: bool | None = None) -> Embedded:
    """The embedded data of a family, read once from the standard library and then cached.

    - classification: a docstring -> the package it is from, whose name is taken out of the text;
    - tagging: what is known of a function from outside (the words of its name, arguments,
      docstring and file) -> which of the most called names it calls, every label known;
    - recommendation: a file x the names that it imports or calls;
    - generation: the code of a function -> the first line of its docstring.

    ``progress`` shows a bar on stderr; by default, if that is a terminal and it takes a second.
    """
    if family not in FAMILIES:
        expected = ", ".join(FAMILIES)
        raise ValueError(f"family={family!r} has no embedded data; expected one of {expected}.")
    if family == "classification":
        return _classification(cached_corpus(family, docstring_rows, maker=__file__, show=progress))
    if family == "tagging":
        return _tagging(cached_corpus(family, function_rows, maker=__file__, show=progress))
    if family == "generation":
        return embedded_pairs(progress)
    return _recommendation(cached_corpus(family, name_rows, maker=__file__, show=progress))


def part_of(key: str) -> str:
    """The part of everything that has this key: by its hash, so the same on every machine.

    >>> {part_of(key) for key in ("a", "a")} <= {"train", "test"}
    True
    """
    place = int.from_bytes(hashlib.sha256(key.encode("utf-8", "replace")).digest()[:8], "big")
    return "test" if place % TEST_IN == 0 else "train"


def _trees(sources: Iterable[Source]) -> Iterator[tuple[Source, ast.Module]]:
    for source in sources:
        tree = source.tree()
        if tree is not None:
            yield source, tree


# ---------------------------------------------------------------------------- classification


def docstring_rows(sources: Iterable[Source]) -> pl.DataFrame:
    """Each docstring (of module, class or function) once for its package, without its name."""
    rows: dict[tuple[str, str], str] = {}
    for source, tree in _trees(sources):
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


def package_of(place: str) -> str:
    """The package or module of a file, an implementation counted with its module.

    >>> package_of("email/mime/text.py"), package_of("_pydecimal.py"), package_of("glob.py")
    ('email', 'decimal', 'glob')
    """
    top = place.split("/")[0].removesuffix(".py")
    return re.sub("^_+(py)?_*", "", top) or top


def without_name(text: str, name: str) -> str:
    """The text without that word, as a part of identifiers too.

    >>> without_name("asyncio.Task of _asyncio, asynciolike", "asyncio")
    '.Task of _, asynciolike'
    """
    word = re.compile(rf"(?<![^\W_]){re.escape(name)}(?![^\W_])", re.IGNORECASE)
    return word.sub("", text).strip()


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
    for source, tree in _trees(sources):
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


def words(name: str) -> list[str]:
    """The words of an identifier or a path, lower case.

    >>> words("getHTTPHeader_2")
    ['get', 'httph', 'eader', '2']
    """
    return [word.lower() for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+|\d+", name)]


def functions(
    tree: ast.AST, outermost: Function | None = None
) -> Iterator[tuple[Function, Function]]:
    """Every function with the outermost one around it, or itself."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            yield node, outermost or node
            yield from functions(node, outermost or node)
        else:
            yield from functions(node, outermost)


def called_names(tree: ast.AST) -> set[str]:
    """The names that are called in it: ``f`` for ``f()``, ``append`` for ``list.append()``."""
    called = (node.func for node in ast.walk(tree) if isinstance(node, ast.Call))
    names = (
        function.id
        if isinstance(function, ast.Name)
        else function.attr
        if isinstance(function, ast.Attribute)
        else None
        for function in called
    )
    return {name for name in names if name}


def described(function: Function) -> list[str]:
    """What is known of a function from outside: words of its name, arguments and docstring."""
    docstring = re.findall("[a-z]+", (ast.get_docstring(function) or "").lower())
    arguments = [word for argument in function.args.args for word in words(argument.arg)]
    return [*words(function.name), *arguments, *docstring[:DOCSTRING_WORDS]]


def code_of(function: Function, lines: list[str]) -> str:
    """The lines of a function's body, without its docstring and its indentation.

    Copies of a function have it in common, whatever they are called and wherever they stand.
    """
    body = function.body[1:] if ast.get_docstring(function) is not None else function.body
    if not body:
        return ""
    own = lines[body[0].lineno - 1 : body[-1].end_lineno]
    return "\n".join(line.strip() for line in own)


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
        for source, tree in _trees(sources)
        for name in sorted(called_names(tree) | imported_names(tree))
    ]
    frame = pl.DataFrame(rows, schema=["user", "item"], orient="row")
    while True:
        height = frame.height
        frame = frame.filter(pl.len().over("item") >= ITEM_USERS)
        frame = frame.filter(pl.len().over("user") >= USER_ITEMS)
        if frame.height == height:
            return frame


def imported_names(tree: ast.AST) -> set[str]:
    """The names that are imported in it: modules, and what is taken from them."""
    nodes = (node for node in ast.walk(tree) if isinstance(node, (ast.Import, ast.ImportFrom)))
    return {alias.name for node in nodes for alias in node.names if alias.name != "*"}


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
