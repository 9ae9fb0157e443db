"""The embedded data of regression: what is known of a function from outside -> its size."""

from __future__ import annotations

import ast
import math
from collections.abc import Iterable

import numpy as np
import polars as pl

from lossmith.data.corpus import Source
from lossmith.data.syntax import (
    TEST_IN,
    Function,
    code_of,
    described,
    functions,
    part_of,
    trees,
    words,
)
from lossmith.data.text import TextData, TextPart, make_text


def size_rows(sources: Iterable[Source]) -> pl.DataFrame:
    """Each function with a body: its words from outside, and the logarithm of its size."""
    rows = []
    for source, tree in trees(sources):
        lines = source.content.decode("utf-8", "replace").splitlines()
        file_words = ["m_" + word for word in words(source.place.removesuffix(".py"))]
        for function, outermost in functions(tree):
            size = statements(function)
            if size:
                text = " ".join([*described(function), *file_words])
                rows.append((text, math.log2(size), part_of(code_of(outermost, lines))))
    return pl.DataFrame(rows, schema=["text", "target", "part"], orient="row")


def statements(function: Function) -> int:
    """How many statements a function has, at any depth, its docstring left out.

    >>> code = "def f(x):\\n    '''Doc.'''\\n    if x:\\n        return 1\\n    return 2"
    >>> statements(ast.parse(code).body[0])
    3
    """
    inside = sum(isinstance(node, ast.stmt) for node in ast.walk(function)) - 1
    return inside - (ast.get_docstring(function) is not None)


def size_data(frame: pl.DataFrame) -> TextData:
    """The rows as texts with a number each."""
    parts = {}
    for part in ("train", "test"):
        rows = frame.filter(pl.col("part") == part)
        target = rows.get_column("target").to_numpy().astype(np.float32)
        parts[part] = TextPart(rows.get_column("text").to_list(), target)
    return make_text(
        "embedded",
        "regression",
        (),
        parts,
        [
            "Functions of Python's standard library: the words of name, arguments, docstring and "
            "file (those as m_word) -> the base-2 logarithm of how many statements the function "
            "has. An error of 1 is a factor of 2; the code itself is not shown.",
            f"One function in {TEST_IN} is for testing, by a hash of its code, so that copies of "
            "a function, and functions inside a function, stay on one side.",
        ],
    )
