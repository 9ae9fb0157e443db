from __future__ import annotations

import math

import pytest
import torch

from lossmith.core.metric import find_metric
from lossmith.modules import from_text
from lossmith.tasks import ranking
from lossmith.tasks.ranking import RankingProblem
from lossmith.tasks.registry import load_task
from tasks import tiny

TASK = load_task("ranking")
NAMES = ("ndcg@3", "linear_ndcg@10", "map", "mrr@2", "err@5", "pairwise_accuracy")
METRICS = [find_metric(name, "ranking") for name in NAMES]
MODELS = ("mlp", "attention")


def model_of(problem, **given):
    torch.manual_seed(0)
    return problem.model(tiny.settings("ranking", **given)).eval()


def first_batch(problem, size=24):
    return next(iter(problem.batches(tiny.settings("ranking", batch_size=size), 0, 1)))


def value(problem, model, batch, loss):
    objective = from_text(loss)
    return problem.cost(model, batch, objective, TASK.feed(objective.spec))


# ---------------------------------------------------------------------------- batches


def test_lists_are_padded_and_none_is_cut():
    problem = tiny.ranking()
    sizes = []
    for features, relevance, mask in problem.batches(tiny.settings("ranking"), 0, 1):
        assert features.shape == (*mask.shape, tiny.FEATURES) and relevance.shape == mask.shape
        assert mask.any(dim=0).all()  # no wider than the longest list
        assert not features[~mask].any() and not relevance[~mask].any()
        sizes += mask.sum(dim=-1).tolist()
    assert sorted(sizes) == sorted(problem.parts["train"].sizes.tolist())
    assert min(sizes) == 1 and max(sizes) == 6


def test_items_stay_with_their_grades_and_come_in_a_drawn_order():
    lists = tiny.lists(tiny.ROWS["train"], 0)
    problem = tiny.ranking()
    part = problem.parts["train"]
    raw = torch.from_numpy(lists.features)
    scaled = (raw - raw.double().mean(0)) / raw.double().std(0, correction=0)
    start, moved = 0, 0
    for size in lists.sizes.tolist():
        rows = slice(start, start + size)
        before = sorted(zip(scaled[rows, 0].tolist(), lists.relevance[rows].tolist(), strict=True))
        after = sorted(
            zip(part.features[rows, 0].tolist(), part.relevance[rows].tolist(), strict=True)
        )
        for a, b in zip(before, after, strict=True):
            assert a == pytest.approx(b, abs=1e-6)
        moved += not torch.allclose(scaled[rows].float(), part.features[rows], atol=1e-6)
        start += size
    assert moved > 10


def test_the_drawn_order_is_that_of_the_seed():
    def order(seed):
        problem = RankingProblem(ranking_data(), tiny.description(tiny.ROWS), seed=seed)
        return problem.parts["train"].features

    assert torch.equal(order(0), order(0)) and not torch.equal(order(0), order(1))


def ranking_data():
    parts = {part: tiny.lists(rows, seed) for seed, (part, rows) in enumerate(tiny.ROWS.items())}
    return ranking.RankingData("tiny", tuple("abcd"), parts, (), "0")


# ---------------------------------------------------------------------------- feeds


def test_a_loss_on_lists_gets_the_grades_and_the_mask():
    problem = tiny.ranking()
    features, relevance, mask = batch = first_batch(problem)
    scores = model_of(problem)(features)
    assert {0.0, 1.0, 2.0} == set(relevance[mask].tolist())
    pairs = [
        torch.nn.functional.softplus(-(scores[q, i] - scores[q, j]))
        for q in range(len(scores))
        for i in range(scores.shape[1])
        for j in range(scores.shape[1])
        if mask[q, i] and mask[q, j] and relevance[q, i] > relevance[q, j]
    ]
    found = value(problem, model_of(problem), batch, "ranknet")
    torch.testing.assert_close(found, torch.stack(pairs).mean())


def test_a_loss_of_yes_and_no_takes_any_grade_above_0_as_yes():
    problem = tiny.ranking()
    features, relevance, mask = batch = first_batch(problem)
    scores = model_of(problem)(features)[mask]
    expected = torch.nn.functional.binary_cross_entropy_with_logits(
        scores, (relevance[mask] > 0).float()
    )
    torch.testing.assert_close(
        value(problem, model_of(problem), batch, "binary_cross_entropy"), expected
    )


def test_a_loss_on_numbers_brings_the_score_to_the_grade():
    problem = tiny.ranking()
    features, relevance, mask = batch = first_batch(problem)
    scores = model_of(problem)(features)[mask]
    expected = (scores - relevance[mask]).square().mean()
    torch.testing.assert_close(value(problem, model_of(problem), batch, "squared_error"), expected)


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("loss", ["ranknet", "listnet", "binary_cross_entropy", "squared_error"])
def test_padding_reaches_neither_value_nor_gradient(kind, loss):
    problem = tiny.ranking()
    model = model_of(problem, model=kind)
    features, relevance, mask = first_batch(problem)
    wide = [torch.nn.functional.pad(features, (0, 0, 0, 3), value=7.0)]
    wide += [torch.nn.functional.pad(x, (0, 3), value=1) for x in (relevance, mask)]
    wide[2][:, -3:] = False
    gradients = []
    for batch in ((features, relevance, mask), tuple(wide)):
        model.zero_grad()
        cost = value(problem, model, batch, loss)
        cost.backward()
        gradients.append([cost.detach(), *(p.grad.clone() for p in model.parameters())])
    torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-6)
    assert all(gradient.any() for gradient in gradients[0][1:3])


# ---------------------------------------------------------------------------- models


def test_attention_scores_an_item_among_its_list_in_any_order():
    problem = tiny.ranking()
    model = model_of(problem, model="attention")
    features, _, mask = first_batch(problem)
    scores = model(features, mask)
    turned = model(features.flip(1), mask.flip(1)).flip(1)
    torch.testing.assert_close(turned[mask], scores[mask])
    row = int(mask.sum(-1).argmax())
    alone = torch.stack([model(features[row : row + 1, i : i + 1], mask[:1, :1])[0, 0]
                         for i in range(mask.shape[1])])  # fmt: skip
    assert not torch.allclose(alone, scores[row], atol=1e-4)  # the others matter


def test_the_perceptron_scores_an_item_alone():
    problem = tiny.ranking()
    model = model_of(problem)
    features, _, mask = first_batch(problem)
    torch.testing.assert_close(model(features[:, :1], mask[:, :1]), model(features, mask)[:, :1])


def test_without_hidden_layers_it_is_linear():
    problem = tiny.ranking()
    model = model_of(problem, layers=0)
    assert sum(p.numel() for p in model.parameters()) == tiny.FEATURES + 1


def test_heads_that_do_not_divide_the_layer_are_refused():
    with pytest.raises(ValueError, match="hidden=8 must be divisible by heads=3"):
        model_of(tiny.ranking(), model="attention", heads=3)


# ---------------------------------------------------------------------------- evaluation


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("size", [1, 5, 12])
def test_values_do_not_depend_on_the_evaluation_batch(monkeypatch, kind, size):
    problem = tiny.ranking()
    model = model_of(problem, model=kind, dropout=0.5).train()
    expected = problem.evaluate(model, "test", METRICS)
    monkeypatch.setattr(ranking, "LISTS_AT_ONCE", size)
    assert problem.evaluate(model, "test", METRICS) == pytest.approx(expected, rel=1e-12)
    assert 0 < expected["ndcg@3"] < 1


def test_metrics_are_means_over_the_lists_that_have_an_answer():
    problem = tiny.ranking()
    model = model_of(problem)
    part = problem.parts["test"]
    found = {name: [] for name in NAMES}
    for q in range(len(part)):
        features, relevance, mask = part.padded(torch.tensor([q]))
        for metric in METRICS:
            scale = {"highest": 2.0} if metric.base == "err" else {}
            one = metric.function(model(features, mask), relevance, mask, **scale).item()
            if not math.isnan(one):
                found[metric.name].append(one)
    assert len(found["map"]) < len(part)  # one list has nothing relevant
    expected = {name: sum(values) / len(values) for name, values in found.items()}
    assert problem.evaluate(model, "test", METRICS) == pytest.approx(expected, rel=1e-9)


# ---------------------------------------------------------------------------- from a file


def test_a_file_becomes_a_problem_and_says_what_it_holds(tmp_path):
    rows = [f"{i % 3} qid:{q} 1:{i + q / 7:.3f} 2:5\n" for q in range(50) for i in range(1 + q % 6)]
    (tmp_path / "train.txt").write_text("".join(rows))
    problem = TASK.problem(str(tmp_path / "train.txt"), TASK.resolve({}))
    assert problem.description.rows == {"train": 36, "valid": 4, "test": 10}
    assert problem.description.split == "valid and test drawn (s0)"
    assert f"{len(rows)} items in 50 lists, up to 6." in problem.description.notes
    train = problem.parts["train"].features
    torch.testing.assert_close(train[:, 0].mean(), torch.tensor(0.0), atol=1e-6, rtol=0)
    torch.testing.assert_close(train[:, 0].std(correction=0), torch.tensor(1.0))
    assert not train[:, 1].any()  # constant: nothing can be learnt from it
