"""A pretrained encoder where a text is one side: of a query and a document, of a text and an item.

It is a tiny one with random weights, made here.
"""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
import torch

from lossmith.cli.app import run
from lossmith.compare.study import prepare
from lossmith.core.metric import find_metric
from lossmith.data.errors import DataError
from lossmith.tasks.hf import Encoder, EncoderVector, hf_tokens
from lossmith.tasks.registry import load_task
from lossmith.tasks.task import GradientLearner
from lossmith.training.fit import fit, settle
from lossmith.training.folder import load_model
from lossmith.training.judge import evaluate
from tasks.tiny_encoder import WORDS, as_sentence_transformer, save_encoder

pytest.importorskip("transformers")


@pytest.fixture(autouse=True)
def own_threads():
    """A training sets the threads of its process; the other tests keep theirs."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_encoder(tmp_path_factory.mktemp("encoder"))


@pytest.fixture
def sentences(folder, tmp_path):
    """A sentence-transformers folder of the same encoder."""
    (tmp_path / "st").mkdir()
    return as_sentence_transformer(folder, tmp_path / "st", longest=6)


@pytest.fixture
def searches(tmp_path):
    """Queries of two words, and the documents that hold both."""
    draw = random.Random(0)
    lines = ["query,positive"]
    for i in range(60):
        one, two = draw.sample(WORDS[4:], 2)
        lines.append(f"{one} {two} q{i},{two} {one} {draw.choice(WORDS[4:])} {i % 20}")
    path = tmp_path / "searches.csv"
    path.write_text("\n".join(lines) + "\n")
    return str(path)


@pytest.fixture
def posts(tmp_path):
    """Posts whose tags are the words that they hold."""
    draw = random.Random(0)
    lines = ["title\ttags"]
    for i in range(80):
        words = draw.sample(WORDS[4:], 2)
        lines.append(f"{' '.join(words)} n{i}\t{sorted(words)!r}")
    path = tmp_path / "posts.tsv"
    path.write_text("\n".join(lines) + "\n")
    return str(path)


def learner(family, data, loss, model, **given):
    task = load_task(family)
    settings = task.resolve({"model": f"hf:{model}", **given})
    return GradientLearner(task, task.problem(data, settings), loss, settings, seed=0)


def kept_as_recorded(family, data, loss, tmp_path, **given):
    """Train into a folder, and find its numbers again in what was read back."""
    asked = settle(family, data, loss, seed=0, settings={"epochs": 1, **given})
    folder = fit(asked, tmp_path / "m").folder
    kept = load_model(folder)
    assert evaluate(kept, data)["metrics"] == kept.metrics["test"]
    # Under another name every row is scored, and those that were trained on are known again.
    other = tmp_path / f"other{Path(data).suffix}"
    other.write_text(Path(data).read_text())
    again = evaluate(kept, str(other))
    assert again["scored"].startswith("All of other")
    assert again["rows"] == len(other.read_text().splitlines()) - 1
    assert 0.6 * again["rows"] < again["seen_in_training"]["train"] <= again["rows"]
    assert all(0 <= value <= 1 for value in again["metrics"].values())
    assert "It needs the folder of its pretrained encoder" in (folder / "README.md").read_text()
    return folder


# ---------------------------------------------------------------------------- retrieval


@pytest.mark.parametrize("loss", ["info_nce", "triplet", "listnet", "sigmoid_contrastive", "bpr"])
def test_towers_of_a_pretrained_encoder_learn(folder, searches, loss):
    free = learner("retrieval", searches, loss, folder, learning_rate=0.003)
    first, *_, last = [free.epoch() for _ in range(5)]
    assert last < first


def test_untrained_towers_compare_the_encoders_own_vectors(sentences, searches):
    """Of a sentence-transformers folder these are pooled and normalized as it says."""
    for given in ({}, {"freeze": "yes"}, {"towers": "separate"}):
        made = learner("retrieval", searches, "info_nce", sentences, **given)
        problem = made.problem
        assert problem.documents.shape[1] <= 6
        found = made.model.scores(problem.queries["test"], made.model.index(problem.documents))
        encoder = Encoder(f"hf:{sentences}").eval()
        vectors = [encoder(ids).detach() for ids in (problem.queries["test"], problem.documents)]
        torch.testing.assert_close(found, vectors[0] @ vectors[1].T)


def test_another_size_is_a_projection_and_a_frozen_encoder_trains_it_alone(folder, searches):
    made = learner("retrieval", searches, "info_nce", folder, freeze="yes", size=5,
                   learning_rate=0.02)  # fmt: skip
    tower = made.model.query
    assert isinstance(tower, EncoderVector) and tower.projection.weight.shape == (5, 16)
    before = {name: value.clone() for name, value in tower.encoder.state_dict().items()}
    first, *_, last = [made.epoch() for _ in range(5)]
    assert last < first
    assert all(torch.equal(v, before[name]) for name, v in tower.encoder.state_dict().items())


def test_the_encoder_may_go_on_at_a_pace_of_its_own(folder, searches):
    made = learner("retrieval", searches, "info_nce", folder, size=5, encoder_learning_rate=0.0)
    before = made.model.query.encoder.transformer.embeddings.word_embeddings.weight.clone()
    projection = made.model.query.projection.weight.clone()
    made.epoch()
    after = made.model.query
    assert torch.equal(after.encoder.transformer.embeddings.word_embeddings.weight, before)
    assert not torch.equal(after.projection.weight, projection)
    assert made.parameters == sum(len(p["params"]) and sum(map(torch.numel, p["params"]))
                                  for p in made.optimizer.param_groups)  # fmt: skip


def test_search_by_a_pretrained_encoder_from_compare_to_predict(
    folder, searches, tmp_path, capfd, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    model = f"hf:{folder}"
    words = ["compare", "retrieval", searches, "--losses", "info_nce,triplet", "--model", model,
             "--epochs", "1", "--seeds", "2", "--jobs", "1", "--out", "run"]  # fmt: skip
    assert run([*words, "--dry-run"]) == 0
    assert run([*words, "--quiet"]) == 0
    plan = json.loads((tmp_path / "run" / "plan.json").read_text())
    assert f"code of {model}" in plan["conditions"]
    trained = kept_as_recorded("retrieval", searches, "info_nce", tmp_path, model=model)
    capfd.readouterr()
    (tmp_path / "new.txt").write_text("the film\ndull plot\n")
    assert run(["predict", str(trained), "new.txt", "--top", "3"]) == 0
    records = [json.loads(line) for line in capfd.readouterr().out.splitlines()]
    assert [(r["row"], r["rank"]) for r in records] == [(r, k) for r in (1, 2) for k in (1, 2, 3)]


def test_a_plan_of_search_holds_the_hash_of_the_encoders_folder(sentences, searches):
    study = prepare("retrieval", searches, ["info_nce"], settings={"model": f"hf:{sentences}"})
    assert list(study.plan.code) == [f"hf:{sentences}"] and not study.plan.lent
    assert hf_tokens(f"hf:{sentences}", ["the film the plot the film"], 128).shape == (1, 6)


# ---------------------------------------------------------------------------- text to item


@pytest.mark.parametrize("score", ["dot", "cosine"])
@pytest.mark.parametrize("loss", ["bpr", "warp", "cross_entropy", "listnet"])
def test_items_for_texts_read_by_a_pretrained_encoder(folder, posts, loss, score):
    made = learner("recommendation", posts, loss, folder, score=score, batch_size=16, scale=4.0,
                   encoder_learning_rate=0.003, learning_rate=0.01)  # fmt: skip
    assert made.model.items.weight.shape == (5, 64)
    first, *_, last = [made.epoch() for _ in range(6)]
    assert last < first or loss == "warp"  # its rank estimate moves
    metric = find_metric("recall@2", "recommendation")
    before = learner("recommendation", posts, loss, folder, score=score).model
    found, at_first = (made.problem.evaluate(model, "test", [metric])["recall@2"]
                       for model in (made.model, before))  # fmt: skip
    assert found > at_first


def test_the_vector_of_a_text_is_the_encoders_own_where_the_dimension_is(sentences, posts):
    made = learner("recommendation", posts, "bpr", sentences, dimension=16)
    encoder, ids = Encoder(f"hf:{sentences}").eval(), made.problem.texts.ids[:7]
    assert made.model.encoder.projection is None and ids.shape[1] <= 6
    torch.testing.assert_close(made.model.eval().read(torch.arange(7)), encoder(ids))
    rates = [group["lr"] for group in made.optimizer.param_groups]
    assert rates == [0.003, 5e-5]
    frozen = learner("recommendation", posts, "bpr", sentences, dimension=16, freeze="yes")
    before = {k: v.clone() for k, v in frozen.model.encoder.encoder.state_dict().items()}
    frozen.epoch()
    after = frozen.model.encoder.encoder.state_dict()
    assert all(torch.equal(value, before[name]) for name, value in after.items())


def test_items_for_texts_by_a_pretrained_encoder_from_compare_to_predict(
    folder, posts, tmp_path, capfd, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    words = ["compare", "recommendation", posts, "--losses", "bpr,warp", "--model", f"hf:{folder}",
             "--epochs", "1", "--seeds", "2", "--jobs", "1", "--out", "run"]  # fmt: skip
    assert run([*words, "--dry-run"]) == 0
    assert run([*words, "--quiet"]) == 0
    trained = kept_as_recorded("recommendation", posts, "warp", tmp_path, model=f"hf:{folder}")
    card = (trained / "README.md").read_text()
    assert "the best items for each text" in card and "taken.safetensors" not in card
    capfd.readouterr()
    (tmp_path / "new.txt").write_text("the film\n\u00e4\n")
    assert run(["predict", str(trained), "new.txt", "--top", "2"]) == 0
    records = [json.loads(line) for line in capfd.readouterr().out.splitlines()]
    assert [(r["row"], r["rank"]) for r in records] == [(1, 1), (1, 2), (2, 1), (2, 2)]
    assert {record["item"] for record in records} <= set(WORDS[4:])


def test_a_pretrained_encoder_for_users_and_items_is_refused(folder, tmp_path):
    (tmp_path / "r.csv").write_text("user,item\nu1,i1\nu1,i2\nu2,i1\nu2,i3\n")
    task = load_task("recommendation")
    for data in (str(tmp_path / "r.csv"), "embedded"):
        with pytest.raises((ValueError, DataError), match=r"hf:.*reads texts.*users and items"):
            task.problem(data, task.resolve({"model": f"hf:{folder}"}))
