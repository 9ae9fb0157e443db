"""Embedded pairs: a function's code -> the first line of its docstring, which names its parts."""

from __future__ import annotations

import ast
import copy
import re
from collections.abc import Iterable, Iterator

import polars as pl

from lossmith.data.corpus import Source
from lossmith.data.parallel import ParallelData, ParallelPart

CODE_WORDS = 30  # a longer function is not read
IDENTIFIER = 3  # letters that a name needs to be a keyword

Function = ast.FunctionDef | ast.AsyncFunctionDef


def pair_data(frame: pl.DataFrame) -> ParallelData:
    """Code, the first line of its docstring, and the identifiers of the code as keywords."""
    rows = frame.rows()
    part = ParallelPart(
        [code for code, _, _ in rows], [line for _, line, _ in rows], [tuple(n) for *_, n in rows]
    )
    notes = (
        "Functions of Python's standard library: the code without its docstring (at most "
        f"{CODE_WORDS} words) -> the first line of the docstring.",
        f"Keywords are the identifiers of the code, of {IDENTIFIER} letters or more.",
    )
    return ParallelData("embedded", {"train": part}, notes, has_keywords=True)


def pair_rows(sources: Iterable[Source]) -> pl.DataFrame:
    """Each function with a docstring, once, and the names in its code."""
    rows: dict[str, tuple[str, list[str]]] = {}
    for source in sources:
        tree = source.tree()
        if tree is None:
            continue
        for node in ast.walk(tree):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                line = " ".join((ast.get_docstring(node) or "").partition("\n")[0].split())
                code = code_line(node)
                if len(line.split()) >= 2 and code.count(" ") < CODE_WORDS:
                    rows.setdefault(code, (line, sorted(identifiers(node))))
    return pl.DataFrame(
        [(code, *row) for code, row in rows.items()],
        schema=[("source", pl.String), ("target", pl.String), ("keywords", pl.List(pl.String))],
        orient="row",
    )


def code_line(function: Function) -> str:
    """The head and the body of a function in one line, without docstring, comments, decorators."""
    bare = copy.copy(function)
    body = function.body[1:] if ast.get_docstring(function) is not None else function.body
    bare.body, bare.decorator_list = body or [ast.Pass()], []
    return " ".join(ast.unparse(bare).split())


def identifiers(function: Function) -> set[str]:
    """The names in a function: its own, of arguments and variables, and of attributes.

    >>> sorted(identifiers(ast.parse("def area(self, side): return self.side * scale").body[0]))
    ['area', 'scale', 'side']
    """
    names = set(_names(function)) - {"self", "cls"}
    return {name for name in names if len(re.sub(r"[\W\d_]", "", name)) >= IDENTIFIER}


def _names(function: Function) -> Iterator[str]:
    for node in ast.walk(function):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            yield node.name
        elif isinstance(node, ast.Name):
            yield node.id
        elif isinstance(node, ast.Attribute):
            yield node.attr
        elif isinstance(node, (ast.arg, ast.keyword)) and node.arg:
            yield node.arg
