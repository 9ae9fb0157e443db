"""The model folder: what is in it, what it answers, and what is said of a bad one."""

from __future__ import annotations

import io
import json
import re
import shutil
from pathlib import Path

import pytest

from lossmith.core.spec import objectives
from lossmith.data.errors import DataError
from lossmith.tasks.classification import ClassificationProblem
from lossmith.tasks.task import Problem
from lossmith.training.card import formula
from lossmith.training.files import alone_in
from lossmith.training.fit import fit, settle
from lossmith.training.folder import load_model
from lossmith.training.job import RequestError
from lossmith.training.judge import answers, evaluate

SETTINGS = {"epochs": 2, "dimension": 6, "batch_size": 16, "learning_rate": 0.05}


@pytest.fixture(scope="module")
def made(reviews, tmp_path_factory) -> Path:
    asked = settle("classification", reviews, "hinge", seed=0, settings=SETTINGS)
    return fit(asked, tmp_path_factory.mktemp("model") / "m").folder


@pytest.fixture
def copy(made, tmp_path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "copy"))


def said(kept, source, **how):
    return [record for some in answers(kept, str(source), **how) for record in some]


def test_what_is_in_it(made):
    assert sorted(path.name for path in made.iterdir()) == [
        "README.md", "classes.json", "config.json", "encoder.json", "metrics.json",
        "model.safetensors", "seen.safetensors", "tokenizer.json",
    ]  # fmt: skip
    config = json.loads((made / "config.json").read_text())
    assert config["family"] == "classification" and config["loss"] == "hinge"
    assert config["settings"]["dimension"] == 6 and config["versions"]["lossmith"]
    metrics = json.loads((made / "metrics.json").read_text())
    assert metrics["chosen_epoch"] in (1, 2) and len(metrics["epochs"]) == 2
    chosen = metrics["epochs"][metrics["chosen_epoch"] - 1]
    assert (metrics["test"], metrics["valid"]) == (chosen["test"], chosen["valid"])


def test_the_card_says_what_it_is(made):
    card = (made / "README.md").read_text()
    config = json.loads((made / "config.json").read_text())
    metrics = json.loads((made / "metrics.json").read_text())
    for word in (
        "max(0, 1 - y f)",
        "Cortes, Vapnik 1995",
        config["data_fingerprint"],
        f"{metrics['test']['accuracy']:.4f}",
        "lossmith predict",
        "## Limits",
    ):
        assert word in card


def test_the_best_epoch_on_validation_data_is_kept(reviews, tmp_path):
    """The weights kept have the metrics of the chosen epoch, which is not the last here."""
    settings = {**SETTINGS, "epochs": 12, "learning_rate": 0.3, "metric": "log_loss"}
    asked = settle("classification", reviews, "hinge", seed=0, settings=settings)
    fitted = fit(asked, tmp_path / "m")
    assert fitted.metrics["chosen_epoch"] < 12
    assert evaluate(load_model(fitted.folder), reviews)["metrics"] == fitted.metrics["test"]


def test_evaluate_gives_the_numbers_of_training_on_the_held_out_part(made, reviews, tmp_path):
    """Of the same file, and of the held out rows in a file of their own."""
    kept = load_model(made)
    result = evaluate(kept, reviews)
    assert result["metrics"] == kept.metrics["test"] and "held out" not in result["notes"]
    assert result["scored"].startswith("The test part of the data that it was trained on")

    problem = kept.task.problem(reviews, kept.settings)
    from lossmith.data.text import read_text, split_text

    part = split_text(read_text(reviews, "classification")).parts["test"]
    assert len(part) == problem.description.rows["test"]
    lines = [f"{t},{('no', 'yes')[y]}" for t, y in zip(part.texts, part.labels, strict=True)]
    alone = tmp_path / "held-out.csv"
    alone.write_text("\n".join(["text,label", *lines]))
    result = evaluate(kept, str(alone))
    assert result["metrics"] == kept.metrics["test"] and result["scored"].startswith("All of")


def test_some_metrics_by_name(made, reviews):
    kept = load_model(made)
    assert list(evaluate(kept, reviews, "log_loss,accuracy")["metrics"]) == ["log_loss", "accuracy"]
    with pytest.raises(RequestError, match="Did you mean 'accuracy'"):
        evaluate(kept, reviews, "acuracy")


def test_it_answers_in_the_order_of_the_inputs(made, tmp_path):
    new = tmp_path / "new.csv"
    new.write_text('text,other\n"the good, good film",1\nso bad,2\n,3\n')
    records = said(load_model(made), new)
    assert [record["row"] for record in records] == [1, 2, 3]
    assert [record["label"] for record in records[:2]] == ["yes", "no"]
    assert all(0.5 <= record["probability"] <= 1 for record in records)
    both = said(load_model(made), new, top=5)
    assert [(r["row"], r["rank"]) for r in both] == [(i, k) for i in (1, 2, 3) for k in (1, 2)]
    assert all(a["probability"] + b["probability"] == pytest.approx(1) for a, b in zip(
        both[::2], both[1::2], strict=True))  # fmt: skip


def test_lines_of_stdin_are_texts_or_objects(made, tmp_path, monkeypatch):
    new = tmp_path / "new.csv"
    new.write_text("text\na good film\nso bad\n")
    monkeypatch.setattr("sys.stdin", io.StringIO('a good film\n{"id": 7, "text": "so bad"}\n'))
    assert said(load_model(made), "-") == said(load_model(made), new)


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ('{"text": ', "stdin:2: not JSON"),
        ('{"txt": "a"}', "stdin:2: no key for the text among 'txt'"),
        ('{"text": 3}', "stdin:2, column 'text': 3 is not a text"),
    ],
)
def test_a_bad_line_of_stdin_is_placed(made, line, told, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO(f"a good film\n{line}\n"))
    with pytest.raises(DataError, match=re.escape(told)):
        said(load_model(made), "-")


def test_a_label_that_was_not_trained_on_is_placed(made, tmp_path):
    bad = tmp_path / "bad.csv"
    bad.write_text("text,label\na film,yes\na film,maybe\n")
    with pytest.raises(DataError, match=r"bad.csv:3, column 'label': the label 'maybe' does not"):
        evaluate(load_model(made), str(bad))


# ---------------------------------------------------------------------------- bad folders


def test_no_folder_is_told(tmp_path):
    with pytest.raises(DataError, match=r"no such folder.*lossmith train"):
        load_model(tmp_path / "none")
    with pytest.raises(DataError, match="no model folder"):
        load_model(tmp_path)


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json", "classes.json"])
def test_a_damaged_file_is_named(copy, name):
    content = (copy / name).read_bytes()
    (copy / name).write_bytes(content[:-3] + b"123")
    with pytest.raises(DataError, match=f"{name}: is not what was written after training"):
        load_model(copy)
    (copy / name).unlink()
    with pytest.raises(DataError, match=f"{name}: cannot be read"):
        load_model(copy)


def changed(folder: Path, **values) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def test_a_newer_folder_says_to_upgrade(copy):
    changed(copy, lossmith_schema=99)
    with pytest.raises(DataError, match=r"has format 99.*pip install --upgrade"):
        load_model(copy)


def test_a_foreign_folder_is_told(copy):
    (copy / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(DataError, match="is of another tool"):
        load_model(copy)
    (copy / "config.json").write_text("{")
    with pytest.raises(DataError, match=r"config.json: cannot be read"):
        load_model(copy)


def test_files_that_do_not_fit_each_other_are_told(copy):
    settings = json.loads((copy / "config.json").read_text())["settings"]
    changed(copy, settings={**settings, "dimension": 7})
    with pytest.raises(DataError, match="its files do not belong together"):
        load_model(copy)


def test_a_folder_with_other_things_is_left_alone(reviews, tmp_path):
    (tmp_path / "thesis.tex").write_text("")
    asked = settle("classification", reviews, "hinge", seed=0, settings=SETTINGS)
    for fresh in (False, True):
        with pytest.raises(RequestError, match=r"not empty \(it holds 'thesis.tex'\)"):
            fit(asked, tmp_path, fresh=fresh)


def test_a_peer_is_not_kept_in_a_folder(ratings):
    pytest.importorskip("lightfm")
    with pytest.raises(RequestError, match="another library's learner"):
        settle("recommendation", ratings, "lightfm", seed=0, settings={})


def test_two_trainings_do_not_share_a_folder(made, reviews):
    asked = settle("classification", reviews, "hinge", seed=0, settings=SETTINGS)
    with (
        alone_in(made, "lossmith train"),
        pytest.raises(RequestError, match="another lossmith train is running"),
    ):
        fit(asked, made)
    assert fit(asked, made).already  # and the lock is gone with the first


def test_a_task_that_keeps_no_models_says_so(reviews, tmp_path, monkeypatch):
    monkeypatch.setattr(ClassificationProblem, "reader", Problem.reader)
    asked = settle("classification", reviews, "hinge", seed=0, settings=SETTINGS)
    with pytest.raises(RequestError, match="cannot be kept in a folder yet"):
        fit(asked, tmp_path / "m")
    assert list((tmp_path / "m").iterdir()) == []


@pytest.mark.parametrize("spec", objectives(), ids=lambda spec: spec.name)
def test_the_card_of_every_objective_has_its_formula(spec):
    assert len(formula(spec)) > 10
