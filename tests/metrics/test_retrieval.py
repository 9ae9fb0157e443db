"""The metrics of search: against a plain loop, ir-measures, and what they promise."""

from __future__ import annotations

import math

import ir_measures
import pytest
import torch
from ir_measures import AP, RR, R, nDCG
from torch import Tensor

from lossmith.core.metric import find_metric, metrics
from lossmith.metrics import retrieval
from lossmith.metrics.retrieval import average_precision, mrr, ndcg, recall, search_metrics

NAMES = ["ndcg@3", "ndcg@10", "mrr@2", "mrr@10", "recall@1", "recall@10", "map"]
METRICS = [find_metric(name, "retrieval") for name in NAMES]


def random_case(seed: int, *, ties: bool, queries: int = 12, documents: int = 30) -> list[Tensor]:
    """Scores and grades of 0 to 3; one query without relevant documents, one with all of them."""
    generator = torch.Generator().manual_seed(seed)
    scores = torch.randn(queries, documents, generator=generator)
    if ties:
        scores = scores.round()
    relevance = torch.randint(0, 4, (queries, documents), generator=generator)
    relevance[torch.rand(queries, documents, generator=generator) < 0.85] = 0
    relevance[1], relevance[2] = 0, 2
    return [scores, relevance]


def looped(scores: list[float], grades: list[int]) -> dict[str, float]:
    """Each metric of one query, written from its definition."""
    if not any(grades):
        return dict.fromkeys(NAMES, math.nan)
    order = sorted(range(len(scores)), key=lambda d: (-scores[d], d))
    ranked, best = [grades[d] for d in order], sorted(grades, reverse=True)

    def dcg(row, k):
        return sum(grade / math.log2(1 + r) for r, grade in enumerate(row[:k], start=1))

    hits = [r for r, grade in enumerate(ranked, start=1) if grade > 0]
    found = {f"ndcg@{k}": dcg(ranked, k) / dcg(best, k) for k in (3, 10)}
    found |= {f"mrr@{k}": 1 / hits[0] if hits[0] <= k else 0.0 for k in (2, 10)}
    found |= {f"recall@{k}": sum(r <= k for r in hits) / len(hits) for k in (1, 10)}
    found["map"] = sum(i / r for i, r in enumerate(hits, start=1)) / len(hits)
    return found


def all_metrics(scores: Tensor, relevance: Tensor) -> dict[str, Tensor]:
    return {one.name: one.function(scores, relevance) for one in METRICS}


@pytest.mark.parametrize("many", [1, 16, 99])
@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("seed", range(4))
def test_values_are_those_of_the_definitions(seed, ties, many, monkeypatch):
    monkeypatch.setattr(retrieval, "MANY", many)  # by counting, by sorting, or both
    scores, relevance = random_case(seed, ties=ties)
    expected = [looped(*row) for row in zip(scores.tolist(), relevance.tolist(), strict=True)]
    for name, value in all_metrics(scores, relevance).items():
        wanted = torch.tensor([row[name] for row in expected], dtype=torch.float64)
        torch.testing.assert_close(value, wanted, equal_nan=True, rtol=1e-12, atol=0)


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_values_are_those_of_ir_measures(seed, ties):
    scores, relevance = random_case(seed, ties=ties)

    def name(document):  # trec_eval ranks equal scores by name, higher first
        return f"{2000 - document}"

    qrels = [
        ir_measures.Qrel(str(q), name(d), int(grade))
        for q, row in enumerate(relevance.tolist())
        for d, grade in enumerate(row)
        if grade > 0
    ]
    run = [
        ir_measures.ScoredDoc(str(q), name(d), score)
        for q, row in enumerate(scores.tolist())
        for d, score in enumerate(row)
    ]
    theirs = {"ndcg@3": nDCG @ 3, "ndcg@10": nDCG @ 10, "recall@1": R @ 1, "recall@10": R @ 10,
              "map": AP, "mrr@10": RR @ 10, "mrr@2": RR @ 2}  # fmt: skip
    if ties:  # its reciprocal rank is another script's, with another order of equal scores
        theirs = {key: measure for key, measure in theirs.items() if "mrr" not in key}
    ours = all_metrics(scores, relevance)
    for key, measure in theirs.items():
        for one in ir_measures.iter_calc([measure], qrels, run):
            assert ours[key][int(one.query_id)].item() == pytest.approx(one.value, abs=1e-9), key
        seen = {int(one.query_id) for one in ir_measures.iter_calc([measure], qrels, run)}
        assert seen == set(range(len(scores))) - {1} and ours[key][1].isnan()


def test_several_metrics_at_once_are_each_of_them_from_the_relevant_documents_alone():
    scores, relevance = random_case(5, ties=True)
    grades, documents = relevance.double().sort(dim=-1, descending=True)
    found = search_metrics(scores, documents, grades, METRICS)
    for name, value in all_metrics(scores, relevance).items():
        torch.testing.assert_close(found[name], value, equal_nan=True, rtol=0, atol=0)


def test_a_query_alone_has_the_value_it_has_among_others():
    scores, relevance = random_case(6, ties=False)
    whole = all_metrics(scores, relevance)
    for q in range(len(scores)):
        for name, value in all_metrics(scores[q : q + 1], relevance[q : q + 1]).items():
            torch.testing.assert_close(value[0], whole[name][q], equal_nan=True, rtol=0, atol=0)


def test_equal_scores_are_ranked_by_place():
    scores, relevance = torch.zeros(2, 4), torch.tensor([[1, 0, 0, 0], [0, 0, 0, 1]])
    assert mrr(scores, relevance, k=4).tolist() == [1.0, 0.25]


def test_infinite_scores_stand_at_the_ends():
    scores = torch.tensor([[-math.inf, 0.0, math.inf]])
    assert mrr(scores, torch.tensor([[1, 0, 0]]), k=5).tolist() == [pytest.approx(1 / 3)]


def test_each_says_that_higher_is_better_and_what_its_number_means():
    found = metrics("retrieval")
    assert [one.name for one in found] == ["ndcg@k", "mrr@k", "recall@k", "map"]
    assert all(one.higher_is_better and "left out" in one.definition for one in found)


@pytest.mark.parametrize(
    ("call", "complaint"),
    [
        (lambda s, y: ndcg(s, y[:, 1:], k=3), r"scores \(12, 30\) and relevance \(12, 29\)"),
        (lambda s, y: recall(s, y, k=0), "k must be at least 1"),
        (lambda s, y: mrr(s, -y, k=3), r"expected a grade, 0 or more"),
        (lambda s, y: average_precision(s / 0 * 0, y), "a model that diverged gives NaN"),
        (lambda s, y: average_precision(s[0], y[0]), r"must be \[Q, N\]"),
    ],
)
def test_mistakes_are_named(call, complaint):
    with pytest.raises(ValueError, match=complaint):
        call(*random_case(0, ties=False))
