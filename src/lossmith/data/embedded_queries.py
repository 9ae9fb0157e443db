"""The embedded data of retrieval: how a docstring begins -> the code of its function."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable

import polars as pl

from lossmith.data.corpus import Source
from lossmith.data.embedded_pairs import code_line
from lossmith.data.queries import RetrievalData, even, gather, make_retrieval
from lossmith.data.syntax import TEST_IN, functions, part_of, trees

QUERY_WORDS = 5  # what a docstring needs to be a question


def query_rows(sources: Iterable[Source]) -> pl.DataFrame:
    """Each documented function: what its docstring begins with, its code, and its part."""
    rows: dict[tuple[str, str], str] = {}
    for _, tree in trees(sources):
        for function, _ in functions(tree):
            query = even((ast.get_docstring(function) or "").split("\n\n")[0])
            words = re.findall("[a-z]+", query.lower())
            if len(words) >= QUERY_WORDS:
                # Sentences that open alike are near copies and stay on one side.
                rows[query, code_line(function)] = part_of(" ".join(words[:8]))
    return pl.DataFrame(
        [(query, code, part) for (query, code), part in rows.items()],
        schema=["query", "positive", "part"],
        orient="row",
    )


def query_data(frame: pl.DataFrame) -> RetrievalData:
    """Docstrings as queries; the corpus is the code of every documented function."""
    documents = sorted(set(frame.get_column("positive").to_list()))
    place = {code: i for i, code in enumerate(documents)}
    parts = {}
    for part in ("train", "test"):
        rows = frame.filter(pl.col("part") == part).select("query", "positive").rows()
        parts[part], _ = gather([(query, place[code], 1.0) for query, code in rows])
    notes = [
        "Functions of Python's standard library: the first paragraph of a docstring is the query, "
        "the code without the docstring its document; functions described alike share a query.",
        f"One query in {TEST_IN} is for testing, by a hash of its first eight words, so that near "
        "copies stay on one side; the corpus is all documented functions.",
    ]
    names = [str(i) for i in range(len(documents))]
    return make_retrieval("embedded", documents, names, parts, notes)
