"""Matrix factorisation with features of users and items."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from lossmith.core.spec import parse
from lossmith.data.side_features import SideFeatures
from lossmith.tasks import warp_steps
from lossmith.tasks.factorization import Factorization, FeatureFactorization, FeatureTable
from lossmith.tasks.recommendation_data import load
from lossmith.tasks.registry import load_task
from lossmith.tasks.task import GradientLearner
from tasks import tiny

TASK = load_task("recommendation")
LOSSES = [tiny.loss("recommendation", spec.name) for spec in TASK.fitting()]


def features(rows, width=3, names=4, seed=0):
    generator = np.random.default_rng(seed)
    value = generator.normal(size=(rows, width)).astype(np.float32)
    value[::3, -1] = 0  # filled up
    return SideFeatures(
        [f"f{i}" for i in range(names)], generator.integers(names, size=(rows, width)), value
    )


def problem(user=True, item=True):
    made = tiny.recommendation()
    if user:
        made.features["user"] = features(tiny.USERS, seed=1)
    if item:
        made.features["item"] = features(tiny.ITEMS, seed=2)
    return made


@pytest.mark.parametrize("identity", [True, False])
def test_a_row_is_its_own_vector_and_the_sum_of_its_features(identity):
    torch.manual_seed(0)
    given = features(6)
    table = FeatureTable(6, given, dimension=5, identity=identity, std=1.0)
    assert (table.own is not None) is identity
    for row in range(6):
        expected = torch.zeros(5) if table.own is None else table.own.weight[row].clone()
        for index, value in zip(given.index[row], given.value[row], strict=True):
            expected = expected + float(value) * table.parts.weight[int(index)]
        torch.testing.assert_close(table()[row], expected)
    rows = torch.tensor([[4, 0], [5, 4]])
    torch.testing.assert_close(table(rows), table()[rows])


def test_without_features_it_is_plain_factorisation():
    size = {"dimension": 4}
    plain = Factorization(tiny.USERS, tiny.ITEMS, **size)
    made = FeatureFactorization(
        tiny.USERS, tiny.ITEMS, user_features=None, item_features=None, identity=False, **size
    )
    with torch.no_grad():
        made.users.own.weight.copy_(plain.users.weight)
        made.items.own.weight.copy_(plain.items.weight)
        made.item_bias.own.weight.copy_(plain.item_bias.weight.normal_())
    users, items = torch.tensor([3, 0]), torch.tensor([[1, 8], [0, 0]])
    for one, other in zip(plain(users, items), made(users, items), strict=True):
        torch.testing.assert_close(one, other)
    torch.testing.assert_close(plain.all_scores(users), made.all_scores(users))


@pytest.mark.parametrize("sides", [(True, True), (True, False), (False, True)])
def test_some_scores_are_those_of_all_items(sides):
    torch.manual_seed(0)
    made = problem(*sides).model(tiny.settings("recommendation"))
    users, items = torch.tensor([3, 0, 3]), torch.tensor([[1, 8], [0, 0], [4, 2]])
    scores, penalty = made(users, items)
    torch.testing.assert_close(scores, made.all_scores(users).gather(1, items))
    squares = made.users(users[:1]).square().sum() + made.items(items[0]).square().sum()
    torch.testing.assert_close(penalty[0], squares)


@pytest.mark.parametrize("loss", LOSSES)
def test_every_fitting_objective_trains(loss):
    given = tiny.settings("recommendation", learning_rate=0.02, l2=0.01)
    learner = GradientLearner(TASK, problem(), loss, given, seed=0)
    first, *others = [learner.epoch() for _ in range(15)]
    if "monotone" not in parse(loss)[0].exempt:
        assert others[-1] < first
    assert learner.model.items.parts.weight.grad.any()


def test_warp_with_features_takes_the_general_way(monkeypatch):
    def refuse(*args, **given):
        raise AssertionError("the fused form knows rows of tables alone")

    monkeypatch.setattr(warp_steps, "factor_warp", refuse)
    given = tiny.settings("recommendation")
    learner = GradientLearner(TASK, problem(), "warp", given, seed=0)
    assert learner.epoch() > 0
    with pytest.raises(AssertionError, match="fused"):
        GradientLearner(TASK, tiny.recommendation(), "warp", given, seed=0).epoch()


# ---------------------------------------------------------------------------- the whole way


@pytest.fixture
def shop(tmp_path):
    """Users who like one of two kinds of things; two items of each kind are in test alone."""
    for part, items in (("train", range(10)), ("test", range(10, 14))):
        rows = [f"u{u},i{i}" for u in range(20) for i in items
                if u % 2 == i % 2 and (part == "test" or (u // 2 + i // 2) % 3)]  # fmt: skip
        (tmp_path / f"{part}.csv").write_text("\n".join(["user,item", *rows]) + "\n")
    rows = [f"i{i},{'tea' if i % 2 else 'jazz'},{i % 5}" for i in range(14)]
    (tmp_path / "items.csv").write_text("\n".join(["item,kind,shelf", *rows, "i99,tea,1"]) + "\n")
    (tmp_path / "users.csv").write_text("user,town\nu0,a\nu1,b\nu2,a\n")
    return tmp_path


def order_of_cold_items(shop, loss="bpr", **given):
    """How often a cold item of the user's kind is scored above one of the other kind."""
    made = TASK.resolve({"valid": 0, "learning_rate": 0.05, "batch_size": 16, "dimension": 4,
                         **given})  # fmt: skip
    found, ids = TASK.problem(str(shop), made), load(str(shop), made).data.item_ids
    learner = GradientLearner(TASK, found, loss, made, seed=0)
    for _ in range(15):
        learner.epoch()
    with torch.no_grad():
        table = learner.model.all_scores(torch.arange(20))  # u0, u1, u10, u11, ...: even, odd, ...
    even = table[:, [ids.index("i10"), ids.index("i12")]]
    odd = table[:, [ids.index("i11"), ids.index("i13")]]
    above = (even.unsqueeze(-1) > odd.unsqueeze(-2)).double().mean(dim=(1, 2))
    users_are_odd = torch.arange(20) % 2 == 1
    return found, float(torch.where(users_are_odd, 1 - above, above).mean())


@pytest.mark.parametrize("loss", ["bpr", "warp"])
def test_a_cold_item_with_informative_features_is_ranked_above_chance(shop, loss):
    files = {"item_features": str(shop / "items.csv"), "user_features": str(shop / "users.csv")}
    found, right = order_of_cold_items(shop, loss, **files)
    assert right > 0.8
    assert found.description.facts["item features"] == 3
    notes = " ".join(found.description.notes)
    assert "items.csv: 2 columns describe 14 items." in notes
    assert "1 rows of items without interactions were left out" in notes
    assert "17 users have no row in users.csv" in notes
    _, right = order_of_cold_items(shop, loss, item_features=files["item_features"], identity=False)
    assert right > 0.8
    # Without features nobody can tell the cold items apart.
    plain, right = order_of_cold_items(shop, loss)
    assert 0.2 < right < 0.8
    assert plain.description.fingerprint != found.description.fingerprint


def test_identity_reads_as_yes_or_no():
    assert TASK.resolve({"identity": "false"})["identity"] is False
    assert TASK.resolve({"identity": True})["identity"] is True
    with pytest.raises(ValueError, match="identity='maybe' is not a yes or no"):
        TASK.resolve({"identity": "maybe"})


def test_lightfm_is_not_compared_where_it_would_lack_the_features():
    with pytest.raises(ValueError, match="is given no features here"):
        TASK.check_data("lightfm", problem())
    TASK.check_data("lightfm", tiny.recommendation())
    TASK.check_data("warp", problem())
