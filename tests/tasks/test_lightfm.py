from __future__ import annotations

import sys

import numpy as np
import pytest
import torch

from lossmith.tasks.registry import load_task
from tasks import tiny

TASK = load_task("recommendation")


@pytest.fixture
def needed():
    pytest.importorskip("lightfm", reason="an optional extra")


def learner(loss="lightfm(loss='warp')", seed=0, **given):
    problem = tiny.recommendation()
    return problem, TASK.learner(problem, loss, tiny.settings("recommendation", **given), seed)


def scores(made):
    return made.model.all_scores(torch.arange(tiny.USERS))


def trained(epochs=3, **given):
    _, made = learner(**given)
    for _ in range(epochs):
        assert np.isnan(made.epoch())  # it reports no loss
    return scores(made)


def test_one_thread_and_one_seed_give_one_result(needed):
    first = trained(seed=1)
    assert torch.equal(first, trained(seed=1))
    assert not torch.equal(first, trained(seed=2))


def test_its_scores_are_those_of_its_own_predict_up_to_the_users_bias(needed):
    _, made = learner()
    made.epoch()
    users, items = np.divmod(np.arange(tiny.USERS * tiny.ITEMS, dtype=np.int32), tiny.ITEMS)
    own = made.fit.predict(users, items, num_threads=1).reshape(tiny.USERS, tiny.ITEMS)
    user_bias, _ = made.fit.get_user_representations()
    found = scores(made).numpy() + user_bias[:, None]
    np.testing.assert_allclose(found, own, rtol=1e-5, atol=1e-6)
    assert np.ptp(found) > 0


def test_it_learns_what_it_is_shown(needed):
    table, known = trained(epochs=40), tiny.recommendation().known.dense(torch.arange(tiny.USERS))
    assert table[known].mean() > table[~known].mean() + 1


def test_it_has_the_dimension_of_the_comparison_and_counts_its_numbers(needed):
    problem, made = learner(dimension=7)
    assert made.fit.no_components == 7
    made.epoch()
    tables = [made.fit.user_embeddings, made.fit.item_embeddings, made.fit.user_biases]
    counted = sum(table.size for table in [*tables, made.fit.item_biases])
    assert made.parameters == counted == (problem.users + problem.items) * 8


def test_its_own_knobs_reach_it(needed):
    _, made = learner("lightfm(loss='bpr', learning_rate=0.2)")
    assert (made.fit.loss, made.fit.learning_rate) == ("bpr", 0.2)


@pytest.mark.parametrize(
    ("loss", "complaint"),
    [
        ("lightfm(los='warp')", "Did you mean 'loss'"),
        ("lightfm(loss='wrap')", "expected one of 'logistic', 'bpr', 'warp', 'warp-kos'"),
        ("lightfm(no_components=3)", "from the setting dimension"),
        ("lightfm(random_state=3)", "from the seed"),
    ],
)
def test_a_knob_that_it_does_not_have_is_refused_before_training(needed, loss, complaint):
    with pytest.raises(ValueError, match=complaint):
        TASK.check(loss, TASK.resolve({}))


def test_every_peer_that_is_offered_can_be_asked_for(needed):
    for peer in TASK.peers:
        TASK.check(peer, TASK.resolve({}))
        assert TASK.is_peer(peer) and "another library's learner" in TASK.usage(peer)


def test_without_the_package_the_comparison_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "lightfm", None)
    with pytest.raises(ValueError, match="pip install lightfm-next"):
        TASK.check("lightfm(loss='warp')", TASK.resolve({}))
