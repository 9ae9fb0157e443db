from __future__ import annotations

import math
import shutil

import ir_measures
import pytest
import torch
from ir_measures import AP, ERR, RR, nDCG
from torch import Tensor

from lossmith.core.metric import find_metric, metrics
from lossmith.metrics.ranking import (
    average_precision,
    err,
    linear_ndcg,
    mrr,
    ndcg,
    pairwise_accuracy,
)

NAMES = ["ndcg@3", "ndcg@10", "linear_ndcg@5", "map", "mrr@2", "err@4", "pairwise_accuracy"]
METRICS = [find_metric(name, "ranking") for name in NAMES]
PADDING = (0, 3)


def random_case(seed: int, *, ties: bool, lists: int = 14, items: int = 11) -> list[Tensor]:
    """Scores, grades of 0 to 4 and a mask; a list without relevant items, one of a single item."""
    generator = torch.Generator().manual_seed(seed)
    scores = torch.randn(lists, items, generator=generator)
    if ties:
        scores = scores.mul(1.5).round()
    relevance = torch.randint(0, 5, (lists, items), generator=generator)
    relevance = torch.where(torch.rand(lists, items, generator=generator) < 0.5, 0, relevance)
    mask = torch.rand(lists, items, generator=generator) < 0.7
    mask[0] = True
    relevance[1] = 0
    mask[2] = torch.arange(items) == 4
    return [scores, relevance, mask]


def looped(scores: list[float], grades: list[int]) -> dict[str, float]:
    """Each metric of one list, written from its definition."""
    order = sorted(range(len(scores)), key=lambda i: (-scores[i], i))
    ranked, best = [grades[i] for i in order], sorted(grades, reverse=True)

    def dcg(row, k, gain):
        return sum(gain(y) / math.log2(1 + r) for r, y in enumerate(row[:k], start=1))

    found = {}
    for name, k, gain in (
        ("ndcg@3", 3, lambda y: 2**y - 1),
        ("ndcg@10", 10, lambda y: 2**y - 1),
        ("linear_ndcg@5", 5, lambda y: y),
    ):
        found[name] = dcg(ranked, k, gain) / dcg(best, k, gain) if any(grades) else math.nan
    hits = [r for r, y in enumerate(ranked, start=1) if y > 0]
    found["map"] = sum(i / r for i, r in enumerate(hits, 1)) / len(hits) if hits else math.nan
    found["mrr@2"] = (1 / hits[0] if hits[0] <= 2 else 0.0) if hits else math.nan
    value, still = 0.0, 1.0
    for r, y in enumerate(ranked[:4], start=1):
        stop = (2**y - 1) / 2**4
        value += still * stop / r
        still *= 1 - stop
    found["err@4"] = value if hits else math.nan
    pairs = [(i, j) for i, a in enumerate(grades) for j, b in enumerate(grades) if a > b]
    right = sum((scores[i] > scores[j]) + (scores[i] == scores[j]) / 2 for i, j in pairs)
    found["pairwise_accuracy"] = right / len(pairs) if pairs else math.nan
    return found


@pytest.mark.parametrize("ties", [True, False])
@pytest.mark.parametrize("seed", range(6))
def test_each_equals_a_plain_loop(seed, ties):
    scores, relevance, mask = random_case(seed, ties=ties)
    rows = zip(scores, relevance, mask, strict=True)
    expected = [looped(s[m].tolist(), y[m].tolist()) for s, y, m in rows]
    for metric in METRICS:
        values = metric.function(scores, relevance, mask)
        assert values.dtype == torch.float64
        wanted = [one[metric.name] for one in expected]
        assert values.tolist() == pytest.approx(wanted, rel=1e-12, nan_ok=True)
        assert any(map(math.isnan, wanted)) and len(set(wanted)) > 2


@pytest.mark.parametrize("seed", range(4))
def test_values_are_those_of_ir_measures(seed):
    scores, relevance, mask = random_case(seed, ties=False)
    measures = {
        nDCG(gains={1: 1, 2: 3, 3: 7, 4: 15}) @ 10: ndcg(scores, relevance, mask, k=10),
        nDCG @ 3: linear_ndcg(scores, relevance, mask, k=3),
        AP: average_precision(scores, relevance, mask),
        RR @ 2: mrr(scores, relevance, mask, k=2),
    }
    check_against_ir_measures(measures, scores, relevance, mask, 1e-9)


@pytest.mark.skipif(shutil.which("perl") is None, reason="the reference is a script in Perl")
@pytest.mark.parametrize("seed", range(2))
def test_values_are_those_of_trecs_script_for_graded_relevance(seed):
    scores, relevance, mask = random_case(seed, ties=False)
    measures = {
        nDCG(dcg="exp-log2") @ 10: ndcg(scores, relevance, mask, k=10),
        nDCG(dcg="exp-log2") @ 3: ndcg(scores, relevance, mask, k=3),
        ERR @ 10: err(scores, relevance, mask, k=10),
        ERR @ 4: err(scores, relevance, mask, k=4),
    }
    check_against_ir_measures(measures, scores, relevance, mask, 1e-5)  # it prints five digits


def check_against_ir_measures(measures, scores, relevance, mask, tolerance):
    places = [(q, d) for q, d in mask.nonzero().tolist()]
    qrels = [ir_measures.Qrel(str(q + 1), f"d{d}", int(relevance[q, d])) for q, d in places]
    run = [ir_measures.ScoredDoc(str(q + 1), f"d{d}", float(scores[q, d])) for q, d in places]
    for measure, values in measures.items():
        # Alone: asked for together, nDCG may be given the gains of the other nDCG.
        computed = ir_measures.iter_calc([measure], qrels, run)
        found = {int(one.query_id) - 1: one.value for one in computed}
        answered = [q for q in range(len(scores)) if not values[q].isnan()]
        assert len(answered) > 8
        for q in answered:
            assert values[q].item() == pytest.approx(found[q], abs=tolerance)


# ---------------------------------------------------------------------------- what is inert


@pytest.mark.parametrize("junk", [math.nan, math.inf, -1e30])
def test_padding_is_inert_to_the_last_digit(junk):
    scores, relevance, mask = random_case(5, ties=True)
    expected = [metric.function(scores, relevance, mask) for metric in METRICS]
    wide = [
        torch.nn.functional.pad(each, PADDING, value=fill)
        for each, fill in ((scores, junk), (relevance.double(), junk), (mask, False))
    ]
    wide[0] = torch.where(wide[2], wide[0], junk)
    wide[1] = torch.where(wide[2], wide[1], junk)
    for metric, values in zip(METRICS, expected, strict=True):
        again = metric.function(*wide)
        torch.testing.assert_close(again, values, rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("size", [1, 3, 13])
def test_a_value_is_that_of_its_list_whatever_the_batch(size):
    case = random_case(6, ties=True)
    for metric in METRICS:
        whole = metric.function(*case)
        parts = zip(*(each.split(size) for each in case), strict=True)
        values = torch.cat([metric.function(*part) for part in parts])
        torch.testing.assert_close(values, whole, rtol=0, atol=0, equal_nan=True)


def test_a_mask_may_be_left_out():
    scores, relevance, _ = random_case(7, ties=True)
    everything = torch.ones_like(scores, dtype=torch.bool)
    for metric in METRICS:
        values = metric.function(scores, relevance)
        assert torch.equal(
            values.nan_to_num(-1), metric.function(scores, relevance, everything).nan_to_num(-1)
        )


def test_equal_scores_are_ranked_by_place():
    relevance = torch.tensor([[0, 2, 1]])
    tied = torch.zeros(1, 3)
    first = torch.tensor([[3.0, 2.0, 1.0]])
    for metric in METRICS[:-1]:
        assert torch.equal(metric.function(tied, relevance), metric.function(first, relevance))
    assert pairwise_accuracy(tied, relevance).tolist() == [1 / 2]


def test_infinite_scores_keep_their_order():
    scores = torch.tensor([[math.inf, 0.0, -math.inf]])
    for relevance in ([[2, 1, 0]], [[0, 1, 2]]):
        y = torch.tensor(relevance)
        for metric in METRICS:
            finite = metric.function(torch.tensor([[3.0, 2.0, 1.0]]), y)
            assert torch.equal(metric.function(scores, y), finite)


def test_the_scale_of_err_is_that_of_the_data():
    scores, relevance = torch.tensor([[3.0, 2.0]]), torch.tensor([[1, 2]])
    first, second = 1 / 4, 3 / 4
    assert err(scores, relevance, k=2, highest=2).tolist() == [first + (1 - first) * second / 2]
    with pytest.raises(ValueError, match=r"relevance\[0, 1\] is 2; expected a grade of at most"):
        err(scores, relevance, k=2, highest=1)


def test_every_metric_says_how_it_is_defined():
    for metric in metrics("ranking"):
        assert "left out" in metric.definition


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)
@pytest.mark.parametrize(
    ("scores", "relevance", "mask", "message"),
    [
        (torch.zeros(3), torch.zeros(3), None, r"scores \(3,\) must be \[Q, n\].*unsqueeze"),
        (torch.zeros(1, 3), torch.zeros(1, 2), None, r"scores \(1, 3\) and relevance \(1, 2\)"),
        (
            torch.tensor([[math.nan]]),
            torch.ones(1, 1),
            None,
            r"scores\[0, 0\] is nan; expected a n",
        ),
        (
            torch.zeros(1, 2),
            torch.tensor([[0, -1]]),
            None,
            r"relevance\[0, 1\] is -1; expected a g",
        ),
        (torch.zeros(1, 1), torch.tensor([[math.nan]]), None, r"relevance\[0, 0\] is nan"),
    ],
)
def test_errors_say_what_was_wrong(metric, scores, relevance, mask, message):
    with pytest.raises(ValueError, match=message):
        metric.function(scores, relevance, mask)
    with pytest.raises(TypeError, match="mask must be bool"):
        metric.function(torch.zeros(1, 1), torch.zeros(1, 1), torch.ones(1, 1))
