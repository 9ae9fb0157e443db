import math

import ir_measures
import pytest
import torch
from ir_measures import RR, P, R, Success, nDCG
from sklearn.metrics import roc_auc_score

from lossmith.core.metric import find_metric, metrics
from lossmith.metrics import recommendation
from lossmith.metrics.recommendation import auc, hit, mrr, ndcg, precision, recall, top_k_metrics

TOP_K = [precision, recall, ndcg, hit, mrr]
NAMES = ["precision@5", "recall@5", "ndcg@3", "hit@1", "mrr@20", "recall@400", "auc"]


def random_case(seed, users=12, items=30, ties=True):
    """Scores, relevant and excluded items that overlap, and a user with nothing relevant."""
    generator = torch.Generator().manual_seed(seed)
    scores = torch.randn(users, items, generator=generator)
    if ties:
        scores = scores.mul(1.5).round()
    relevant = torch.rand(users, items, generator=generator) < 0.2
    excluded = torch.rand(users, items, generator=generator) < 0.3
    relevant[1] = False
    return scores, relevant, excluded


def looped(scores, relevant, excluded, k):
    """Each metric of one user, written from its definition."""
    items = [i for i in range(len(scores)) if not excluded[i]]
    wanted = {i for i in items if relevant[i]}
    if not wanted:
        return dict.fromkeys(("precision", "recall", "ndcg", "hit", "mrr"), math.nan)
    top = sorted(items, key=lambda i: (-scores[i], i))[:k]
    ranks = [rank for rank, item in enumerate(top, start=1) if item in wanted]
    ideal = sum(1 / math.log2(1 + rank) for rank in range(1, min(k, len(wanted)) + 1))
    return {
        "precision": len(ranks) / k,
        "recall": len(ranks) / len(wanted),
        "ndcg": sum(1 / math.log2(1 + rank) for rank in ranks) / ideal,
        "hit": float(bool(ranks)),
        "mrr": 1 / ranks[0] if ranks else 0.0,
    }


@pytest.mark.parametrize("ties", [True, False])
@pytest.mark.parametrize("k", [1, 2, 5, 29, 30, 50])
@pytest.mark.parametrize("seed", range(4))
def test_top_k_metrics_equal_a_plain_loop(seed, k, ties):
    case = random_case(seed, ties=ties)
    expected = [looped(*(row.tolist() for row in rows), k) for rows in zip(*case, strict=True)]
    for function in TOP_K:
        values = function(*case, k=k)
        assert values.dtype == torch.float64
        wanted = [user[function.__name__] for user in expected]
        assert values.tolist() == pytest.approx(wanted, rel=1e-12, nan_ok=True)


@pytest.mark.parametrize("seed", range(4))
def test_top_k_metrics_equal_ir_measures(seed):
    scores, relevant, excluded = random_case(seed, ties=False)
    pairs = (relevant & ~excluded).nonzero().tolist()
    qrels = [ir_measures.Qrel(str(u), str(i), 1) for u, i in pairs]
    run = [
        ir_measures.ScoredDoc(str(u), str(i), scores[u, i].item())
        for u, i in (~excluded).nonzero().tolist()
    ]
    for measure, function in ((P, precision), (R, recall), (nDCG, ndcg), (Success, hit), (RR, mrr)):
        for k in (1, 5, 10):
            values = function(scores, relevant, excluded, k=k)
            found = {
                int(one.query_id): one.value
                for one in ir_measures.iter_calc([measure @ k], qrels, run)
            }
            assert set(found) == set((~values.isnan()).nonzero().flatten().tolist())
            for user, value in found.items():
                assert values[user].item() == pytest.approx(value, rel=1e-6), (measure, k)


@pytest.mark.parametrize("ties", [True, False])
@pytest.mark.parametrize("seed", range(4))
def test_auc_equals_scikit_learn_over_the_items_left(seed, ties):
    scores, relevant, excluded = random_case(seed, ties=ties)
    values = auc(scores, relevant, excluded)
    for user in range(len(scores)):
        left = ~excluded[user]
        y, x = relevant[user, left], scores[user, left]
        if y.any():
            expected = roc_auc_score(y.numpy(), x.numpy())
            assert values[user].item() == pytest.approx(expected, rel=1e-12)
        else:
            assert values[user].isnan()


def test_auc_needs_an_item_that_is_not_relevant():
    relevant = torch.tensor([[True, True, False]])
    excluded = torch.tensor([[False, False, True]])
    assert auc(torch.randn(1, 3), relevant, excluded).isnan().all()


@pytest.mark.parametrize("chunk", [1, 3, 7, 64])
@pytest.mark.parametrize("ties", [True, False])
def test_the_size_of_an_evaluation_chunk_changes_no_digit(chunk, ties):
    case = random_case(5, users=64, items=300, ties=ties)
    whole = top_k_metrics(*case, NAMES)
    parts = [
        top_k_metrics(*rows, NAMES) for rows in zip(*(t.split(chunk) for t in case), strict=True)
    ]
    for name in NAMES:
        joined = torch.cat([part[name] for part in parts])
        torch.testing.assert_close(joined, whole[name], rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("threads", [1, 2])
def test_all_scores_equal_ranks_by_index(threads):
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        relevant = torch.zeros(3, 5000, dtype=torch.bool)
        relevant[0, 3], relevant[1, 4], relevant[2, 4999] = True, True, True
        excluded = torch.zeros_like(relevant)
        excluded[:, 0] = True
        values = mrr(torch.zeros(3, 5000), relevant, excluded, k=4)
        assert values.tolist() == [1 / 3, 1 / 4, 0.0]
    finally:
        torch.set_num_threads(before)


def test_the_shared_ranking_gives_what_each_metric_gives_alone():
    case = random_case(6, users=20, items=80)
    together = top_k_metrics(*case, NAMES)
    assert list(together) == NAMES
    for name in NAMES:
        alone = find_metric(name, "recommendation").function(*case)
        torch.testing.assert_close(together[name], alone, rtol=0, atol=0, equal_nan=True)


def test_the_shared_ranking_knows_every_metric_of_the_family():
    case = random_case(7)
    found = [one.at(4) if one.at_k else one for one in metrics("recommendation")]
    assert {one.name for one in found} == set(top_k_metrics(*case, found))


def test_the_shared_ranking_asks_for_an_open_cut_off():
    case = random_case(0)
    with pytest.raises(ValueError, match="'precision@k': the cut-off 'k' is not a whole number"):
        top_k_metrics(*case, metrics("recommendation"))


@pytest.mark.parametrize("function", TOP_K)
def test_a_perfect_ranking_scores_one(function):
    relevant = torch.rand(9, 40, generator=torch.Generator().manual_seed(0)) < 0.5
    relevant[:, 0] = True
    values = {k: function(relevant.float(), relevant, k=k) for k in (1, 3)}
    assert relevant.sum(-1).min() >= 3
    if function is recall:
        assert values[3].tolist() == [3 / n for n in relevant.sum(-1).tolist()]
    else:
        assert values[1].tolist() == values[3].tolist() == [1.0] * 9


def test_a_perfect_ranking_has_an_ndcg_of_exactly_one_for_any_number_of_relevant_items():
    relevant = torch.ones(30, 30, dtype=torch.bool).tril()
    for k in (1, 7, 30, 99):
        assert ndcg(relevant.double(), relevant, k=k).tolist() == [1.0] * 30
    assert auc(relevant.double(), relevant)[:-1].tolist() == [1.0] * 29


def test_an_excluded_item_is_never_ranked():
    scores = torch.tensor([[9.0, -math.inf, 5.0, -math.inf]])
    relevant = torch.tensor([[True, False, False, True]])
    excluded = torch.tensor([[True, True, False, False]])
    # Left: item 2, then item 3, which scores as low as can be and still stands before the excluded.
    assert mrr(scores, relevant, excluded, k=2).tolist() == [1 / 2]
    assert recall(scores, relevant, excluded, k=1).tolist() == [0.0]
    assert auc(scores, relevant, excluded).tolist() == [0.0]


@pytest.mark.parametrize("function", [*TOP_K, auc])
def test_what_an_excluded_item_holds_changes_nothing(function):
    scores, relevant, excluded = random_case(8)
    knobs = {} if function is auc else {"k": 5}
    spoiled = torch.where(excluded, math.nan, scores)
    everything = relevant | excluded
    torch.testing.assert_close(
        function(spoiled, everything, excluded, **knobs),
        function(scores, relevant, excluded, **knobs),
        rtol=0,
        atol=0,
        equal_nan=True,
    )


@pytest.mark.parametrize("function", [*TOP_K, auc])
def test_nothing_is_excluded_by_default_and_inputs_stay_as_they_were(function):
    scores, relevant, _ = random_case(9)
    knobs = {} if function is auc else {"k": 5}
    before = scores.clone(), relevant.clone()
    nothing = torch.zeros_like(relevant)
    torch.testing.assert_close(
        function(scores, relevant, **knobs),
        function(scores, relevant, nothing, **knobs),
        rtol=0,
        atol=0,
        equal_nan=True,
    )
    function(scores, relevant, ~relevant, **knobs)
    assert torch.equal(scores, before[0])
    assert torch.equal(relevant, before[1])


def test_scores_may_carry_a_graph_and_half_precision():
    scores, relevant, excluded = random_case(2)
    for other in (scores.clone().requires_grad_(), scores.half(), scores.bfloat16()):
        for name, value in top_k_metrics(other, relevant, excluded, NAMES).items():
            same = top_k_metrics(scores, relevant, excluded, [name])[name]
            torch.testing.assert_close(value.detach(), same, rtol=0, atol=0, equal_nan=True)


def test_no_users_give_no_values():
    nobody = torch.zeros(0, 4, dtype=torch.bool)
    assert all(len(v) == 0 for v in top_k_metrics(torch.zeros(0, 4), nobody, None, NAMES).values())


@pytest.mark.parametrize("function", [*TOP_K, auc])
@pytest.mark.parametrize(
    ("scores", "relevant", "message"),
    [
        (torch.zeros(3), torch.zeros(3).bool(), r"scores \(3,\) must be \[U, N\]"),
        (torch.zeros(3, 0), torch.zeros(3, 0).bool(), r"scores \(3, 0\) must be \[U, N\]"),
        (torch.zeros(3, 2), torch.zeros(2).bool(), r"scores \(3, 2\) and relevant \(2,\)"),
        (torch.full((1, 2), math.nan), torch.ones(1, 2).bool(), r"scores\[0, 0\] is nan"),
    ],
)
def test_errors_say_what_was_wrong(function, scores, relevant, message):
    knobs = {} if function is auc else {"k": 2}
    with pytest.raises(ValueError, match=message):
        function(scores, relevant, **knobs)


@pytest.mark.parametrize("function", [*TOP_K, auc])
def test_relevant_and_excluded_are_bool(function):
    scores, relevant, excluded = random_case(0)
    knobs = {} if function is auc else {"k": 2}
    with pytest.raises(TypeError, match="relevant must be bool"):
        function(scores, relevant.long(), **knobs)
    with pytest.raises(TypeError, match="excluded must be bool"):
        function(scores, relevant, excluded.float(), **knobs)


@pytest.mark.parametrize("k", [0, -2, True, 1.0])
def test_k_is_a_whole_number(k):
    with pytest.raises(ValueError, match="expected a whole number, 1 or more"):
        recommendation.recall(*random_case(0), k=k)
