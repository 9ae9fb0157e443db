"""Every family in a folder: the numbers of training come back, and inputs are answered."""

from __future__ import annotations

import csv
import json
import math
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lossmith.data.errors import DataError
from lossmith.tasks.registry import load_task
from lossmith.training.fit import fit, settle
from lossmith.training.folder import load_model
from lossmith.training.judge import answers, evaluate
from training.small import CASES, SIZES, prepare, ratings, write


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Callable[[str], tuple[Path, Path]]:
    """The data folder and the model folder of a case, each made once."""
    done: dict[str, tuple[Path, Path]] = {}

    def make(name: str) -> tuple[Path, Path]:
        if name not in done:
            data = tmp_path_factory.mktemp("data")
            family, loss, given = prepare(name, data)
            asked = settle(family, str(data), loss, seed=1, settings=given)
            done[name] = data, fit(asked, tmp_path_factory.mktemp("model") / "m").folder
        return done[name]

    return make


def said(folder: Path, source: Path | str, **how: Any) -> list[dict[str, Any]]:
    return [record for some in answers(load_model(folder), str(source), **how) for record in some]


def without(path: Path, *columns: str) -> Path:
    """The file without its labels."""
    with path.open() as file:
        rows = list(csv.DictReader(file))
    bare = path.with_name("bare.csv")
    write(bare, [{k: v for k, v in row.items() if k not in columns} for row in rows])
    return bare


@pytest.mark.parametrize("name", CASES)
def test_evaluate_gives_the_numbers_of_training(made, name, tmp_path):
    """On the folder, whose test part is known again, and on the test file alone."""
    data, folder = made(name)
    kept = load_model(folder)
    recorded = kept.metrics["test"]
    assert all(value is not None for value in recorded.values())
    again = evaluate(kept, str(data))
    assert again["metrics"] == recorded and "trained on" in again["scored"]
    alone = evaluate(kept, str(data / "test.csv"))
    assert alone["metrics"] == recorded and alone["scored"].startswith("All of test")
    assert alone["rows"] == again["rows"]


@pytest.mark.parametrize("name", CASES)
def test_rows_that_were_trained_on_are_told_under_another_name(made, name, tmp_path):
    """By their content: the labels, the order and the rows beside them may be others."""
    data, folder = made(name)
    kept = load_model(folder)
    header, *rows = (data / "train.csv").read_text().splitlines()
    more = (data / "valid.csv").read_text().splitlines()[1:]
    if name == "lists":  # where a list of the one part is called as one of the other is
        more = [f"valid-{row}" for row in more]
    other = tmp_path / "other.csv"
    other.write_text("\n".join([header, *rows, *more]))
    if name == "users":  # whose pairs are left out instead, each by its name
        assert evaluate(kept, str(data / "test.csv"))["seen_in_training"] is None
        return
    found = evaluate(kept, str(other))
    counts = [SIZES["train"], SIZES["valid"]]
    if name == "lists":
        counts = [count // 4 for count in counts]
    seen = found["seen_in_training"]
    assert found["rows"] == sum(counts)
    # A short text of the one part may stand in the other too.
    assert counts[0] <= seen["train"] <= found["rows"]
    assert counts[1] <= seen["valid"] <= found["rows"]
    assert f"{seen['train']:,} of {found['rows']:,} rows read the same" in found["warnings"][0]
    assert "that chose the epoch" in found["warnings"][1]


def test_how_many_rows_were_seen_is_what_a_search_for_equal_texts_finds(made):
    data, folder = made("classes")
    texts = {}
    for part in SIZES:
        with (data / f"{part}.csv").open() as file:
            texts[part] = [row["text"] for row in csv.DictReader(file)]
    found = evaluate(load_model(folder), str(data / "test.csv"))
    again = {
        part: sum(text in texts[part] for text in texts["test"]) for part in ("train", "valid")
    }
    assert found["seen_in_training"] == again
    assert len(found["warnings"]) == sum(count > 0 for count in again.values())


@pytest.mark.parametrize("name", CASES)
def test_the_steps_of_an_epoch_are_known_beforehand(name, tmp_path):
    """Where a query or a text has several answers, each is an example."""
    family, _, given = prepare(name, tmp_path)
    task = load_task(family)
    settings = task.resolve(given)
    problem = task.problem(str(tmp_path), settings)
    steps = sum(1 for _ in problem.batches(settings, 0, 1))
    assert steps == math.ceil(problem.examples / settings["batch_size"])


@pytest.mark.parametrize("name", CASES)
def test_the_folder_holds_no_code_and_is_whole_in_json_and_safetensors(made, name):
    _, folder = made(name)
    for path in folder.iterdir():
        assert path.suffix in (".json", ".safetensors", ".md")
        if path.suffix == ".json":
            json.loads(path.read_text())
    config = json.loads((folder / "config.json").read_text())
    assert f"`{config['loss']}`" in (folder / "README.md").read_text()


def test_classes_and_their_probabilities(made):
    data, folder = made("classes")
    best = said(folder, without(data / "test.csv", "label"))
    assert [record["row"] for record in best] == list(range(1, SIZES["test"] + 1))
    every = said(folder, data / "test.csv", top=3)
    assert sum(record["probability"] for record in every[:3]) == pytest.approx(1)
    assert [(r["row"], r["label"]) for r in every if r["rank"] == 1] == [
        (r["row"], r["label"]) for r in best
    ]
    # Each class a question of its own: nothing makes the answers add up.
    data, folder = made("each class")
    every = said(folder, data / "test.csv", top=3)
    assert sum(record["probability"] for record in every[:3]) != pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize("name", ["tags", "columns"])
def test_labels_and_their_probabilities(made, name):
    data, folder = made(name)
    columns = ("labels", "is_red", "is_green")
    records = said(folder, without(data / "test.csv", *columns))
    for record in records:
        above = {label for label, p in record["probabilities"].items() if p > 0.5}
        assert set(record["labels"]) == above and len(record["probabilities"]) == 2
    (first, *_) = said(folder, data / "test.csv", top=1)
    assert len(first["labels"]) == 1 and list(first["probabilities"]) == first["labels"]


@pytest.mark.parametrize(("name", "label"), [("texts", "target"), ("features", "price")])
def test_numbers_are_in_units_of_the_target(made, name, label):
    data, folder = made(name)
    records = said(folder, without(data / "test.csv", label))
    with (data / "test.csv").open() as file:
        right = [float(row[label]) for row in csv.DictReader(file)]
    mae = sum(abs(r["prediction"] - y) for r, y in zip(records, right, strict=True)) / len(right)
    assert mae == pytest.approx(load_model(folder).metrics["test"]["mae"], rel=1e-5)


def test_a_bad_feature_is_placed(made, tmp_path):
    _, folder = made("features")
    (tmp_path / "new.csv").write_text("rooms,area\n1,50\ntwo,60\n")
    with pytest.raises(DataError, match=r"new.csv:3, column 'rooms': 'two' is not a number"):
        said(folder, tmp_path / "new.csv")
    (tmp_path / "new.csv").write_text("rooms\n1\n")
    with pytest.raises(DataError, match=r"no column 'area'"):
        said(folder, tmp_path / "new.csv")
    with pytest.raises(DataError, match="stdin cannot be read here"):
        said(folder, "-")


def test_scores_and_ranks_in_each_list(made):
    data, folder = made("lists")
    records = said(folder, without(data / "test.csv", "relevance"))
    assert [record["row"] for record in records] == list(range(1, SIZES["test"] + 1))
    for query in {record["query"] for record in records}:
        listed = [record for record in records if record["query"] == query]
        listed.sort(key=lambda record: record["rank"])
        assert [record["rank"] for record in listed] == [1, 2, 3, 4]
        scores = [record["score"] for record in listed]
        assert scores == sorted(scores, reverse=True)
    best = said(folder, data / "test.csv", top=1)
    assert len(best) == SIZES["test"] / 4 and {record["rank"] for record in best} == {1}


def test_the_best_items_that_a_user_has_not_taken(made, tmp_path):
    data, folder = made("users")
    (tmp_path / "users.txt").write_text("u3\nu0\n")
    records = said(folder, tmp_path / "users.txt", top=5)
    assert [(r["user"], r["rank"]) for r in records] == [
        (user, rank) for user in ("u3", "u0") for rank in range(1, 6)
    ]
    taken = set()
    for part in SIZES:
        with (data / f"{part}.csv").open() as file:
            taken |= {(row["user"], row["item"]) for row in csv.DictReader(file)}
    assert not taken & {(record["user"], record["item"]) for record in records}
    # Fewer than asked for, where a user has taken the others.
    assert len(said(folder, tmp_path / "users.txt", top=100)) == 2 * (15 - 8)
    (tmp_path / "users.csv").write_text("user,age\nu3,30\nu0,40\n")
    assert said(folder, tmp_path / "users.csv", top=5) == records


@pytest.mark.parametrize(("name", "text"), [("u.txt", "u1\nnobody\n"), ("u.csv", "user\nnobody\n")])
def test_an_unknown_user_is_named_and_placed(made, name, text, tmp_path):
    _, folder = made("users")
    (tmp_path / name).write_text(text)
    with pytest.raises(DataError, match=rf"{name}:2.*the user 'nobody' has nothing to train on"):
        said(folder, tmp_path / name)


def test_a_text_for_each_source(made, tmp_path):
    data, folder = made("seq2seq")
    records = said(folder, without(data / "test.csv", "target"))
    assert len(records) == SIZES["test"] and all(record["text"] for record in records)
    with (data / "test.csv").open() as file:
        lines = [row["source"] for row in csv.DictReader(file)]
    (tmp_path / "test.en").write_text("\n".join(lines) + "\n")
    assert said(folder, tmp_path / "test.en") == records


def test_svmlight_is_read_as_in_training(tmp_path):
    """A file may end before the last feature, and may not have one that was not there."""
    draw = random.Random(6)

    def lines(count: int) -> str:
        rows = []
        for i in range(count):
            x = [draw.random() for _ in range(3)]
            rows.append(f"{round(x[0])} qid:{i // 4} 1:{x[0]:.3f} 2:{x[1]:.3f} 3:{x[2]:.3f}")
        return "\n".join(rows) + "\n"

    (tmp_path / "d").mkdir()
    for part in ("train", "vali", "test"):
        (tmp_path / "d" / f"{part}.txt").write_text(lines(40))
    asked = settle("ranking", str(tmp_path / "d"), "ranknet", seed=0, settings={"epochs": 1})
    folder = fit(asked, tmp_path / "m").folder
    kept = load_model(folder)
    assert evaluate(kept, str(tmp_path / "d" / "test.txt"))["metrics"] == kept.metrics["test"]
    (tmp_path / "short.txt").write_text("0 qid:1 1:0.5\n0 qid:1 1:0.7 2:0.1\n")
    assert [r["row"] for r in said(folder, tmp_path / "short.txt")] == [1, 2]
    assert not any(math.isnan(r["score"]) for r in said(folder, tmp_path / "short.txt"))
    (tmp_path / "wide.txt").write_text("0 qid:1 1:0.5\n0 qid:1 5:0.7\n")
    with pytest.raises(DataError, match="feature 5 was not there in training"):
        said(folder, tmp_path / "wide.txt")


def test_items_for_each_text(made, tmp_path):
    data, folder = made("items")
    records = said(folder, without(data / "test.csv", "tags"), top=2)
    assert len(records) == 2 * SIZES["test"]
    assert {record["item"] for record in records} <= {"red", "green", "none"}
    (tmp_path / "new.csv").write_text("title,tags\nred red,purple\n")
    with pytest.raises(DataError, match="no text has an item of the training"):
        evaluate(load_model(folder), str(tmp_path / "new.csv"))


OWN_MODEL = """
from lossmith.tasks.factorization import Factorization

def build(users, items):
    return Factorization(users, items, dimension=3)
"""


@pytest.mark.parametrize("kind", ["features", "own"])
def test_users_and_items_by_features_or_by_a_model_of_ones_own(kind, tmp_path):
    data = tmp_path / "data"
    data.mkdir()
    ratings(data)
    write(tmp_path / "items.csv", [{"item": f"i{i}", "kind": "ab"[i % 2]} for i in range(15)])
    (tmp_path / "mine.py").write_text(OWN_MODEL)
    settings = {"epochs": 1, "dimension": 4}
    if kind == "features":
        settings["item_features"] = str(tmp_path / "items.csv")
    else:
        settings["model"] = f"{tmp_path / 'mine.py'}:build"
    asked = settle("recommendation", str(data), "bpr", seed=0, settings=settings)
    folder = fit(asked, tmp_path / "m").folder
    kept = load_model(folder)
    assert evaluate(kept, str(data / "test.csv"))["metrics"] == kept.metrics["test"]
    (tmp_path / "users.txt").write_text("u3\n")
    assert len(said(folder, tmp_path / "users.txt", top=4)) == 4


def test_documents_for_each_query(made, tmp_path):
    data, folder = made("search")
    records = said(folder, without(data / "test.csv", "positive"), top=3)
    assert [record["rank"] for record in records[:4]] == [1, 2, 3, 1]
    assert all(record["text"] for record in records)
    # A document that training did not know joins those that are ranked.
    (tmp_path / "new.csv").write_text("query,positive\nwhat is new,something else entirely\n")
    found = evaluate(load_model(folder), str(tmp_path / "new.csv"))
    assert 0.0 <= found["metrics"]["ndcg@10"] <= 1.0
