"""The embedded data of ranking: a docstring -> functions, by how near they are to its own."""

from __future__ import annotations

import ast
import hashlib
import math
import random
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import polars as pl

from lossmith.data.corpus import Source
from lossmith.data.lists import Lists, RankingData, make_ranking
from lossmith.data.syntax import (
    DOCSTRING_WORDS,
    TEST_IN,
    Function,
    code_of,
    package_of,
    part_of,
    trees,
    words,
)

QUERIES = 2000
ITEMS = 20  # of a list
NEAR = {3: 4, 2: 4, 1: 4}  # grade -> how many of it at most; the rest of a list has grade 0
QUERY_WORDS, BODY_WORDS = 5, 10  # what a function needs to be asked for, and to be found
K1, B = 1.2, 0.75  # BM25's usual


@dataclass(frozen=True, eq=False)
class Found:
    """One function of the standard library."""

    name: str  # json/decoder.py:JSONDecoder.decode
    module: str
    owner: str  # the class around it, or ""
    docstring: tuple[str, ...]
    code: str
    body: Counter[str] = field(repr=False)  # the words of its code
    title: frozenset[str]  # the words of its name
    arguments: frozenset[str]

    @property
    def package(self) -> str:
        """The package of its module."""
        return package_of(self.module)


def candidate_rows(sources: Iterable[Source]) -> pl.DataFrame:
    """Each query with its candidates: the grade, and how they look like each other."""
    # A name that is defined twice (for two systems, say) is the first of them.
    named: dict[str, Found] = {}
    for one in _all_found(sources):
        if sum(one.body.values()) >= BODY_WORDS:
            named.setdefault(one.name, one)
    found = list(named.values())
    asked = [one for one in found if len(one.docstring) >= QUERY_WORDS]
    # A draw that is the same on every machine, and half the same for another Python.
    asked = sorted(asked, key=lambda one: _digest(one.name))[:QUERIES]
    index = _Index(found)
    rows = []
    for query in sorted(asked, key=lambda one: one.name):
        part = part_of(" ".join(query.docstring[:8]))
        for grade, candidate in index.candidates(query):
            rows.append((query.name, part, float(grade), *index.features(query, candidate)))
    schema = ["query", "part", "relevance", *FEATURES]
    frame = pl.DataFrame(rows, schema=schema, orient="row")
    return frame.with_columns(pl.col("relevance", *FEATURES).cast(pl.Float32))


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()


def _all_found(sources: Iterable[Source]) -> Iterator[Found]:
    for source, tree in trees(sources):
        lines = source.content.decode("utf-8", "replace").splitlines()
        for owner, function in _methods(tree, ""):
            docstring = re.findall("[a-z]+", (ast.get_docstring(function) or "").lower())
            code = code_of(function, lines)
            every = [word for name in re.findall(r"[^\W\d]\w*", code) for word in words(name)]
            arguments = {word for each in function.args.args for word in words(each.arg)}
            place = f"{owner}.{function.name}" if owner else function.name
            yield Found(
                f"{source.place}:{place}",
                source.place,
                owner,
                tuple(docstring[:DOCSTRING_WORDS]),
                code,
                Counter(every),
                frozenset(words(function.name)),
                frozenset(arguments),
            )


def _methods(tree: ast.AST, owner: str) -> Iterator[tuple[str, Function]]:
    """The functions that are not inside another one, with the class around them."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            yield owner, node
        elif isinstance(node, ast.ClassDef):
            yield from _methods(node, f"{owner}.{node.name}" if owner else node.name)
        else:
            yield from _methods(node, owner)


FEATURES = (
    *("shared_words", "share_in_code", "idf_share_in_code", "rarest_shared", "bm25"),
    *("share_in_name", "name_in_query", "idf_name_in_query", "share_in_arguments", "jaccard"),
    *("query_length", "code_length", "code_words"),
)


class _Index:
    """All functions, as a search engine would hold them."""

    def __init__(self, found: Sequence[Found]) -> None:
        self.found = found
        self.groups: dict[tuple[str, ...], list[Found]] = {}
        for one in found:
            for key in ((one.module,), ("package", one.package)):
                self.groups.setdefault(key, []).append(one)
        documents = Counter(word for one in found for word in one.body)
        n = len(found)
        self.idf = {word: math.log(1 + (n - m + 0.5) / (m + 0.5)) for word, m in documents.items()}
        self.unseen = math.log(1 + (n + 0.5) / 0.5)
        self.mean_length = sum(sum(one.body.values()) for one in found) / max(n, 1)

    def candidates(self, query: Found) -> list[tuple[int, Found]]:
        """The function itself (4), some of its class (3), module (2), package (1), and others."""
        draw = random.Random(_digest(query.name))
        taken = {query.code}  # copies of it are no worse an answer, so they are left out
        chosen = [(4, query)]
        module, package = self.groups[(query.module,)], self.groups["package", query.package]
        own = query.owner
        near = {
            3: [one for one in module if own and one.owner == own],
            2: [one for one in module if not own or one.owner != own],
            1: [one for one in package if one.module != query.module],
        }
        for grade, most in NEAR.items():
            others = draw.sample(near[grade], len(near[grade]))
            chosen += self._fresh(others, grade, most, taken)
        strangers = (draw.choice(self.found) for _ in range(100 * ITEMS))
        far = (one for one in strangers if one.package != query.package)
        chosen += self._fresh(far, 0, ITEMS - len(chosen), taken)
        draw.shuffle(chosen)
        return chosen

    @staticmethod
    def _fresh(
        others: Iterable[Found], grade: int, most: int, taken: set[str]
    ) -> list[tuple[int, Found]]:
        """The first of them whose code is not taken yet; it is taken then."""
        kept: list[tuple[int, Found]] = []
        for one in others:
            if len(kept) == most:
                break
            if one.code not in taken:
                taken.add(one.code)
                kept.append((grade, one))
        return kept

    def features(self, query: Found, candidate: Found) -> list[float]:
        """Numbers for :data:`FEATURES`, from words alone: no name of class, module or package."""
        asked, body = set(query.docstring), candidate.body
        shared = asked & body.keys()
        weight = {word: self.idf.get(word, self.unseen) for word in asked}
        named = candidate.title & asked
        length = sum(body.values())
        return [
            math.log1p(len(shared)),
            len(shared) / len(asked),
            self._sum(weight, shared) / self._sum(weight, asked),
            max((weight[word] for word in shared), default=0.0),
            self._bm25(shared, body, length, weight),
            len(named) / len(asked),
            len(named) / max(len(candidate.title), 1),
            self._sum(weight, named),
            len(candidate.arguments & asked) / max(len(candidate.arguments), 1),
            len(shared) / len(asked | body.keys()),
            math.log(len(query.docstring)),
            math.log(length),
            math.log(len(body)),
        ]

    def _bm25(
        self, shared: set[str], body: Counter[str], length: int, weight: Mapping[str, float]
    ) -> float:
        damp = K1 * (1 - B + B * length / self.mean_length)
        gain = {word: body[word] * (K1 + 1) / (body[word] + damp) * weight[word] for word in shared}
        return self._sum(gain, shared)

    @staticmethod
    def _sum(values: Mapping[str, float], chosen: Iterable[str]) -> float:
        """The same to the last digit in every process, where a set comes in another order."""
        return math.fsum(values[word] for word in chosen)


def candidate_data(frame: pl.DataFrame) -> RankingData:
    """The rows as lists."""
    parts = {}
    for part in ("train", "test"):
        rows = frame.filter(pl.col("part") == part)
        groups = rows.group_by("query", maintain_order=True).len()
        parts[part] = Lists(
            rows.select(FEATURES).to_numpy().astype(np.float32),
            rows.get_column("relevance").to_numpy().astype(np.float32),
            groups.get_column("len").to_numpy().astype(np.int64),
            groups.get_column("query").to_list(),
        )
    return make_ranking(
        "embedded",
        FEATURES,
        parts,
        [
            f"Functions of Python's standard library: a docstring is the query for {ITEMS} "
            "functions without theirs. Grade 4 is the function it belongs to, 3 is of the same "
            "class, 2 of the same module, 1 of the same package, 0 of another. Features compare "
            "words.",
            f"One docstring in {TEST_IN} is for testing, by a hash of its first eight words, so "
            "that near copies stay on one side; functions are candidates on both.",
        ],
    )
