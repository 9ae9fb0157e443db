from __future__ import annotations

import sys

import numpy as np
import pytest
import torch

from lossmith.core.metric import find_metric
from lossmith.tasks.registry import load_task
from tasks import tiny

TASK = load_task("ranking")
NDCG = find_metric("ndcg@10", "ranking")


@pytest.fixture
def needed():
    pytest.importorskip("lightgbm", reason="an optional extra")


def learner(loss="lightgbm(min_data_in_leaf=1, min_data_in_bin=1)", seed=0):
    problem = tiny.ranking()
    return problem, TASK.learner(problem, loss, tiny.settings("ranking"), seed)


def test_it_learns_what_it_is_shown(needed):
    problem, made = learner()
    assert np.isnan(made.epoch())  # it reports no loss
    assert problem.evaluate(made.model, "train", [NDCG])["ndcg@10"] > 0.95
    assert problem.evaluate(made.model, "test", [NDCG])["ndcg@10"] > 0.8


def test_an_epoch_is_so_many_trees_and_its_numbers_are_counted(needed):
    _, made = learner("lightgbm(trees=3, num_leaves=4, min_data_in_leaf=1)")
    made.epoch()
    made.epoch()
    assert made.fit.num_trees() == 6
    trees = made.fit.dump_model()["tree_info"]
    assert made.parameters == sum(2 * tree["num_leaves"] - 1 for tree in trees) > 6


def test_its_scores_are_its_own_prediction_item_by_item(needed):
    problem, made = learner()
    made.epoch()
    features, _, mask = problem.parts["test"].padded(torch.arange(5))
    scores = made.model(features, mask)
    assert scores.shape == mask.shape and not scores[~mask].any()
    np.testing.assert_array_equal(scores[mask].numpy(), made.fit.predict(features[mask].numpy()))


def test_one_seed_gives_one_result(needed):
    drawn = "lightgbm(min_data_in_leaf=1, bagging_fraction=0.5, bagging_freq=1)"

    def scores(seed):
        problem, made = learner(drawn, seed)
        made.epoch()
        return made.model(*problem.parts["test"].padded(torch.arange(12))[::2])

    assert torch.equal(scores(1), scores(1)) and not torch.equal(scores(1), scores(2))


def test_nothing_is_printed(needed, capfd):
    _, made = learner("lightgbm(objective='rank_xendcg')")
    made.epoch()
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("loss", "complaint"),
    [
        ("lightgbm(num_leafs=3)", "no knob 'num_leafs'. Did you mean 'num_leaves'"),
        ("lightgbm(nonsense=3)", "no knob 'nonsense'. They are listed at https://lightgbm"),
        ("lightgbm(objective='multiclass')", "expected one of 'lambdarank', 'rank_xendcg'"),
        ("lightgbm(num_leaves=-3)", "num_leaves"),
        ("lightgbm(seed=3)", "gets seed from the seed"),
        ("lightgbm(n_estimators=3)", "gets n_estimators from the setting epochs"),
        ("lightgbm(trees=0)", "trees=0; expected how many trees make an epoch"),
    ],
)
def test_a_knob_that_it_does_not_take_is_refused_before_training(needed, loss, complaint):
    with pytest.raises(ValueError, match=complaint):
        TASK.check(loss, TASK.resolve({}))


def test_every_peer_that_is_offered_can_be_asked_for(needed):
    for peer in (*TASK.peers, "lightgbm(lambdarank_truncation_level=5, eta=0.1)"):
        TASK.check(peer, TASK.resolve({}))
        assert TASK.is_peer(peer) and "another library's learner" in TASK.usage(peer)


def test_without_the_package_the_comparison_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "lightgbm", None)
    with pytest.raises(ValueError, match="pip install lightgbm"):
        TASK.check("lightgbm(objective='lambdarank')", TASK.resolve({}))
