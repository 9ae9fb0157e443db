"""A pretrained encoder from a folder: a tiny one with random weights, made here."""

from __future__ import annotations

import random
import sys

import pytest
import torch

from lossmith.compare.plan import PlanError
from lossmith.compare.study import prepare
from lossmith.tasks import hf
from lossmith.tasks.hf import Encoder, hf_tokens, read_folder
from lossmith.tasks.registry import load_task
from lossmith.tasks.task import GradientLearner
from tasks.tiny_encoder import WORDS, as_sentence_transformer, save_encoder

pytest.importorskip("transformers")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_encoder(tmp_path_factory.mktemp("encoder"))


@pytest.fixture
def reviews(tmp_path):
    draw = random.Random(0)
    rows = [
        f"{' '.join(draw.choices(WORDS[4:7], k=3))} {'fine' if i % 2 else 'dull'},{i % 2}"
        for i in range(60)
    ]
    path = tmp_path / "reviews.csv"
    path.write_text("\n".join(["text,label", *rows]) + "\n")
    return str(path)


def learner(family, data, loss, folder, **given):
    task = load_task(family)
    settings = task.resolve({"model": f"hf:{folder}", "learning_rate": 0.01, **given})
    return GradientLearner(task, task.problem(data, settings), loss, settings, seed=0)


def test_texts_become_tokens_with_padding_beside_the_vocabulary(folder):
    ids = hf_tokens(f"hf:{folder}", ["the film", "dull", "the plot the plot"], 5)
    assert ids.tolist() == [[2, 4, 5, 3, -1], [2, 8, 3, -1, -1], [2, 4, 6, 4, 3]]
    last = hf_tokens(f"hf:{folder}", ["the plot dull fine"], 4, keep="last")
    assert last.tolist() == [[2, 8, 7, 3]]


def test_the_vector_of_a_text_does_not_depend_on_the_padding_of_its_batch(folder):
    encoder = Encoder(f"hf:{folder}").eval()
    ids = hf_tokens(f"hf:{folder}", ["dull", "the film the plot"], 8)
    alone = encoder(ids[:1])
    torch.testing.assert_close(encoder(ids)[:1], alone)
    real = ids[:1, :3].long()
    hidden = encoder.transformer(input_ids=real).last_hidden_state
    torch.testing.assert_close(alone, hidden.mean(dim=1))
    torch.testing.assert_close(Encoder(f"hf:{folder}", pooling="cls").eval()(ids[:1]), hidden[:, 0])


@pytest.mark.parametrize(
    ("family", "loss"),
    [
        ("classification", "binary_cross_entropy"),
        ("tagging", "binary_cross_entropy"),
        ("regression", "squared_error"),
    ],
)
def test_training_lowers_the_loss_and_frozen_weights_stay(folder, reviews, family, loss):
    roles = {"target": "label"} if family == "regression" else {}
    free = learner(family, reviews, loss, folder, **roles)
    first, *_, last = [free.epoch() for _ in range(6)]
    assert last < 0.9 * first
    frozen = learner(family, reviews, loss, folder, freeze="yes", **roles)
    encoder = next(m for m in frozen.model.modules() if isinstance(m, Encoder))
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    first, *_, last = [frozen.epoch() for _ in range(5)]
    assert last < first
    assert all(torch.equal(value, before[name]) for name, value in encoder.state_dict().items())
    assert not encoder.transformer.training


def test_a_sentence_transformers_folder_brings_its_pooling(folder, tmp_path):
    as_sentence_transformer(folder, tmp_path)
    config = tmp_path / "1_Pooling" / "config.json"
    model = f"hf:{tmp_path}"
    found = read_folder(model)
    assert (found.pooling, found.normalize, found.longest) == ("cls", True, 4)
    ids = hf_tokens(model, ["the film the plot"], 8)
    assert ids.shape == (1, 4)
    assert Encoder(model).eval()(ids).norm().item() == pytest.approx(1.0)
    config.write_text('{"pooling_mode_max_tokens": true}')
    read_folder.cache_clear()
    with pytest.raises(ValueError, match=r"pooling_mode_max_tokens; expected the mean or the cls"):
        read_folder(model)


def test_a_mistake_is_told_before_anything_is_trained(folder, reviews, tmp_path, monkeypatch):
    def asked(model, **more):
        prepare("classification", reviews, ["hinge"], settings={"model": model, **more})

    with pytest.raises(PlanError, match="a name on a hub is not looked up"):
        asked("hf:bert-base-uncased")
    (tmp_path / "empty").mkdir()
    with pytest.raises(PlanError, match=r"holds no config\.json"):
        asked(f"hf:{tmp_path / 'empty'}")
    with pytest.raises(PlanError, match="expected one of auto, mean, cls"):
        asked(f"hf:{folder}", pooling="max")
    with pytest.raises(ValueError, match=r"here each row is numbers.*or one of mlp"):
        load_task("ranking").resolve({"model": f"hf:{folder}"})
    hf._tokenizer.cache_clear()
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(PlanError, match=r'pip install "lossmith\[hf\]"'):
        asked(f"hf:{folder}", length=7)


def test_the_weights_are_part_of_what_decides_the_numbers(folder, reviews, tmp_path):
    study = prepare("classification", reviews, ["hinge"], settings={"model": f"hf:{folder}"})
    assert list(study.plan.code) == [f"hf:{folder}"] and not study.plan.lent
