"""Losses, metrics and models of the user's own: named, sent along, judged like the registry's."""

from __future__ import annotations

import random
from pathlib import Path

import own_things
import pytest
from own_things import Bag, Scorer, Smoothed, by_list, linear_ranker, plain, share, yes_or_no

from lossmith.compare import judged
from lossmith.compare.plan import PlanError
from lossmith.compare.revisit import read_report
from lossmith.compare.study import prepare
from lossmith.core.own import code_digest, lend, own, own_text
from lossmith.modules import from_text
from lossmith.training.job import Job
from lossmith.training.run import run_job

HERE = Path(own_things.__file__)


@pytest.fixture
def reviews(tmp_path):
    draw = random.Random(0)
    lines = ["text,label"]
    for i in range(80):
        words = draw.choices(["the", "film", "plot", "fine" if i % 2 else "dull"], k=6)
        lines.append(f"{' '.join(words)} {i},{'yes' if i % 2 else 'no'}")
    path = tmp_path / "reviews.csv"
    path.write_text("\n".join(lines) + "\n")
    return str(path)


@pytest.fixture
def lists(tmp_path):
    draw = random.Random(0)
    lines = ["query,label,a,b"]
    for query in range(30):
        for _ in range(draw.randint(2, 5)):
            a = draw.random()
            lines.append(f"q{query},{int(a > 0.6)},{a:.3f},{draw.random():.3f}")
    path = tmp_path / "lists.csv"
    path.write_text("\n".join(lines) + "\n")
    return str(path)


def trained(data, loss, family="classification", objects=None, **settings):
    """The epochs of one training in this process, times left out."""
    with lend(objects or {}):
        outcome = run_job(Job(family, data, loss, 0, {"epochs": 2, **settings}))
    return [(epoch.train_loss, epoch.valid, epoch.test) for epoch in outcome.epochs]


# ---------------------------------------------------------------------------- the same numbers


def test_a_loss_of_ones_own_equal_to_one_of_the_registry_gives_the_same_numbers(reviews, lists):
    ours = trained(reviews, "binary_cross_entropy")
    assert trained(reviews, "mine", objects={"mine": yes_or_no}) == ours
    assert trained(reviews, f"{HERE}:yes_or_no") == ours
    same = trained(reviews, "cross_entropy")
    assert trained(reviews, "mine", objects={"mine": plain}) == same
    assert trained(reviews, "mine", objects={"mine": from_text("cross_entropy")}) == same
    smooth = trained(reviews, "mine", objects={"mine": Smoothed(0.3)})
    assert smooth == trained(reviews, f"{HERE}:Smoothed(smoothing=0.3)") != same

    for (a, *_), (b, *_) in zip(
        trained(reviews, f"{HERE}:Smoothed(smoothing=0.0)"), same, strict=True
    ):
        assert a == pytest.approx(b, rel=1e-5)
    theirs = trained(lists, "listnet", "ranking")
    own_lists = trained(lists, "mine", "ranking", {"mine": by_list})
    for (a, _, b), (c, _, d) in zip(theirs, own_lists, strict=True):
        assert a == pytest.approx(c, rel=1e-5) and b == pytest.approx(d, abs=1e-6)


def test_a_metric_of_ones_own_decides_and_equals_the_registrys(reviews, lists):
    objects = {"share": judged(share, higher_is_better=True)}
    for *_, test in trained(reviews, "hinge", objects=objects, metric="share"):
        assert test["share"] == test["accuracy"]
    for *_, test in trained(reviews, "hinge", metric=f"{HERE}:share"):
        assert test[f"{HERE}:share"] == test["accuracy"]
    objects = {"top": own_things.TOP}
    for *_, test in trained(lists, "listnet", "ranking", objects, metrics="top,ndcg@1"):
        assert set(test) == {"top", "ndcg@1"} and 0 <= test["top"] <= 1


def test_a_model_of_ones_own_is_built_anew_from_the_seed_of_each_training(reviews, lists):
    first = trained(reviews, "hinge", objects={"mine": Bag}, model="mine")
    assert trained(reviews, "hinge", model=f"{HERE}:Bag") == first
    assert trained(reviews, "hinge", model=f"{HERE}:Bag(width=5)") != first
    assert trained(lists, "listnet", "ranking", {"mine": linear_ranker}, model="mine")
    for model, complaint in [
        (Bag(5, 1), "give the class"),
        (Scorer, "argument 'layer' that it is not given .* features, settings"),
        (lambda features: 3, "returned int"),
    ]:
        with pytest.raises(ValueError, match=complaint):
            trained(lists, "listnet", "ranking", {"mine": model}, model="mine")


# ---------------------------------------------------------------------------- whole comparisons


def test_a_comparison_with_everything_of_ones_own_in_worker_processes(reviews, tmp_path):
    study = prepare(
        "classification",
        reviews,
        {"mine": plain, "smooth": Smoothed(0.2), "named": "hinge"},
        metrics={"share": judged(share, higher_is_better=True), "accuracy": "accuracy"},
        seeds=2,
        out=str(tmp_path / "run"),
        settings={"epochs": 1, "model": Bag},
    )
    assert [arm.text for arm in study.plan.arms] == ["mine", "smooth", "named"]
    assert study.plan.metric == "share" and set(study.plan.code) >= {"mine", "Bag", "share"}
    report = study.run(jobs=1, quiet=True)
    assert not report.failures
    assert set(report.outcomes["mine", 0].scores) == {"share", "accuracy"}
    assert "Python" in report.plan.command()
    assert read_report(tmp_path / "run").verdict == report.verdict, "without the code at hand"


def test_what_cannot_travel_trains_here_with_one_job_or_says_why(reviews, tmp_path):
    def prepared(loss):
        settings = {"epochs": 1}
        out = str(tmp_path / "run")
        return prepare("classification", reviews, loss, seeds=1, out=out, settings=settings)

    loss = {"local": lambda logits, target: plain(logits, target)}
    with pytest.raises(PlanError, match=r"local cannot be sent .* jobs=1, or write it with def"):
        prepared(loss).run(quiet=True)
    assert not prepared(loss).run(jobs=1, quiet=True).failures
    with pytest.raises(PlanError, match="without a name"):
        prepared([loss["local"]])
    with pytest.raises(PlanError, match="'warp' is already the name"):
        prepared({"warp": plain})
    with pytest.raises(PlanError, match="two things are called 'plain'"):
        prepared([plain, type("plain", (), {"__call__": plain})])


@pytest.mark.parametrize(
    ("loss", "complaint"),
    [
        ("vector", r"tensor of shape \(64,\).* return its mean"),
        ("not_a_number", "returned nan at step 1, on finite predictions"),
        ("dead", "a gradient can follow"),
        ("broken", r"it fails: RuntimeError: .* \(own_things.py:\d+: return logits @ logits\)"),
        ("not_a_tensor", "returned float, not a tensor"),
    ],
)
def test_a_loss_that_cannot_be_trained_with_says_what_it_did(reviews, loss, complaint):
    text = f"{HERE}:{loss}"
    with pytest.raises(ValueError, match=complaint) as caught:
        trained(reviews, text, test=0.2, valid=0.0)
    assert f"lossmith check {text} --inputs 'logits+class'" in str(caught.value)


@pytest.mark.parametrize(
    ("asked", "complaint"),
    [
        ({"losses": ["nowhere.py:f"]}, "there is no file 'nowhere.py'"),
        ({"losses": [f"{HERE}:Smothed"]}, "Did you mean 'Smoothed'"),
        ({"losses": [f"{HERE}:Smoothed(smooth=1)"]}, "Did you mean 'smoothing'"),
        ({"losses": [f"{HERE}:Smoothed(smoothing=)"]}, "does not read as"),
        ({"losses": [f"{HERE}:plain@inputs=logits+clas"]}, r"Did you mean 'logits\+class'"),
        ({"losses": [f"{HERE}:by_list"]}, r"cannot be called as objective\(logits, target\)"),
        ({"metric": f"{HERE}:plain"}, "does not say which direction is better"),
        ({"losses": [3]}, "is not a loss"),
    ],
)
def test_a_mistake_is_told_before_anything_is_trained(reviews, asked, complaint):
    with pytest.raises(PlanError, match=complaint):
        prepare("classification", reviews, asked.pop("losses", None), **asked)


def test_a_loss_without_a_mask_is_refused_where_lists_are_padded(lists):
    with pytest.raises(PlanError, match="Give it an argument mask=None"):
        prepare("ranking", lists, [f"{HERE}:plain"])


# ---------------------------------------------------------------------------- the code's hash


def test_changed_code_is_another_comparison(reviews, tmp_path, monkeypatch):
    path, helper = tmp_path / "losses_that_change.py", tmp_path / "helper_that_changes.py"
    helper.write_text("factor = 1.0\n")
    path.write_text(
        "import helper_that_changes\n"
        "def mine(logits, target):\n    return helper_that_changes.factor * logits.mean()\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    before = code_digest(f"{path}:mine")
    assert code_digest(f"{path}:mine") == before
    helper.write_text("factor = 2.0\n")
    assert code_digest(f"{path}:mine") != before
    out = str(tmp_path / "run")
    asked = {"seeds": 1, "out": out, "settings": {"epochs": 1}}
    prepare("classification", reviews, [f"{path}:mine"], **asked).run(jobs=1, quiet=True)
    path.write_text(path.read_text() + "# another\n")
    with pytest.raises(PlanError, match=r"code of .*losses_that_change.py:mine"):
        prepare("classification", reviews, [f"{path}:mine"], **asked).run(jobs=1, quiet=True)


def test_what_an_object_holds_is_part_of_its_hash():
    def digest(value):
        with lend({"mine": value}):
            return code_digest("mine")

    def closed(factor):
        return lambda logits, target: factor * plain(logits, target)

    assert digest(Smoothed(0.1)) == digest(Smoothed(0.1)) != digest(Smoothed(0.2))
    assert digest(closed(1.0)) == digest(closed(1.0)) != digest(closed(2.0))


def test_each_training_has_an_object_of_its_own():
    with lend({"mine": Smoothed(0.1)}):
        assert own("mine").made() is not own("mine").made()
    assert own_text("a.py:B( x = 1 )") == "a.py:B(x=1)"
