from __future__ import annotations

import json

import pytest
from fake_study import FakeTask, study

from lossmith.compare.plan import Plan, PlanError, make_plan, read_seeds, read_setting, seeds_text
from lossmith.data.errors import DataError


def test_runs_go_seed_by_seed_so_that_an_early_stop_leaves_pairs(tmp_path):
    runs = study(tmp_path, "a b", 2).plan.runs()
    assert [run.key for run in runs] == [("a", 0), ("b", 0), ("a", 1), ("b", 1)]


def test_an_arm_has_settings_of_its_own_after_the_at_sign(tmp_path):
    plan = study(tmp_path, "a a@model=lstm@epochs=2", epochs=7).plan
    assert [arm.settings["model"] for arm in plan.arms] == ["bag", "lstm"]
    assert [arm.settings["epochs"] for arm in plan.arms] == [7, 2]
    assert [arm.text for arm in plan.arms] == ["a", "a@model=lstm@epochs=2"]


def test_an_at_sign_inside_brackets_or_quotes_belongs_to_the_loss(tmp_path):
    arm = study(tmp_path, "a(mail='x@y',k=[1,2])").plan.arms[0]
    assert arm.loss == "a(mail='x@y', k=[1, 2])"


def test_an_arm_is_named_by_its_normal_text(tmp_path):
    plan = make_plan(
        FakeTask(), "d", ["a( margin = .5 )"], metric=None, seeds=1, baseline=None, settings={}
    )[0]
    assert plan.arms[0].text == "a(margin=0.5)"


def test_different_texts_have_different_folders(tmp_path):
    plan = study(tmp_path, "a(x=0.5) a(x=-0.5) a").plan
    slugs = [arm.slug for arm in plan.arms]
    assert len(set(slugs)) == 3 and slugs[2] == "a"
    assert all("/" not in slug and "(" not in slug for slug in slugs)


def test_the_baseline_is_the_first_loss_or_the_one_named(tmp_path):
    assert study(tmp_path, "a b").plan.baseline == "a"
    assert study(tmp_path, "a b", baseline="b").plan.baseline == "b"
    added = study(tmp_path, "a b", baseline="c").plan
    assert [arm.text for arm in added.arms] == ["c", "a", "b"]


def test_plans_round_trip_through_json(tmp_path):
    plan = study(tmp_path, "a b(x=1)", "0,4", epochs=2).plan
    assert Plan.from_dict(json.loads(json.dumps(plan.as_dict()))) == plan


def test_the_command_makes_the_same_plan_again(tmp_path):
    plan = study(tmp_path, "a b(x=1)", "0,4", epochs=2, metric="log_loss", baseline="b(x=1)").plan
    assert plan.command() == (
        "lossmith compare classification reviews.csv --losses 'a,b(x=1)' --metric log_loss "
        "--seeds 0,4 --baseline 'b(x=1)' --set epochs=2"
    )


@pytest.mark.parametrize(
    "change",
    [{"epochs": 9}, {"losses": "a c"}, {"metric": "log_loss"}, {"content": "1"}],
)
def test_what_decides_numbers_changes_the_folder(tmp_path, change):
    assert study(tmp_path).plan.folder_name != study(tmp_path, **change).plan.folder_name


def test_more_seeds_and_another_baseline_stay_in_the_folder(tmp_path):
    name = study(tmp_path).plan.folder_name
    assert name.startswith("classification-reviews-")
    assert study(tmp_path, seeds=20, baseline="b").plan.folder_name == name


@pytest.mark.parametrize(
    ("asked", "complaint"),
    [
        ({"losses": "a bb"}, "there is no objective 'bb'"),
        ({"losses": "a b("}, "does not read as a name"),
        ({"metric": "acuracy"}, "Did you mean 'accuracy'"),
        ({"epoch": 3}, "Did you mean 'epochs'"),
        ({"losses": "a b@epoch=3"}, "Did you mean 'epochs'"),
        ({"losses": "a b@epochs"}, "does not read as key=value"),
        ({"losses": "a a"}, "listed twice"),
        ({"losses": "a a@model=bag"}, "also as 'a'"),
        ({"losses": "a b@metric=log_loss"}, "different metrics, accuracy and log_loss"),
        ({"seeds": 0}, "at least one seed"),
        ({"seeds": "ten"}, "expected a count"),
        ({"seeds": [1, 1]}, "listed twice"),
        ({"seeds": [-1]}, "whole numbers from 0"),
    ],
)
def test_a_plan_that_cannot_be_says_what_to_type(tmp_path, asked, complaint):
    with pytest.raises(PlanError, match=complaint.replace("(", r"\(")):
        study(tmp_path, **asked)


def test_an_error_in_the_data_stays_an_error_in_the_data():
    with pytest.raises(DataError, match=r"broken\.csv:3"):
        make_plan(FakeTask(), "broken.csv", None, metric=None, seeds=1, baseline=None, settings={})


@pytest.mark.parametrize("seeds", [(0, 1, 2), (5,), (0,), (3, 1), (0, 2)])
def test_seeds_read_back(seeds):
    assert read_seeds(seeds_text(seeds)) == seeds


@pytest.mark.parametrize(
    ("text", "value"),
    [("k=3", 3), ("k=1e-3", 0.001), ("k=true", True), ("k=word", "word"), ("k=a b", "a b"),
     ("k=a-b.csv", "a-b.csv"), ("k=x=y", "x=y"), ("k=1, z=2", "1, z=2"), ("k=", "")],
)  # fmt: skip
def test_setting_values_are_numbers_words_or_text(text, value):
    assert read_setting(text) == ("k", value)


def test_a_dash_in_a_settings_name_is_an_underscore():
    assert read_setting("batch-size=8") == ("batch_size", 8)
