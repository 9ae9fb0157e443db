from __future__ import annotations

import pytest
import torch

from lossmith.core.metric import find_metric
from lossmith.modules import from_text
from lossmith.tasks.registry import load_task
from lossmith.tasks.regression import RegressionProblem
from lossmith.tasks.task import GradientLearner
from tasks import tiny

TASK = load_task("regression")
METRICS = [find_metric(name, "regression") for name in ("mae", "rmse", "r2", "within@2")]
READS = ("features", "text")


@pytest.mark.parametrize("reads", READS)
def test_a_fresh_model_speaks_in_units_of_the_target(reads):
    problem = tiny.regression(reads)
    torch.manual_seed(0)
    model = problem.model(tiny.settings("regression"))
    prediction = model(problem.inputs["train"])
    target = problem.target["train"]
    assert prediction.shape == target.shape
    assert abs(prediction.mean() - target.mean()) < 2 * target.std()
    assert model.centre == pytest.approx(target.mean().item(), rel=1e-6)
    assert model.scale == pytest.approx(target.std(correction=0).item(), rel=1e-5)


def test_the_loss_sees_prediction_and_target_in_those_units():
    problem = tiny.regression()
    torch.manual_seed(0)
    model = problem.model(tiny.settings("regression"))
    inputs, target = batch = next(iter(problem.batches(tiny.settings("regression"), 0, 1)))
    error = model(inputs) - target
    for loss, expected in (
        ("squared_error", error.square().mean()),
        ("absolute_error", error.abs().mean()),
        ("epsilon_insensitive(epsilon=4.0)", (error.abs() - 4).relu().mean()),
    ):
        objective = from_text(loss)
        found = problem.cost(model, batch, objective, TASK.feed(objective.spec))
        torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("loss", TASK.default_losses)
def test_a_linear_function_of_the_features_is_learnt(loss):
    problem = tiny.regression()
    settings = tiny.settings("regression", hidden=32, learning_rate=0.01)
    learner = GradientLearner(TASK, problem, loss, settings, seed=0)
    before = problem.evaluate(learner.model, "test", METRICS)
    for _ in range(150):
        learner.epoch()
    after = problem.evaluate(learner.model, "test", METRICS)
    assert before["r2"] < 0.5 < 0.8 < after["r2"]
    assert after["mae"] < before["mae"] / 2 and after["within@2"] > before["within@2"]


def test_metrics_are_over_the_whole_part_without_dropout():
    problem = tiny.regression("text")
    torch.manual_seed(0)
    model = problem.model(tiny.settings("regression", dropout=0.9)).train()
    found = problem.evaluate(model, "test", METRICS)
    error = model.eval()(problem.inputs["test"]) - problem.target["test"]
    assert found["mae"] == pytest.approx(error.double().abs().mean().item(), rel=1e-5)
    assert found["within@2"] == (error.abs() <= 2).double().mean().item()


def test_a_target_of_one_value_in_training_does_not_divide_by_zero():
    target = {part: torch.full((rows,), 3.0) for part, rows in tiny.ROWS.items()}
    whole = tiny.regression()
    problem = RegressionProblem(whole.inputs, target, whole.description, whole.build, "features")
    assert problem.scale == 1


# ---------------------------------------------------------------------------- from a file


@pytest.fixture
def houses(tmp_path):
    rows = [f"{i},{i % 9},{(7 * i) % 11},{100 + 3 * (i % 9)}\n" for i in range(99)]
    (tmp_path / "houses.csv").write_text("id,rooms,age,price\n" + "".join(rows))
    return str(tmp_path / "houses.csv")


@pytest.fixture
def reviews(tmp_path):
    rows = [f"{'fine' if i % 3 else 'dull'} film {i},{1 + 4 * (i % 3)}\n" for i in range(60)]
    (tmp_path / "reviews.csv").write_text("review,rating\n" + "".join(rows))
    return str(tmp_path / "reviews.csv")


def test_the_model_follows_the_data(houses, reviews):
    kinds = []
    for data in (houses, reviews):
        settings = TASK.resolve({})
        kinds.append(type(TASK.problem(data, settings).model(settings).model).__name__)
    assert kinds == ["Perceptron", "Bag"]


def test_a_model_that_cannot_read_the_data_is_refused(houses, reviews):
    with pytest.raises(ValueError, match="model=cnn reads a text, and the data has features"):
        TASK.problem(houses, TASK.resolve({"model": "cnn"}))
    with pytest.raises(ValueError, match="model=mlp reads features, and the data has a text"):
        TASK.problem(reviews, TASK.resolve({"model": "mlp"}))


def test_the_description_says_what_was_read(houses):
    found = TASK.problem(houses, TASK.resolve({"features": "rooms,age"})).description
    assert found.rows == {"train": 71, "valid": 8, "test": 20}
    assert found.facts == {"features": 2}
    assert any("'price'" in note for note in found.notes)
