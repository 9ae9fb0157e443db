from __future__ import annotations

import math
import random

import pytest
import torch

from lossmith.core.metric import find_metric
from lossmith.modules import from_text
from lossmith.tasks import recommendation
from lossmith.tasks.factorization import Factorization
from lossmith.tasks.registry import load_task
from tasks import tiny

TASK = load_task("recommendation")
NAMES = ("precision@3", "recall@2", "ndcg@4", "mrr@9", "auc")


def taken(problem, *parts):
    """Who has what in these parts."""
    found: dict[int, set[int]] = {user: set() for user in range(problem.users)}
    for part in parts:
        for user, item in zip(*(side.tolist() for side in problem.pairs[part]), strict=True):
            found[user].add(item)
    return found


def numbered(problem, **given):
    """A model whose score of an item is its number, so that scores tell which items were fed."""
    model = problem.model(tiny.settings("recommendation", **given))
    with torch.no_grad():
        model.users.weight.zero_()
        model.item_bias.weight.copy_(torch.arange(problem.items).unsqueeze(-1))
    return model


def fed(problem, loss, **given):
    """The batches of an epoch, each with what the objective was called with."""
    settings, objective, calls = tiny.settings("recommendation", **given), from_text(loss), []
    objective.register_forward_pre_hook(
        lambda module, inputs, batch: calls.append((*inputs, batch)), with_kwargs=True
    )
    model = numbered(problem, **given)
    batches = list(problem.batches(settings, 0, 1))
    for batch in batches:
        problem.cost(model, batch, objective, TASK.feed(objective.spec))
    assert len(calls) == len(batches) > 3
    return list(zip(batches, calls, strict=True))


# ---------------------------------------------------------------------------- feeds


def test_a_pair_is_a_positive_and_drawn_items_of_which_the_mask_keeps_the_true_negatives():
    problem = tiny.recommendation()
    known = taken(problem, "train")
    kept, drawn = 0, set()
    for batch, (positive, negative, given) in fed(problem, "bpr", negatives=20):
        assert positive.shape == negative.shape == given["mask"].shape == (len(batch.users), 20)
        for r, user in enumerate(batch.users.tolist()):
            assert set(positive[r].tolist()) == {float(batch.items[r])}
            items = negative[r].int().tolist()
            assert given["mask"][r].tolist() == [item not in known[user] for item in items]
            drawn |= set(items)
            kept += int(given["mask"][r].sum())
    assert drawn == set(range(tiny.ITEMS))
    # Three of nine items are known to each user.
    assert kept / (20 * tiny.USERS * 3) == pytest.approx(2 / 3, abs=0.08)


def test_single_scores_are_one_yes_and_as_many_no_as_the_setting_says():
    problem = tiny.recommendation()
    known = taken(problem, "train")
    for batch, (scores, target, given) in fed(problem, "binary_cross_entropy", negatives=4):
        assert scores.shape == (len(batch.users), 5)
        assert scores[:, 0].int().tolist() == batch.items.tolist()
        assert target.tolist() == [[1, 0, 0, 0, 0]] * len(batch.users)
        for r, user in enumerate(batch.users.tolist()):
            expected = [item not in known[user] for item in scores[r, 1:].int().tolist()]
            assert given["mask"][r].tolist() == [True, *expected]


@pytest.mark.parametrize("margin", ["", "margin=0.5", "margin=3"])
def test_warp_is_fed_the_first_violator_of_each_positive(margin):
    problem = tiny.recommendation()
    known = taken(problem, "train")
    size = {"": 1.0, "margin=0.5": 0.5, "margin=3": 3.0}[margin]
    found = 0
    # The knob keeps to the form that calls the objective; the fused one is held to it below.
    loss = f"warp(reduction='sum'{margin and ', '}{margin})"
    for batch, (positive, negative, given) in fed(problem, loss, max_trials=60):
        assert positive.int().tolist() == batch.items.tolist()
        assert given["num_items"] == tiny.ITEMS
        for r, user in enumerate(batch.users.tolist()):
            violators = {
                item
                for item in range(tiny.ITEMS)
                if item not in known[user] and item > int(batch.items[r]) - size
            }
            if given["mask"][r, 0]:
                found += 1
                assert int(negative[r, 0]) in violators
                assert 1 <= int(given["trials"][r, 0]) <= 60
            else:
                assert len(violators) <= 1  # one item in nine can hide from sixty draws
    assert found > tiny.USERS


@pytest.mark.parametrize("loss", ["warp", "warp(margin=0.3, weighting='harmonic')"])
@pytest.mark.parametrize("l2", [0.0, 0.3])
def test_fused_warp_is_the_objective_fed_with_the_violators(loss, l2, monkeypatch):
    def gradients():
        problem = tiny.recommendation()
        settings, objective = tiny.settings("recommendation", l2=l2, max_trials=4), from_text(loss)
        torch.manual_seed(0)
        model = problem.model(settings)
        for table in (model.users, model.items, model.item_bias):
            torch.nn.init.normal_(table.weight)
        costs = [
            problem.cost(model, batch, objective, TASK.feed(objective.spec))
            for batch in problem.batches(settings, 0, 1)
        ]
        torch.stack(costs).sum().backward()
        tables = (model.users, model.items, model.item_bias)
        return torch.stack(costs).detach(), [table.weight.grad for table in tables]

    fused, fused_gradients = gradients()
    monkeypatch.setattr(recommendation, "is_fused", lambda objective: False)
    given, given_gradients = gradients()
    assert (given > 0).sum() > 3
    torch.testing.assert_close(fused, given)
    for one, other in zip(fused_gradients, given_gradients, strict=True):
        torch.testing.assert_close(one, other)


def test_a_whole_catalogue_is_every_item_that_the_user_has_not_taken():
    problem = tiny.recommendation()
    known = taken(problem, "train")
    for batch, (positive, scores, given) in fed(problem, "expected_warp"):
        assert positive.int().tolist() == batch.items.tolist()
        assert torch.equal(scores, torch.arange(9.0).expand_as(scores))
        for r, user in enumerate(batch.users.tolist()):
            assert set((~given["mask"][r]).nonzero().flatten().tolist()) == known[user]


def test_a_softmax_takes_the_item_as_a_class_among_all():
    problem = tiny.recommendation()
    for batch, (scores, target, _) in fed(problem, "cross_entropy"):
        assert torch.equal(target, batch.items)
        assert torch.equal(scores, torch.arange(9.0).expand_as(scores))


def test_a_margin_that_is_no_number_is_named():
    with pytest.raises(ValueError, match="margin='wide' is not a number"):
        fed(tiny.recommendation(), "warp(margin=wide)")


def test_the_penalty_is_on_the_vectors_that_a_batch_used():
    problem = tiny.recommendation()
    torch.manual_seed(0)
    model = problem.model(tiny.settings("recommendation"))
    values = {}
    for l2 in (0.0, 0.25):
        batch = next(iter(problem.batches(tiny.settings("recommendation", l2=l2), 0, 1)))
        values[l2] = problem.cost(model, batch, from_text("cross_entropy"), "logits+class")
    vectors = torch.cat([model.users.weight[batch.users], model.items.weight[batch.items]])
    expected = 0.25 * vectors.square().sum() / len(batch.users)
    torch.testing.assert_close(values[0.25] - values[0.0], expected, rtol=1e-3, atol=0)


def test_drawing_negatives_leaves_the_order_of_the_positives_as_it_is():
    problem, settings = tiny.recommendation(), tiny.settings("recommendation")
    plain = [batch.items for batch in problem.batches(settings, 0, 1)]
    drawing = []
    for batch in problem.batches(settings, 0, 1):
        problem.negatives(batch, 50)
        drawing.append(batch.items)
    assert all(map(torch.equal, plain, drawing))


def test_negatives_depend_on_seed_and_epoch_alone():
    problem, settings = tiny.recommendation(), tiny.settings("recommendation")

    def drawn(seed, epoch):
        torch.manual_seed(random.randrange(1000))
        batches = problem.batches(settings, seed, epoch)
        return torch.cat([problem.negatives(batch, 3)[0] for batch in batches])

    first = drawn(1, 1)
    assert torch.equal(first, drawn(1, 1))
    assert not torch.equal(first, drawn(1, 2)) and not torch.equal(first, drawn(2, 1))


# ---------------------------------------------------------------------------- the model


def test_a_score_is_a_dot_product_and_biases_and_the_penalty_the_squares_it_is_made_of():
    torch.manual_seed(0)
    model = Factorization(tiny.USERS, tiny.ITEMS, dimension=4)
    with torch.no_grad():
        model.item_bias.weight.normal_()
        model.offset.fill_(0.7)
    users, items = torch.tensor([3, 0, 3]), torch.tensor([[1, 8], [0, 0], [4, 2]])
    scores, penalty = model(users, items)
    table = model.all_scores(users)
    assert table.shape == (3, tiny.ITEMS)
    torch.testing.assert_close(scores, table.gather(1, items))
    user, first, second = model.users.weight[3], model.items.weight[1], model.items.weight[8]
    bias = model.item_bias.weight[8, 0] + 0.7
    torch.testing.assert_close(scores[0, 1], (user * second).sum() + bias)
    squares = sum(vector.square().sum() for vector in (user, first, second))
    torch.testing.assert_close(penalty[0], squares)


# ---------------------------------------------------------------------------- evaluation


def by_hand(scores, relevant, excluded):
    """The metrics of one user by plain loops."""
    ranked = sorted((i for i in range(tiny.ITEMS) if i not in excluded), key=lambda i: -scores[i])
    hits = [item in relevant for item in ranked]
    others = [item for item in ranked if item not in relevant]
    gain = sum(hit / math.log2(2 + place) for place, hit in enumerate(hits[:4]))
    ideal = sum(1 / math.log2(2 + place) for place in range(min(4, len(relevant))))
    above = [scores[i] > scores[j] for i in relevant for j in others]
    return {
        "precision@3": sum(hits[:3]) / 3,
        "recall@2": sum(hits[:2]) / len(relevant),
        "ndcg@4": gain / ideal,
        "mrr@9": 1 / (1 + hits.index(True)),
        "auc": sum(above) / len(above),
    }


def metrics(*names):
    return [find_metric(name, "recommendation") for name in names]


@pytest.mark.parametrize(
    ("parts", "part", "left_out"),
    [
        (("train", "valid", "test"), "valid", ("train",)),
        (("train", "valid", "test"), "test", ("train", "valid")),
        (("train", "test"), "test", ("train",)),
    ],
)
def test_evaluation_is_a_plain_loop_over_users_and_items(parts, part, left_out):
    problem = tiny.recommendation(parts)
    torch.manual_seed(4)
    model = problem.model(tiny.settings("recommendation"))
    scores = model.all_scores(torch.arange(problem.users)).tolist()
    excluded, relevant = taken(problem, *left_out), taken(problem, part)
    each = [by_hand(scores[u], relevant[u], excluded[u]) for u in range(problem.users)]
    found = problem.evaluate(model, part, metrics(*NAMES))
    assert list(found) == list(NAMES)
    for name in NAMES:
        assert found[name] == pytest.approx(sum(one[name] for one in each) / len(each)), name


def test_a_model_that_knows_the_answer_gets_all_of_it():
    problem = tiny.recommendation()
    answer = problem.taken["test"]

    class Knowing:
        def all_scores(self, users):
            return answer.dense(users).float()

    found = problem.evaluate(Knowing(), "test", metrics("recall@2", "ndcg@4", "auc"))
    assert found == {"recall@2": 1.0, "ndcg@4": 1.0, "auc": 1.0}


@pytest.mark.parametrize("users_at_once", [1, 3, 5, 1000])
def test_the_value_does_not_depend_on_how_many_users_are_scored_at_once(monkeypatch, users_at_once):
    problem = tiny.recommendation()
    torch.manual_seed(4)
    model = problem.model(tiny.settings("recommendation"))
    expected = problem.evaluate(model, "test", metrics(*NAMES))
    monkeypatch.setattr(recommendation, "USERS_AT_ONCE", users_at_once)
    seen = []
    all_scores = model.all_scores
    monkeypatch.setattr(model, "all_scores", lambda u: (seen.append(len(u)), all_scores(u))[1])
    assert problem.evaluate(model, "test", metrics(*NAMES)) == pytest.approx(expected, rel=1e-12)
    assert max(seen) == min(users_at_once, tiny.USERS) and sum(seen) == tiny.USERS


def test_users_without_an_answer_are_left_out_of_the_mean():
    everything = [(0, item) for item in range(1, tiny.ITEMS)]
    problem = tiny.interactions({"train": [*everything, (1, 0)], "test": [(0, 0), (1, 2), (1, 3)]})
    model = numbered(problem)
    found = problem.evaluate(model, "test", metrics("auc", "recall@2"))
    # User 0 has no item left to be wrong about: no AUC. Items 2 and 3 of user 1 stand above 1
    # and below 4 to 8.
    assert found["auc"] == pytest.approx(2 / 12)
    assert found["recall@2"] == pytest.approx((1 + 0) / 2)


def test_a_metric_that_no_user_has_is_not_reported_as_zero():
    everything = [(0, item) for item in range(1, tiny.ITEMS)]
    problem = tiny.interactions({"train": everything, "test": [(0, 0)]})
    found = problem.evaluate(numbered(problem), "test", metrics("auc", "recall@2"))
    assert math.isnan(found["auc"]) and found["recall@2"] == 1


@pytest.mark.parametrize("loss", ["warp(margin=2.0)", "warp(weighting='harmonic')"])
def test_a_search_is_longest_where_no_item_violates(loss):
    task, problem = load_task("recommendation"), tiny.recommendation()
    learner = task.learner(problem, loss, tiny.settings("recommendation", batch_size=8, l2=0.1), 0)
    assert task.tire(learner) and "margin=0.0" in learner.objective.text
    assert learner.epoch() == 0.0, "nothing was found that costs"
    other = task.learner(problem, "bpr", tiny.settings("recommendation", batch_size=8), 0)
    assert not task.tire(other) and other.epoch() > 0
