from __future__ import annotations

import pytest
from fake_study import FakeTask, study

from lossmith.compare.plan import PlanError, make_plan
from lossmith.compare.planfile import plan_text, read_plan_file
from lossmith.tasks.registry import load_task


def written(folder, text):
    path = folder / "plan.toml"
    path.write_text(text, "utf-8")
    return path


def replay(task, path):
    asked = read_plan_file(path)
    plan, _ = make_plan(
        task, asked["data"], asked["losses"], metric=asked["metric"], seeds=asked["seeds"],
        baseline=asked["baseline"], settings=asked["settings"],
    )  # fmt: skip
    return plan


def test_a_plan_that_is_written_and_read_is_the_same_plan(tmp_path):
    plan = study(
        tmp_path, "a b(k=1) b@epochs=3", seeds=(0, 3), metric="log_loss", baseline="b(k=1)",
        learning_rate=0.5,
    ).plan  # fmt: skip
    again = replay(FakeTask(), written(tmp_path, plan_text(plan)))
    assert again.conditions() == plan.conditions() and again.digest == plan.digest
    assert (again.seeds, again.baseline, again.arms) == (plan.seeds, plan.baseline, plan.arms)


def test_settings_that_follow_from_an_arms_own_model_are_left_to_follow(tmp_path):
    data = tmp_path / "posts.csv"
    data.write_text("text,labels\n" + "".join(f"words {i},{'ab'[i % 2]}\n" for i in range(40)))
    task = load_task("tagging")
    losses = ["masked_binary_cross_entropy", "masked_binary_cross_entropy@model=cnn"]
    plan, _ = make_plan(
        task, str(data), losses, metric=None, seeds=2, baseline=None, settings={"epochs": 2}
    )
    different = {
        key for key in plan.arms[0].settings
        if plan.arms[0].settings[key] != plan.arms[1].settings[key]
    }  # fmt: skip
    assert len(different) > 1  # what the preset of the model says differs too
    assert replay(task, written(tmp_path, plan_text(plan))).conditions() == plan.conditions()


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("familly = 'x'", "no key 'familly'. Did you mean 'family'?"),
        ("epochs = 3", r"below a line \[settings\]"),
        ("losses = 'bpr,warp'", r"losses = 'bpr,warp'; expected a list of texts"),
        ("seeds = true", "expected a count"),
        ("seeds = [0, 0]", "listed twice"),
        ("settings = 3", r"expected a table: \[settings\]"),
        ("family = ", "is not TOML"),
    ],
)
def test_a_mistake_in_the_file_is_named_with_what_to_write(tmp_path, text, complaint):
    with pytest.raises(PlanError, match=complaint):
        read_plan_file(written(tmp_path, text))


def test_a_file_that_is_not_there_is_a_message(tmp_path):
    with pytest.raises(PlanError, match="cannot be read"):
        read_plan_file(tmp_path / "none.toml")
