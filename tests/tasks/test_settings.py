from __future__ import annotations

import pytest
import torch

from lossmith.compare.plan import read_setting
from lossmith.tasks import TASK_FAMILIES
from lossmith.tasks.registry import load_task
from tasks import tiny


def resolve(family: str = "classification", /, **given):
    return load_task(family).resolve(given)


@pytest.mark.parametrize("family", TASK_FAMILIES)
def test_without_anything_given_every_setting_of_every_model_has_a_value(family):
    task = load_task(family)
    for model in task.settings["model"].choices:
        values = task.resolve({"model": model})
        assert values.keys() == task.settings.keys()
        unset = {name for name, value in values.items() if value is None}
        assert unset <= {"minimum", "encoder_learning_rate"}, f"{model} leaves {unset} open"
        assert values["epochs"] >= 1 and values["batch_size"] >= 1 and values["learning_rate"] > 0


@pytest.mark.parametrize("family", TASK_FAMILIES)
def test_what_is_resolved_resolves_to_itself(family):
    task = load_task(family)
    values = task.resolve({})
    assert task.resolve(values) == values


def test_the_model_brings_its_own_values_and_what_is_given_wins():
    bag, cnn, lstm = (resolve(model=model) for model in ("bag", "cnn", "lstm"))
    assert (bag["dimension"], cnn["dimension"], lstm["dimension"]) == (64, 50, 128)
    assert (bag["keep"], cnn["keep"]) == ("first", "last")
    assert resolve(model="subword_bag")["tokenizer"] == "subwords"
    given = resolve(model="cnn", epochs=3, dimension=7)
    assert (given["epochs"], given["dimension"], given["batch_size"]) == (3, 7, cnn["batch_size"])


def test_only_tagging_has_the_separate_model():
    assert resolve("tagging", model="separate")["dimension"] == 16
    with pytest.raises(ValueError, match="model='separate' is not a choice; expected one of bag,"):
        resolve("classification", model="separate")


@pytest.mark.parametrize(
    ("text", "name", "value"),
    [
        ("epochs=3", "epochs", 3),
        ("epochs=3.0", "epochs", 3),
        ("learning-rate=1e-2", "learning_rate", 0.01),
        ("learning_rate=1", "learning_rate", 1.0),
        ("label=7", "label", "7"),
        ("text=the review", "text", "the review"),
        ("metrics=accuracy,log_loss", "metrics", "accuracy,log_loss"),
        ("model=lstm", "model", "lstm"),
    ],
)
def test_text_from_a_command_line_becomes_the_settings_type(text, name, value):
    key, read = read_setting(text)
    found = resolve(**{key: read})[name]
    assert found == value and type(found) is type(value)


@pytest.mark.parametrize("value", ["all", "1", "2", 2, "1-balanced"])
def test_observed_is_a_word_or_a_count(value):
    assert resolve("tagging", observed=value)["observed"] == str(value)


@pytest.mark.parametrize("value", ["", "0", "-1", "half", 1.5, "2-balanced", True])
def test_observed_refuses_anything_else(value):
    with pytest.raises(ValueError, match=r"observed=.* is not a choice.*such as 1"):
        resolve("tagging", observed=value)


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        ({"epochs": 0}, r"epochs=0 must lie in \[1, inf\] \(passes over the training part\)"),
        ({"epochs": 2.5}, "epochs=2.5 is not a whole number"),
        ({"epochs": "many"}, "epochs='many' is not a whole number"),
        ({"epochs": True}, "epochs=True is not a whole number"),
        ({"dropout": 0.99}, r"dropout=0.99 must lie in \[0, 0.95\]"),
        ({"learning_rate": -1}, r"learning_rate=-1.0 must lie in \[0, inf\]"),
        ({"learning_rate": "nan"}, "learning_rate='nan' is not a finite number"),
        ({"learning_rate": float("inf")}, "learning_rate=inf is not a finite number"),
        ({"keep": "middle"}, "keep='middle' is not a choice; expected one of first, last"),
        ({"model": "transformer"}, "expected one of bag, subword_bag, cnn, lstm"),
        ({"epoch": 3}, "there is no setting 'epoch'. Did you mean 'epochs'?"),
        ({"dimensions": 3}, "Did you mean 'dimension'?"),
        ({"metric": "acuracy"}, "Did you mean 'accuracy'?"),
        ({"metrics": "accuracy,logloss"}, "Did you mean 'log_loss'?"),
    ],
)
def test_a_bad_setting_is_named_with_what_was_expected(given, complaint):
    with pytest.raises(ValueError, match=complaint.replace("?", r"\?")):
        resolve(**given)


@pytest.mark.parametrize("name", ["negatives", "max_trials", "dimension"])
def test_nothing_is_trained_on_no_negatives_or_no_numbers(name):
    with pytest.raises(ValueError, match=rf"{name}=0 must lie in \[1, inf\]"):
        resolve("recommendation", **{name: 0})


def test_the_deciding_metric_comes_first_and_once():
    def names(**given):
        task = load_task("classification")
        return [metric.name for metric in task.metrics(task.resolve(given))]

    assert names() == ["accuracy", "macro_f1", "log_loss", "calibration"]
    assert names(metric="log_loss") == ["log_loss", "accuracy", "macro_f1", "calibration"]
    assert names(metrics="log_loss, macro_f1") == ["log_loss", "macro_f1"]
    assert names(metrics="log_loss,macro_f1", metric="accuracy")[0] == "accuracy"


def test_an_unknown_task_is_answered_with_a_suggestion():
    with pytest.raises(ValueError, match="Did you mean 'tagging'"):
        load_task("taging")


@pytest.mark.parametrize(
    ("name", "kind"), [("adamw", torch.optim.AdamW), ("adagrad", torch.optim.Adagrad)]
)
def test_the_optimizer_is_the_one_that_was_chosen(name, kind):
    learner = load_task("recommendation").learner(
        tiny.recommendation(), "warp", tiny.settings("recommendation", optimizer=name), 0
    )
    before = learner.model.users.weight.detach().clone()
    assert type(learner.optimizer) is kind
    assert learner.epoch() > 0
    assert (learner.model.users.weight != before).any()
