"""Queries and a corpus: which documents are relevant to each query, which are known not to be."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from lossmith.data.errors import DataError
from lossmith.data.files import fingerprint
from lossmith.data.parts import ORDER, held_out, split_parts

# A query, the place of a document in the corpus, and its grade: above 0 is relevant.
Judgement = tuple[str, int, float]


@dataclass(frozen=True, eq=False)  # fingerprints are compared, not arrays
class Queries:
    """Queries of one part, each text once, with the documents that were judged for them."""

    texts: list[str]
    query: NDArray[np.int64]  # [judgements], places in the texts, ascending
    document: NDArray[np.int64]  # [judgements], places in the corpus
    grade: NDArray[np.float32]  # [judgements], 0 = known not to be relevant

    def __len__(self) -> int:
        return len(self.texts)

    def rows(self, index: NDArray[np.int64]) -> Queries:
        """The part made of these queries."""
        place = np.full(len(self.texts), -1, dtype=np.int64)
        place[index] = np.arange(len(index))
        query = place[self.query]
        kept = np.flatnonzero(query >= 0)
        kept = kept[np.argsort(query[kept], kind="stable")]
        return Queries(
            [self.texts[i] for i in index], query[kept], self.document[kept], self.grade[kept]
        )

    @property
    def relevant(self) -> int:
        """How many pairs of a query and a relevant document there are."""
        return int((self.grade > 0).sum())


@dataclass(frozen=True, eq=False)  # fingerprints are compared, not arrays
class RetrievalData:
    """A corpus, and the parts of its queries (``train``, maybe ``valid`` and ``test``)."""

    name: str
    documents: list[str] = field(repr=False)  # each text once
    names: list[str] = field(repr=False)  # what each document is called
    parts: dict[str, Queries] = field(repr=False)
    notes: tuple[str, ...]  # what was guessed or done to it, in sentences
    fingerprint: str  # of the corpus and of all parts


def make_retrieval(
    name: str,
    documents: list[str],
    names: list[str],
    parts: Mapping[str, Queries],
    notes: Sequence[str],
) -> RetrievalData:
    """A :class:`RetrievalData` with its parts in order and its fingerprint."""
    ordered = {part: parts[part] for part in ORDER if part in parts}
    chunks: list[bytes | str] = ["retrieval", *documents]
    for part, content in ordered.items():
        chunks += [part, *content.texts, content.query.tobytes()]
        chunks += [content.document.tobytes(), content.grade.tobytes()]
    return RetrievalData(name, documents, names, ordered, tuple(notes), fingerprint(chunks))


def even(text: str) -> str:
    """The text with white space made even: what differs in nothing else is the same text.

    >>> even(" two\\n words")
    'two words'
    """
    return " ".join(text.split())


def gather(judgements: Sequence[Judgement]) -> tuple[Queries, int]:
    """The queries that have a relevant document, and how many were left out for want of one.

    Rows of the same query come together. A document judged twice for one query has the higher
    grade: who is called relevant once is not a negative.
    """
    grades: dict[str, dict[int, float]] = {}
    for query, document, grade in judgements:
        own = grades.setdefault(query, {})
        own[document] = max(grade, own.get(document, 0.0), 0.0)
    kept = {query: own for query, own in grades.items() if any(own.values())}
    rows = [
        (i, document, grade)
        for i, own in enumerate(kept.values())
        for document, grade in sorted(own.items())
    ]
    queries = Queries(
        list(kept),
        np.array([query for query, _, _ in rows], dtype=np.int64),
        np.array([document for _, document, _ in rows], dtype=np.int64),
        np.array([grade for _, _, grade in rows], dtype=np.float32),
    )
    return queries, len(grades) - len(kept)


# ---------------------------------------------------------------------------- the split


def apart(parts: Mapping[str, Queries]) -> tuple[dict[str, Queries], list[str]]:
    """The parts without the queries that a later one (test, valid) asks too, and notes on them."""
    kept: dict[str, Queries] = {}
    notes = []
    asked: set[str] = set()
    for part in reversed(ORDER):
        if part not in parts:
            continue
        whole = parts[part]
        own = np.array([text not in asked for text in whole.texts], dtype=bool)
        again = int((~own).sum())
        if again:
            notes.append(
                f"{again:,} {'query' if again == 1 else 'queries'} of the {part} part left out, "
                "which a later part asks too."
            )
            whole = whole.rows(np.flatnonzero(own))
        if not len(whole):
            raise DataError(
                f"every query of the {part} part is asked by a later part too",
                expected="queries of its own in each part",
            )
        asked.update(whole.texts)
        kept[part] = whole
    return kept, notes


def split_retrieval(
    data: RetrievalData, *, test: float = 0.2, valid: float = 0.1, seed: int = 0
) -> RetrievalData:
    """The data with the parts that are missing held out of ``train``.

    ``test`` is a share of the queries given as train, ``valid`` of what is left of them; a query
    stays whole, with all that was judged for it. The corpus is that of every part. Parts that
    were given stay as they are, but with ``valid=0`` a given valid part is trained on.
    """
    parts, notes = apart(data.parts)
    parts, more = split_parts(
        data.name,
        parts,
        test=test,
        valid=valid,
        seed=seed,
        join=_joined,
        hold=lambda part, share, rng: held_out(
            np.arange(len(part)), np.zeros(len(part), dtype=np.int64), share, rng
        ),
        unit="queries",
        how=", each with all of its documents",
    )
    return make_retrieval(
        data.name, data.documents, data.names, parts, [*data.notes, *notes, *more]
    )


def _joined(first: Queries, second: Queries) -> Queries:
    return Queries(
        first.texts + second.texts,
        np.concatenate([first.query, second.query + len(first)]),
        np.concatenate([first.document, second.document]),
        np.concatenate([first.grade, second.grade]),
    )
