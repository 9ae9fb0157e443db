"""What would be wrong with a data set, in sentences: what a training would not complain about."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from lossmith.data.interactions import InteractionData
from lossmith.data.lists import RankingData
from lossmith.data.numbers import FeatureData
from lossmith.data.parallel import ParallelData
from lossmith.data.queries import RetrievalData
from lossmith.data.text import TextData

FEW = 5  # examples; a class with fewer is hardly learned and hardly measured
UNEVEN = 10  # how much larger one class may be than another before it is said


def faults(data: object) -> list[str]:
    """What to know before training on it; nothing here keeps it from being trained on.

    >>> faults("something else")
    []
    """
    for kind, find in _FINDERS.items():
        if isinstance(data, kind):
            return list(find(data))
    return []


def _text(data: TextData) -> Iterator[str]:
    texts = {part: content.texts for part, content in data.parts.items()}
    yield from _rows_of_text(texts)
    labels = np.concatenate([content.labels for content in data.parts.values()])
    if data.family == "tagging":
        yield from _tags(labels, data.classes)
    if data.family == "classification":
        yield from _classes(labels, data)
        yield from _contradictions(data)


def _rows_of_text(texts: Mapping[str, Sequence[str]]) -> Iterator[str]:
    for part, rows in texts.items():
        empty = sum(not text.strip() for text in rows)
        if empty:
            yield f"{part}: {empty:,} of {len(rows):,} texts are empty."
        again = len(rows) - len(set(rows))
        if again:
            yield f"{part}: {again:,} of {len(rows):,} texts stand there more than once."
    yield from _leaks(texts, "texts")


def _leaks(rows: Mapping[str, Sequence[Any]], what: str) -> Iterator[str]:
    known = set(rows.get("train", ()))
    for part in ("valid", "test"):
        seen = sum(row in known for row in rows.get(part, ()))
        if seen:
            share = 100 * seen / len(rows[part])
            yield f"{part}: {seen:,} {what} ({share:.1f} %) also stand in train, and were seen."


def _classes(labels: Any, data: TextData) -> Iterator[str]:
    count = np.bincount(labels, minlength=len(data.classes))
    if len(data.classes) < 2:
        yield "There is one class only: nothing can be learned."
        return
    rare = [name for name, n in zip(data.classes, count, strict=True) if n < FEW]
    if rare:
        yield f"{len(rare)} classes have fewer than {FEW} examples: {', '.join(rare[:5])}."
    most, least = int(count.argmax()), int(count.argmin())
    if count[most] >= UNEVEN * max(int(count[least]), 1):
        yield (
            f"The classes are uneven: {data.classes[most]!r} has {count[most]:,} examples, "
            f"{data.classes[least]!r} has {count[least]:,}; judge by macro_f1, not accuracy."
        )
    train = data.parts.get("train")
    for part, content in data.parts.items():
        unknown = set(content.labels.tolist()) - set(train.labels.tolist() if train else ())
        if part != "train" and unknown:
            yield f"{part}: {len(unknown)} classes do not occur in train."


def _contradictions(data: TextData) -> Iterator[str]:
    said: dict[str, set[int]] = {}
    for content in data.parts.values():
        for text, label in zip(content.texts, content.labels.tolist(), strict=True):
            said.setdefault(text, set()).add(label)
    both = sum(len(found) > 1 for found in said.values())
    if both:
        yield f"{both:,} texts stand there with more than one label."


def _tags(labels: Any, names: Sequence[str]) -> Iterator[str]:
    seen, yes = (labels >= 0).sum(axis=0), (labels == 1).sum(axis=0)
    rows = list(zip(names, seen, yes, strict=True))
    constant = [name for name, n, ones in rows if n and ones in (0, n)]
    if constant:
        yield f"{len(constant)} labels are the same in every row: {', '.join(constant[:5])}."
    rare = [name for name, n, ones in rows if 0 < ones < FEW and ones != n]
    if rare:
        yield f"{len(rare)} labels have fewer than {FEW} positives: {', '.join(rare[:5])}."
    missing = float((labels < 0).mean())
    if missing:
        yield f"{100 * missing:.1f} % of the labels are missing; masked losses leave them out."


def _lists(data: RankingData) -> Iterator[str]:
    for part, lists in data.parts.items():
        groups = np.split(lists.relevance, np.cumsum(lists.sizes)[:-1])
        nothing = sum(not bool((group > 0).any()) for group in groups)
        same = sum(len(group) > 1 and float(np.ptp(group)) == 0 for group in groups) - nothing
        single = int((lists.sizes == 1).sum())
        for number, what in (
            (nothing, "have no relevant item; metrics leave them out"),
            (max(same, 0), "hold one grade throughout: no order to learn"),
            (single, "have one item only"),
        ):
            if number:
                yield f"{part}: {number:,} of {len(groups):,} lists {what}."
    yield from _leaks({part: lists.queries for part, lists in data.parts.items()}, "queries")
    everything = np.concatenate([lists.features for lists in data.parts.values()])
    yield from _constant(everything, data.features)


def _constant(features: Any, names: Sequence[str]) -> Iterator[str]:
    flat = [name for name, column in zip(names, features.T, strict=True) if np.ptp(column) == 0]
    if flat:
        yield f"{len(flat)} features have one value throughout: {', '.join(flat[:5])}."


def _features(data: FeatureData) -> Iterator[str]:
    everything = np.concatenate([part.features for part in data.parts.values()])
    yield from _constant(everything, data.features)


def _interactions(data: InteractionData) -> Iterator[str]:
    users = np.concatenate([part.users for part in data.parts.values()])
    items = np.concatenate([part.items for part in data.parts.values()])
    few = int((np.bincount(users, minlength=data.users) < 2).sum())
    if few:
        yield f"{few:,} of {data.users:,} users have one interaction: none is left to test with."
    once = int((np.bincount(items, minlength=data.items) < 2).sum())
    if 2 * once > data.items:
        yield f"{once:,} of {data.items:,} items were taken once: nothing tells them apart."
    top = Counter(items.tolist()).most_common(1)[0][1] / len(items)
    if top > 0.1:
        yield f"One item makes {100 * top:.0f} % of the interactions."
    pairs = {
        part: list(zip(both.users.tolist(), both.items.tolist(), strict=True))
        for part, both in data.parts.items()
    }
    yield from _leaks(pairs, "pairs")


def _parallel(data: ParallelData) -> Iterator[str]:
    pairs = {p: list(zip(c.sources, c.targets, strict=True)) for p, c in data.parts.items()}
    for part, rows in pairs.items():
        empty = sum(not (source.strip() and target.strip()) for source, target in rows)
        copied = sum(source == target for source, target in rows)
        again = len(rows) - len(set(rows))
        for number, what in (
            (empty, "have an empty side"),
            (copied, "have the same text on both sides"),
            (again, "stand there more than once"),
        ):
            if number:
                yield f"{part}: {number:,} of {len(rows):,} pairs {what}."
    yield from _leaks(pairs, "pairs")


def _retrieval(data: RetrievalData) -> Iterator[str]:
    """Blank and copied documents, and queries without an answer, are noted where they are read."""
    for part, queries in data.parts.items():
        relevant = queries.grade > 0
        asked, found = (column[relevant].tolist() for column in (queries.query, queries.document))
        pairs = set(zip(asked, found, strict=True))
        copied = len({q for q, d in pairs if queries.texts[q] == data.documents[d]})
        if copied:
            yield (
                f"{part}: {copied:,} of {len(queries):,} queries are the text of a relevant "
                "document: whatever compares words finds it."
            )
        yield from _in_case_alone(queries.texts, f"{part}: ", "queries")
    yield from _in_case_alone(data.documents, "", "documents")
    yield from _asked_again({part: queries.texts for part, queries in data.parts.items()})
    yield from _answers(data)


def _in_case_alone(texts: Sequence[str], where: str, what: str) -> Iterator[str]:
    again = len(texts) - len({text.casefold() for text in texts})
    if again:
        yield f"{where}{again:,} of {len(texts):,} {what} differ from another in case alone."


def _asked_again(texts: Mapping[str, Sequence[str]]) -> Iterator[str]:
    held = {text for part in ("valid", "test") for text in texts.get(part, ())}
    again = sum(text in held for text in texts.get("train", ()))
    if again:
        yield f"train: {again:,} queries are asked in a later part too, and will leave train."


def _answers(data: RetrievalData) -> Iterator[str]:
    grade = np.concatenate([queries.grade for queries in data.parts.values()])
    document = np.concatenate([queries.document for queries in data.parts.values()])
    grades = sorted(set(grade[grade > 0].tolist()))
    if len(grades) > 1:
        yield (
            f"The judgements are graded ({', '.join(f'{one:g}' for one in grades[:5])}): ndcg and "
            "losses of lists read the grades, all else takes each of them as relevant."
        )
    answers = document[grade > 0]
    asked = sum(map(len, data.parts.values()))
    most = int(np.bincount(answers).max())
    if most > max(FEW, asked / 10):
        yield f"One document is relevant to {most:,} of {asked:,} queries."
    unasked = len(data.documents) - len(np.unique(document))
    if unasked:
        yield (
            f"{unasked:,} of {len(data.documents):,} documents were judged for no query; where "
            "they answer one all the same, metrics count that as a mistake."
        )


def lengths(data: object) -> list[str]:
    """How long the texts are, where a model reads the first tokens of them alone.

    >>> lengths("something else")
    []
    """
    return list(_lengths(data)) if isinstance(data, RetrievalData) else []


def _lengths(data: RetrievalData) -> Iterator[str]:
    asked = [text for queries in data.parts.values() for text in queries.texts]
    for what, texts in (("Queries", asked), ("Documents", data.documents)):
        words = np.array([len(text.split()) for text in texts])
        middle, many = np.percentile(words, (50, 95))
        yield (
            f"{what} have {middle:,.0f} words in the middle, {many:,.0f} at the 95th percentile, "
            f"{words.max():,} at most; the setting length says how many tokens are read."
        )


_FINDERS: Mapping[type, Callable[[Any], Iterator[str]]] = {
    TextData: _text,
    RankingData: _lists,
    InteractionData: _interactions,
    RetrievalData: _retrieval,
    ParallelData: _parallel,
    FeatureData: _features,
}
