"""Metrics for the search of a whole corpus, one value per query.

All take ``[Q, N]`` tensors, a row for each query and a column for each document of the corpus:
scores and relevance (a grade of 0 or more, 0 = not relevant). A query without a relevant document
has no answer, NaN, so the mean over queries is ``torch.nanmean`` of all rows together.

Equal scores are ranked by the place of the document, lower first. Nothing is sorted: a metric needs
the ranks of the relevant documents alone, and a rank is a count of what stands above. Values depend
on their own row alone: evaluate queries in blocks of any size. All compute in float64, and agree
with trec_eval where no scores tie (it ranks those by the name of the document, higher first).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import NamedTuple

import torch
from torch import Tensor

from lossmith.core.metric import Metric, find_metric, metric
from lossmith.core.validate import (
    check_float,
    check_same_shape,
    check_values,
    check_whole_number,
    shape_text,
)
from lossmith.kernels.rank_auc import count_true, finite_scores

FAMILY = "retrieval"
MANY = 16  # relevant documents of a query from which sorting a row beats counting for each
LEFT_OUT = "queries without relevant documents left out"


class Found(NamedTuple):
    """Where the relevant documents of each query stand, the highest first."""

    ranks: Tensor  # int64 [Q, R], from 1
    grades: Tensor  # float64 [Q, R], 0 = nothing there


@metric(family=FAMILY, higher_is_better=True, at_k=True, definition=f"gain grade, {LEFT_OUT}")
def ndcg(scores: Tensor, relevance: Tensor, *, k: int) -> Tensor:
    """Gain grade in the top k, discounted by rank, as a share of the best possible.

    Formula: ``sum over ranks r <= k of y_r / log2(1 + r)``, divided by the same sum for the
    documents in order of relevance: nDCG as trec_eval has it.

    Ties: by place in the corpus, lower first. Nothing relevant: NaN.

    Averages over: queries, by the caller.

    >>> scores = torch.tensor([[4.0, 3.0, 2.0, 1.0]])
    >>> ndcg(scores, torch.tensor([[0, 0, 1, 0]]), k=3)  # 1 / log2(1 + 3)
    tensor([0.5000], dtype=torch.float64)
    """
    check_whole_number("k", k, 1)
    return _ndcg(_found(scores, relevance), k)


@metric(
    family=FAMILY,
    higher_is_better=True,
    at_k=True,
    definition=f"a grade above 0 is relevant, {LEFT_OUT}",
)
def mrr(scores: Tensor, relevance: Tensor, *, k: int) -> Tensor:
    """Reciprocal of the rank of the first relevant document in the top k.

    Formula: ``1 / rank of the first document with a grade above 0``, 0 when the top k has none.

    Ties: by place in the corpus, lower first. Nothing relevant: NaN.

    Averages over: queries, by the caller.

    >>> scores = torch.tensor([[4.0, 3.0, 2.0, 1.0]])
    >>> mrr(scores, torch.tensor([[0, 1, 2, 0]]), k=10)
    tensor([0.5000], dtype=torch.float64)
    """
    check_whole_number("k", k, 1)
    return _mrr(_found(scores, relevance), k)


@metric(
    family=FAMILY,
    higher_is_better=True,
    at_k=True,
    definition=f"a grade above 0 is relevant, {LEFT_OUT}",
)
def recall(scores: Tensor, relevance: Tensor, *, k: int) -> Tensor:
    """Share of a query's relevant documents that is in the top k.

    Formula: ``relevant in the top k / relevant``; it cannot reach 1 for a query with more than k.

    Ties: by place in the corpus, lower first. Nothing relevant: NaN.

    Averages over: queries, by the caller.

    >>> scores = torch.tensor([[4.0, 3.0, 2.0, 1.0]])
    >>> recall(scores, torch.tensor([[1, 0, 2, 1]]), k=2)  # 1 of 3
    tensor([0.3333], dtype=torch.float64)
    """
    check_whole_number("k", k, 1)
    return _recall(_found(scores, relevance), k)


@metric(
    family=FAMILY,
    name="map",
    higher_is_better=True,
    definition=f"a grade above 0 is relevant, {LEFT_OUT}",
)
def average_precision(scores: Tensor, relevance: Tensor) -> Tensor:
    """Precision at the rank of each relevant document of the whole corpus, averaged over these.

    Formula: ``1/R sum over the ranks r of relevant documents of (relevant in the top r) / r``, for
    R relevant documents; its mean over queries is MAP.

    Ties: by place in the corpus, lower first. Nothing relevant: NaN.

    Averages over: queries, by the caller.

    >>> scores = torch.tensor([[3.0, 2.0, 1.0]])
    >>> average_precision(scores, torch.tensor([[1, 0, 2]]))  # (1/1 + 2/3) / 2
    tensor([0.8333], dtype=torch.float64)
    """
    return _average_precision(_found(scores, relevance))


def search_metrics(
    scores: Tensor, documents: Tensor, grades: Tensor, metrics: Iterable[Metric | str]
) -> dict[str, Tensor]:
    """Several metrics of the same queries by name, from one look at the scores.

    What is relevant comes short: ``documents [Q, R]``, places in the corpus, with their ``grades
    [Q, R]``, where 0 fills up the rows.

    >>> scores = torch.tensor([[4.0, 3.0, 2.0, 1.0]])
    >>> relevant = torch.tensor([[2, 0]]), torch.tensor([[1.0, 0.0]])
    >>> search_metrics(scores, *relevant, ["mrr@10", "recall@1"])
    {'mrr@10': tensor([0.3333], dtype=torch.float64), 'recall@1': tensor([0.], dtype=torch.float64)}
    """
    names = [one if isinstance(one, str) else one.name for one in metrics]
    found = _ranked(scores, documents, grades)
    values = {}
    for one in (find_metric(name, FAMILY) for name in names):
        values[one.name] = _FROM_RANKS[one.base](found, one.k or 0)
    return values


def _ndcg(found: Found, k: int) -> Tensor:
    inside = found.ranks <= k
    gain = torch.where(inside, found.grades / torch.log2(found.ranks.double() + 1.0), 0.0)
    best = found.grades.sort(dim=-1, descending=True).values[:, :k]
    places = torch.arange(1, best.shape[-1] + 1, device=best.device)
    return _where_relevant(found, _sum(gain) / _sum(best / torch.log2(places.double() + 1.0)))


def _mrr(found: Found, k: int) -> Tensor:
    hits = (found.grades > 0) & (found.ranks <= k)
    return _where_relevant(found, (hits / found.ranks.double()).amax(dim=-1))


def _recall(found: Found, k: int) -> Tensor:
    hits = count_true((found.grades > 0) & (found.ranks <= k))
    return _where_relevant(found, hits.double() / count_true(found.grades > 0))


def _average_precision(found: Found, k: int = 0) -> Tensor:
    hits = (found.grades > 0).double()
    precision = hits.cumsum(dim=-1) / found.ranks.double()
    return _where_relevant(found, _sum(hits * precision) / count_true(found.grades > 0))


_FROM_RANKS: dict[str, Callable[[Found, int], Tensor]] = {
    "ndcg": _ndcg,
    "mrr": _mrr,
    "recall": _recall,
    "map": _average_precision,
}


def _sum(rows: Tensor) -> Tensor:
    """The sum of each row, added in order: zeros behind it change no digit."""
    return rows.cumsum(dim=-1)[:, -1]


def _where_relevant(found: Found, value: Tensor) -> Tensor:
    return torch.where((found.grades > 0).any(dim=-1), value, math.nan)


def _found(scores: Tensor, relevance: Tensor) -> Found:
    """The relevant documents of a whole table of grades, and their ranks."""
    check_same_shape(scores=scores, relevance=relevance)
    _check_table(scores)
    good = relevance.isfinite() & (relevance >= 0)
    check_values("relevance", relevance, good, "a grade, 0 or more")
    most = max(1, int(count_true(relevance > 0).amax())) if relevance.numel() else 1
    grades, documents = relevance.double().sort(dim=-1, descending=True, stable=True)
    return _ranked(scores, documents[:, :most], grades[:, :most])


def _ranked(scores: Tensor, documents: Tensor, grades: Tensor) -> Found:
    _check_table(scores)
    check_same_shape(documents=documents, grades=grades)
    check_values("scores", scores, ~scores.isnan(), "a number; a model that diverged gives NaN")
    scores, documents = finite_scores(scores), documents.long()
    counts = documents.shape[-1] < MANY
    ranks = _count_above(scores, documents) if counts else _look_up(scores, documents)
    # What is not there stands last, and 1 keeps its divisions finite.
    ranks = torch.where(grades > 0, ranks, scores.shape[1] + 1)
    order = ranks.sort(dim=-1, stable=True).indices
    return Found(ranks.gather(-1, order), grades.double().gather(-1, order))


def _check_table(scores: Tensor) -> None:
    check_float(scores=scores)
    if scores.dim() != 2 or scores.shape[1] == 0:
        raise ValueError(
            f"scores {shape_text(scores)} must be [Q, N]: a row for each query, a column for each "
            "document of the corpus."
        )


def _count_above(scores: Tensor, documents: Tensor) -> Tensor:
    """The rank of each document: 1 and how many stand above it. A pass over the row for each."""
    places = torch.arange(scores.shape[1], device=scores.device)
    ranks = []
    for document in documents.unbind(dim=-1):
        own = scores.gather(-1, document.unsqueeze(-1))
        tied_before = (scores == own) & (places < document.unsqueeze(-1))
        ranks.append(1 + count_true((scores > own) | tied_before))
    return torch.stack(ranks, dim=-1)


def _look_up(scores: Tensor, documents: Tensor) -> Tensor:
    """The same from the whole row in order."""
    order = scores.sort(dim=-1, descending=True, stable=True).indices
    places = torch.arange(1, scores.shape[1] + 1, device=scores.device).expand_as(order)
    return torch.empty_like(order).scatter_(-1, order, places).gather(-1, documents)
