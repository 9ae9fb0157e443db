"""A pretrained encoder that reads, before a decoder that learns to write.

The encoders are tiny ones with random weights, made here.
"""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path

import pytest
import torch

from lossmith.cli.app import run
from lossmith.compare.plan import PlanError
from lossmith.compare.study import prepare
from lossmith.data.errors import DataError
from lossmith.tasks.codec import BEGIN_ID
from lossmith.tasks.decoding import beam_search, greedy
from lossmith.tasks.hf import Encoder, hf_tokens
from lossmith.tasks.pairs import Pretrained, encode_source
from lossmith.tasks.registry import load_task
from lossmith.tasks.task import GradientLearner
from lossmith.training.fit import fit, settle
from lossmith.training.folder import load_model
from lossmith.training.judge import answers, evaluate
from tasks.tiny_encoder import WORDS, as_sentence_transformer, save_encoder, save_model

transformers = pytest.importorskip("transformers")

SIDES = {"encoder_layers": 1, "decoder_layers": 1, "encoder_attention_heads": 2,
         "decoder_attention_heads": 2, "encoder_ffn_dim": 16, "decoder_ffn_dim": 16,
         "pad_token_id": 0, "eos_token_id": 3, "decoder_start_token_id": 2}  # fmt: skip
CONFIGS = {
    "t5": lambda: transformers.T5Config(
        vocab_size=len(WORDS), d_model=16, d_kv=8, d_ff=16, num_layers=1, num_heads=2
    ),
    "bart": lambda: transformers.BartConfig(
        vocab_size=len(WORDS), d_model=16, max_position_embeddings=32, **SIDES
    ),
    "marian": lambda: transformers.MarianConfig(
        vocab_size=len(WORDS), d_model=16, max_position_embeddings=32, **SIDES
    ),
    "gpt": lambda: transformers.GPT2Config(
        vocab_size=len(WORDS), n_embd=16, n_layer=1, n_head=2, bos_token_id=2, eos_token_id=3
    ),
}
SMALL = {"dimension": 8, "hidden": 16, "layers": 1, "heads": 2, "batch_size": 16,
         "learning_rate": 0.01, "encoder_learning_rate": 0.005, "vocabulary": 300}  # fmt: skip


@pytest.fixture(autouse=True)
def own_threads():
    """A training sets the threads of its process; the other tests keep theirs."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """The folder of each kind of model, made when it is first asked for."""
    made: dict[str, Path] = {}

    def make(kind):
        if kind not in made:
            path = tmp_path_factory.mktemp(kind)
            made[kind] = save_encoder(path) if kind == "bert" else save_model(path, CONFIGS[kind]())
        return made[kind]

    return make


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    """Sources of words that the encoder knows; a target says the last two the other way round."""
    draw = random.Random(0)
    folder = tmp_path_factory.mktemp("pairs")
    for part, rows in (("train", 80), ("valid", 16), ("test", 20)):
        lines = ["source,target,keywords"]
        for _ in range(rows):
            words = draw.choices(WORDS[4:], k=draw.randint(2, 5))
            lines.append(f"{' '.join(words)},{words[-1]} {words[-2]},{words[-1]}")
        (folder / f"{part}.csv").write_text("\n".join(lines) + "\n")
    return str(folder)


def learner(data, model, loss="cross_entropy", **given):
    task = load_task("generation")
    settings = task.resolve({**SMALL, "model": f"hf:{model}", **given})
    return GradientLearner(task, task.problem(data, settings), loss, settings, seed=0)


@pytest.mark.parametrize("kind", ["bert", "t5", "bart", "marian"])
def test_a_decoder_learns_from_what_a_pretrained_encoder_reads(folders, pairs, kind):
    free = learner(pairs, folders(kind))
    encoder = free.model.encoder
    assert isinstance(encoder, Encoder)
    assert not any("decoder" in name for name, _ in encoder.named_parameters())
    first, *_, last = [free.epoch() for _ in range(8)]
    assert last < 0.7 * first


def test_sources_are_the_encoders_own_tokens_and_targets_are_ours(folders, pairs):
    made = learner(pairs, folders("bert"), tokenizer="words")
    problem, model = made.problem, made.model.eval()
    part = problem.parts["test"]
    ids = hf_tokens(f"hf:{folders('bert')}", part.text.sources, 128)
    for row, source in zip(ids, part.source, strict=True):
        assert source.tolist() == [i + 1 for i in row.tolist() if i != -1]
    words = {word for text in part.text.targets for word in text.split()}
    assert len(problem.codec) <= 4 + len(words) + 1, "no word of a source alone is in it"
    assert any(part.phrases), "keywords are tokens of the target"
    # What the decoder looks at are the hidden states of all tokens, in its own width.
    source = part.sources([0, 1, 2])
    hidden = model.encoder.transformer(
        input_ids=(source - 1).clamp(min=0), attention_mask=(source != 0).long()
    ).last_hidden_state
    read = model.norm_source(model.bridge(hidden))
    real, key, *_ = model.encode(source)
    torch.testing.assert_close(key, model.decoder[0].cross.remember(read)[0])
    assert torch.equal(real[:, 0, 0], source != 0)


def test_widths_that_agree_need_no_bridge(folders, pairs):
    assert isinstance(learner(pairs, folders("bert"), dimension=16).model.bridge, torch.nn.Identity)
    assert learner(pairs, folders("bert")).model.bridge.weight.shape == (8, 16)


def test_steps_with_caches_give_the_logits_of_whole_targets_whatever_the_padding(folders, pairs):
    made = learner(pairs, folders("bert"))
    model, part = made.model.eval(), made.problem.parts["test"]
    rows = sorted(range(8), key=lambda i: len(part.source[i]))
    batch = part.batch(rows)
    whole = model(batch.source, batch.given)
    memory = model.encode(batch.source)
    state, steps = model.start(memory), []
    for token in batch.given.unbind(dim=1):
        logits, state = model.step(token, memory, state)
        steps.append(logits)
    torch.testing.assert_close(torch.stack(steps, dim=1), whole, atol=1e-5, rtol=1e-5)
    alone = part.batch(rows[:1])
    logits = model(alone.source, alone.given)
    torch.testing.assert_close(logits, whole[:1, : logits.shape[1]], atol=1e-5, rtol=1e-5)
    assert batch.given[0, 0] == BEGIN_ID
    found = [beam_search(model, part.sources([i]), beams=3, most=4)[0] for i in rows]
    assert found == beam_search(model, batch.source, beams=3, most=4)
    assert greedy(model, batch.source, most=4) == beam_search(model, batch.source, beams=1, most=4)


def test_a_frozen_encoder_stays_and_a_free_one_has_its_own_pace(folders, pairs):
    frozen = learner(pairs, folders("bert"), freeze="yes")
    before = {name: value.clone() for name, value in frozen.model.encoder.state_dict().items()}
    first, *_, last = [frozen.epoch() for _ in range(4)]
    assert last < first and not frozen.model.encoder.transformer.training
    after = frozen.model.encoder.state_dict()
    assert all(torch.equal(value, before[name]) for name, value in after.items())
    task = load_task("generation")
    assert task.resolve({"model": f"hf:{folders('bert')}"})["encoder_learning_rate"] == 5e-5
    rates = [group["lr"] for group in learner(pairs, folders("bert")).optimizer.param_groups]
    assert rates == [0.01, 0.005]


@pytest.mark.parametrize("loss", ["keyword_hybrid", "keyword_presence", "label_smoothing"])
def test_the_losses_of_keywords_train_it(folders, pairs, loss):
    loss = "cross_entropy(label_smoothing=0.1)" if loss == "label_smoothing" else loss
    free = learner(pairs, folders("bert"), loss)
    first, *_, last = [free.epoch() for _ in range(6)]
    assert last < first


def test_a_source_longer_than_the_encoder_or_length_allows_loses_its_end(folders, pairs, tmp_path):
    sentences = as_sentence_transformer(folders("bert"), tmp_path, longest=6)
    made = learner(pairs, sentences)
    assert max(map(len, made.problem.parts["train"].source)) == 6
    made = learner(pairs, folders("bert"), length=3)
    assert max(map(len, made.problem.parts["train"].source)) == 3
    long = hf_tokens(f"hf:{folders('bert')}", ["film " * 100], 128)
    assert long.shape == (1, 32), "as many places as it has"
    assert Encoder(f"hf:{folders('bert')}").eval()(long).isfinite().all()


def test_an_empty_source_is_read_as_well(folders, pairs, tmp_path, monkeypatch):
    settings = {**SMALL, "epochs": 1, "model": f"hf:{folders('bert')}"}
    asked = settle("generation", pairs, "cross_entropy", seed=0, settings=settings)
    kept = load_model(fit(asked, tmp_path / "m").folder)
    (tmp_path / "new.txt").write_text("the film\n\nplot\n")
    assert len([one for some in answers(kept, str(tmp_path / "new.txt")) for one in some]) == 3
    # Of a tokenizer without marks of beginning and end nothing would be left to look at.
    ids = torch.tensor([[-1, -1], [4, -1]])
    monkeypatch.setattr("lossmith.tasks.pairs.hf_tokens", lambda *_: ids)
    found = encode_source(kept.reader.codec, ["", "the"], Pretrained("hf:any", 2))
    assert [one.tolist() for one in found] == [[1], [5]]


def test_from_compare_to_predict(folders, pairs, tmp_path, capfd, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model = f"hf:{folders('bert')}"
    small = [word for key, value in SMALL.items() for word in ("--set", f"{key}={value}")]
    words = ["compare", "generation", pairs, "--losses", "cross_entropy,keyword_hybrid",
             "--model", model, "--epochs", "1", "--seeds", "2", "--jobs", "1",
             "--out", "run", *small]  # fmt: skip
    assert run([*words, "--dry-run"]) == 0
    assert run([*words, "--quiet"]) == 0
    plan = json.loads((tmp_path / "run" / "plan.json").read_text())
    assert f"code of {model}" in plan["conditions"]
    settings = {**SMALL, "epochs": 2, "model": model, "beams": 2}
    asked = settle("generation", pairs, "keyword_hybrid", seed=0, settings=settings)
    folder = fit(asked, tmp_path / "m").folder
    kept = load_model(folder)
    assert evaluate(kept, pairs)["metrics"] == kept.metrics["test"]
    other = tmp_path / "other.csv"
    other.write_text((Path(pairs) / "train.csv").read_text())
    again = evaluate(kept, str(other))
    assert again["seen_in_training"]["train"] == again["rows"] == 80
    assert "It needs the folder of its pretrained encoder" in (folder / "README.md").read_text()
    capfd.readouterr()
    (tmp_path / "new.txt").write_text("the film\ndull plot\n")
    assert run(["predict", str(folder), "new.txt"]) == 0
    records = [json.loads(line) for line in capfd.readouterr().out.splitlines()]
    assert [record["row"] for record in records] == [1, 2]
    assert {"row", "text"} == set(records[0])


def test_a_training_that_was_broken_off_goes_on_as_if_it_had_not(folders, pairs):
    whole = learner(pairs, folders("bert"))
    whole.epoch()
    broken = learner(pairs, folders("bert"))

    def stop(loss):
        if len(broken.costs) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        broken.epoch(stop)
    state = broken.state()
    fresh = learner(pairs, folders("bert"))
    fresh.load_state(state)
    fresh.epoch()
    for name, value in whole.model.state_dict().items():
        assert torch.equal(value, fresh.model.state_dict()[name]), name


def test_a_mistake_is_a_sentence(folders, pairs, tmp_path):
    with pytest.raises(ValueError, match=r"there is no folder .*none"):
        learner(pairs, tmp_path / "none")
    with pytest.raises(ValueError, match=r"a GPT2Model is a decoder.*Expected an encoder.*T5"):
        learner(pairs, folders("gpt"))
    with pytest.raises(PlanError, match=r"a GPT2Model is a decoder"):
        prepare("generation", pairs, ["cross_entropy"], settings={"model": f"hf:{folders('gpt')}"})
    with pytest.raises(ValueError, match=r"there is no setting 'pooling'"):
        learner(pairs, folders("bert"), pooling="cls")
    with pytest.raises(ValueError, match=r"dimension=9 must be even"):
        task = load_task("generation")
        settings = task.resolve({"model": f"hf:{folders('bert')}", "dimension": 9})
        task.check("cross_entropy", settings)
    bare = shutil.copytree(folders("bert"), tmp_path / "bare")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (bare / name).unlink()
    with pytest.raises((ValueError, DataError), match=r"holds no tokenizer \(.*tokenizer\.json"):
        learner(pairs, bare)
