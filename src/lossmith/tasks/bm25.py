"""BM25 as an anchor: what the words that a query shares with a document are worth, untrained."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from lossmith.core.call import parse_call
from lossmith.core.words import did_you_mean
from lossmith.tasks.task import Learner

if TYPE_CHECKING:
    from lossmith.tasks.retrieval import RetrievalProblem

DEFAULTS = {"k1": 1.2, "b": 0.75}


def read_knobs(loss: str) -> dict[str, float]:
    """The knobs in ``bm25(k1=1.2, b=0.75)``; an unknown one or a bad value raises."""
    name, given = parse_call(loss)
    for knob, value in given.items():
        if knob not in DEFAULTS:
            raise ValueError(f"{name} has no knob {knob!r}.{did_you_mean(knob, DEFAULTS)}")
        high = 1.0 if knob == "b" else math.inf
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if not (number and 0 <= float(value) <= high and math.isfinite(float(value))):  # type: ignore[arg-type]  # it is a number
            raise ValueError(f"{name}: {knob}={value!r}; expected a number in [0, {high:g}].")
    return {**DEFAULTS, **given}  # type: ignore[dict-item]  # they are numbers


def terms(text: str) -> list[str]:
    """The words of a text: letters and digits, lower case; no stemming, no stop words.

    >>> terms("Don't call get_URL2 twice!")
    ['don', 't', 'call', 'get', 'url2', 'twice']
    """
    return re.findall(r"[^\W_]+", text.lower())


class BM25Learner(Learner):
    """``bm25(k1=1.2, b=0.75)``: nothing is learnt, so every epoch and every seed is the same."""

    def __init__(self, problem: RetrievalProblem, loss: str) -> None:
        self.model = BM25(problem.data.documents, **read_knobs(loss))

    @property
    def parameters(self) -> int:
        """How many numbers it learns."""
        return 0

    def epoch(self, after_step: Callable[[float], None] | None = None) -> float:
        """Do nothing; there is no loss."""
        return math.nan


class BM25:
    """The scores of a corpus, as Lucene computes them.

    ``sum over the terms t of the query of idf(t) f (k1 + 1) / (f + k1 (1 - b + b L / mean L))``
    with f the occurrences of t in the document, L the terms of the document, and
    ``idf(t) = log(1 + (N - n + 1/2) / (n + 1/2))`` for n of N documents with t.
    """

    def __init__(self, documents: list[str], *, k1: float, b: float) -> None:
        counted = [Counter(terms(text)) for text in documents]
        self.words = {w: i for i, w in enumerate(dict.fromkeys(w for c in counted for w in c))}
        places = [(self.words[w], d, f) for d, c in enumerate(counted) for w, f in c.items()]
        word, document, times = torch.tensor(places).reshape(-1, 3).T
        found = times.double()
        length = torch.tensor([c.total() for c in counted], dtype=torch.float64)
        holding = torch.bincount(word, minlength=len(self.words)).double()
        idf = torch.log1p((len(documents) - holding + 0.5) / (holding + 0.5))
        norm = 1.0 - b + b * length / length.mean().clamp(min=1.0)
        worth = idf[word] * found * (k1 + 1.0) / (found + k1 * norm[document])
        size = (len(documents), len(self.words))
        self.worth = torch.sparse_coo_tensor(
            torch.stack([document, word]), worth, size, check_invariants=True
        ).coalesce()

    def scores(self, queries: list[str]) -> Tensor:
        """The scores ``[queries, documents]``."""
        asked = torch.zeros(len(self.words), len(queries), dtype=torch.float64)
        for i, query in enumerate(queries):
            for word, times in Counter(terms(query)).items():
                if word in self.words:
                    asked[self.words[word], i] = times
        scores: Tensor = torch.sparse.mm(self.worth, asked).T
        return scores
