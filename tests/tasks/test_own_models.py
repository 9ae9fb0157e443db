"""Any nn.Module as the model: what each family calls it with, what comes out, what is wrong."""

from __future__ import annotations

import csv
import json
import random
import re
from pathlib import Path

import pytest
import torch

from lossmith.core.metric import find_metric
from lossmith.core.own import lend
from lossmith.modules import from_text
from lossmith.tasks.decoding import beam_search, greedy
from lossmith.tasks.factorization import Factorization
from lossmith.tasks.recommendation_data import Texts
from lossmith.tasks.recommender import PairScores
from lossmith.tasks.registry import load_task
from lossmith.tasks.seq2seq import AttentionRNN, WholePrefix
from lossmith.tasks.tagspace import TextItems, TextScores
from lossmith.tasks.task import GradientLearner
from lossmith.tasks.text import build_text_model
from lossmith.training.fit import fit, settle
from lossmith.training.folder import load_model
from lossmith.training.judge import answers, evaluate
from tasks import own_models, tiny

HERE = Path(own_models.__file__)
RECOMMENDATION = load_task("recommendation")
LOSSES = [tiny.loss("recommendation", spec.name) for spec in RECOMMENDATION.fitting()]


@pytest.fixture(autouse=True)
def own_threads():
    """A training sets the threads of its process; the other tests keep theirs."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def own(name):
    return f"{HERE}:{name}"


def numbers(tmp_path):
    """Features with a number each."""
    draw = random.Random(0)
    rows = [(draw.random(), draw.random()) for _ in range(60)]
    lines = ["a,b,price", *(f"{a:.3f},{b:.3f},{3 * a - b:.4f}" for a, b in rows)]
    (tmp_path / "numbers.csv").write_text("\n".join(lines) + "\n")
    task = load_task("regression")
    return task.problem(str(tmp_path / "numbers.csv"), task.resolve({"target": "price"}))


def problem_of(family, tmp_path):
    return numbers(tmp_path) if family == "regression" else getattr(tiny, family)()


def learner(family, problem, loss, model, **given):
    settings = tiny.settings(family, model=own(model), learning_rate=0.02, **given)
    return GradientLearner(load_task(family), problem, loss, settings, seed=0)


def texts():
    problem = tiny.recommendation()
    generator = torch.Generator().manual_seed(5)
    ids = torch.randint(2, tiny.WORDS, (tiny.USERS, 7), generator=generator, dtype=torch.int32)
    problem.texts = Texts(ids, tiny.WORDS)
    return problem


# ---------------------------------------------------------------------------- users and items


@pytest.mark.parametrize("loss", LOSSES)
def test_a_model_of_pairs_is_fed_as_one_of_vectors_is(loss):
    """The same weights in both: the same value and the same slopes, from the same draws."""
    problem, task = tiny.recommendation(), RECOMMENDATION
    torch.manual_seed(0)
    theirs = own_models.Product(problem.users, problem.items)
    ours = Factorization(problem.users, problem.items, dimension=5)
    for one, two in ((ours.users, theirs.users), (ours.items, theirs.items),
                     (ours.item_bias, theirs.bias)):  # fmt: skip
        torch.nn.init.normal_(one.weight)
        two.weight.data.copy_(one.weight.data)
    objective = from_text(loss)
    found = []
    for model in (ours, PairScores(theirs, problem.items)):
        # A fused form has no slope for what both models are not told of: the offset.
        batch = next(iter(problem.batches(tiny.settings("recommendation"), 0, 1)))
        cost = problem.cost(model, batch, objective, task.feed(objective.spec))
        cost.backward()
        found.append((cost.detach(), model))
    torch.testing.assert_close(found[0][0], found[1][0], rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(ours.items.weight.grad, theirs.items.weight.grad, rtol=1e-4,
                               atol=1e-6)  # fmt: skip


def test_all_items_are_scored_block_by_block(monkeypatch):
    monkeypatch.setattr("lossmith.tasks.recommender.PAIRS_AT_ONCE", 7)
    sizes = []
    model = own_models.Pairs(6, 5)
    model.register_forward_hook(lambda module, inputs, output: sizes.append(len(output)))
    scorer = PairScores(own_models.Pairs(6, 5), 5)
    scorer.model.load_state_dict(model.state_dict())
    users = torch.tensor([4, 1, 4])
    every = scorer.all_scores(users)
    assert every.shape == (3, 5)
    torch.testing.assert_close(every[1, 3], model(torch.tensor([1]), torch.tensor([3])).squeeze())
    torch.testing.assert_close(every[0], every[2])


@pytest.mark.parametrize("loss", ["bpr", "warp", "cross_entropy"])
def test_a_model_that_no_product_of_vectors_equals_learns_who_takes_what(loss):
    problem = tiny.recommendation()
    made = learner("recommendation", problem, loss, "Pairs", epochs=60)
    assert isinstance(made.model, PairScores)
    for _ in range(60):
        made.epoch()
    scores = made.model.all_scores(torch.arange(problem.users)).detach()
    known = problem.known.dense(torch.arange(problem.users))
    assert scores[known].mean() > scores[~known].mean() + 0.5
    metric = find_metric("recall@2", "recommendation")
    assert 0 <= problem.evaluate(made.model, "test", [metric])["recall@2"] <= 1


# ---------------------------------------------------------------------------- texts and items


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize(("name", "kind"), [("Vector", TextItems), ("Scores", TextScores)])
def test_a_model_of_texts_gives_a_vector_or_scores(name, kind, loss):
    made = learner("recommendation", texts(), loss, name)
    assert isinstance(made.model, kind)
    assert made.model.all_scores(torch.tensor([2, 0])).shape == (2, tiny.ITEMS)
    values = [made.epoch() for _ in range(4)]
    assert all(torch.tensor(values).isfinite())


def test_scores_of_ones_own_rank_the_items_of_training_first():
    problem = texts()
    made = learner("recommendation", problem, "cross_entropy", "Scores")
    for _ in range(150):
        made.epoch()
    scores = made.model.all_scores(torch.arange(problem.users)).detach()
    known = problem.known.dense(torch.arange(problem.users))
    assert known.gather(1, scores.topk(3).indices).float().mean() > 0.9


# ---------------------------------------------------------------------------- text to text


@pytest.mark.parametrize("beams", [1, 3])
def test_decoding_without_caches_says_the_same(beams):
    torch.manual_seed(1)
    ours = AttentionRNN(20, dimension=8, hidden=6, dropout=0.3).double().eval()
    for parameter in ours.parameters():  # so that it does not say the same of everything
        parameter.data.mul_(2)

    class Whole(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = ours

        def forward(self, source, source_mask, target_in):
            assert torch.equal(source_mask, source != 0)
            return self.inner(source, target_in)

    source = torch.randint(4, 20, (6, 7), generator=torch.Generator().manual_seed(1))
    source[2:, 4:] = 0
    decode = greedy if beams == 1 else lambda *a, **k: beam_search(*a, beams=beams, **k)
    expected = decode(ours, source, most=9)
    assert decode(WholePrefix(Whole()).eval(), source, most=9) == expected
    assert len({tuple(row) for row in expected}) > 1


@pytest.mark.parametrize("loss", ["cross_entropy", "keyword_hybrid", "keyword_presence"])
def test_a_writer_of_ones_own_learns(loss):
    problem = tiny.generation(model=own("Writer"))
    made = learner("generation", problem, loss, "Writer")
    first, *_, last = [made.epoch() for _ in range(12)]
    assert last < first
    assert len(problem.say(made.model.eval(), "test")) == tiny.ROWS["test"]


# ---------------------------------------------------------------------------- features, texts


def test_a_model_of_features_needs_no_mask_and_may_keep_the_last_axis(tmp_path):
    for family, loss in (("ranking", "listnet"), ("regression", "squared_error")):
        made = learner(family, problem_of(family, tmp_path), loss, "items_alone")
        first, *_, last = [made.epoch() for _ in range(10)]
        assert last < first


def test_towers_of_ones_own_give_vectors_of_the_size_asked_for():
    problem = tiny.retrieval()
    with lend({"mine": lambda vocabulary, outputs: own_models.Vector(vocabulary, outputs)}):
        settings = tiny.settings("retrieval", model="mine", size=6, learning_rate=0.02)
        made = GradientLearner(load_task("retrieval"), problem, "info_nce", settings, seed=0)
    assert made.model.queries(problem.queries["test"]).shape == (tiny.ROWS["test"], 6)
    first, *_, last = [made.epoch() for _ in range(8)]
    assert last < first


# ---------------------------------------------------------------------------- what is wrong


@pytest.mark.parametrize(
    ("family", "loss", "model", "complaint"),
    [
        ("recommendation", "bpr", "pairs_of_three", r"gave \(16, 3\).*called with \(16,\), \(16,\)"
         r" \(own_models.py:\d+\); expected floating point of shape \(16,\): model\(users \[M\], "),
        ("recommendation", "bpr", "one_input", r"forward takes \(input\) \(own_models.py:\d+\)"
         r"; it is called as .*give it users, it"),
        ("recommendation", "bpr", "Failing", r"fails on \(16,\), \(16,\), called as model\(users.*"
         r": RuntimeError: .* \(own_models.py:\d+: return self.users\(users\) @"),
        ("recommendation", "bpr", "Unmade", r"cannot be made: KeyError: 'width' \(own_models.py:"),
        ("ranking", "listnet", "two_numbers", r"gave \(8, 4, 2\).*expected .* shape \(8, 4\)"),
        ("regression", "huber", "two_numbers", r"gave \(8, 2\).*model\(features \[N, F\]\) -> \[N"),
        ("regression", "huber", "integers", r"torch.int64 when"),
        ("generation", "cross_entropy", "TwoInputs", r"takes \(source, target_in\).*source_mask"),
        ("generation", "cross_entropy", "Ahead", r"ahead \(own_models.py:\d+\): .*a causal mask"),
        ("generation", "cross_entropy", "Short", r"gave \(1, \d+\).*\[N, L, vocabulary\]"),
    ],
)  # fmt: skip
def test_a_model_that_does_not_fit_says_what_came_and_what_was_expected(
    family, loss, model, complaint, tmp_path
):
    with pytest.raises(ValueError, match=complaint):
        learner(family, problem_of(family, tmp_path), loss, model).epoch()


def test_a_model_of_texts_that_does_not_fit_says_so_at_once():
    with pytest.raises(
        ValueError, match=r"for a text \(own_models.py:\d+\); expected 5.*or 9, a score"
    ):
        learner("recommendation", texts(), "bpr", "wide")
    with pytest.raises(ValueError, match=r"9 items and dimension=9.*--set dimension=10"):
        learner("recommendation", texts(), "bpr", "Scores", dimension=9)
    with lend({"mine": lambda items: torch.nn.Linear(2, items)}):
        settings = tiny.settings("recommendation", model="mine")
        with pytest.raises(
            ValueError, match=r"fails on token ids \(2, 7\), called as .*: RuntimeError"
        ):
            texts().model(settings)
    for model, problem in (("Scores", texts()), ("Pairs", tiny.recommendation())):
        with pytest.raises(ValueError, match=r"l2 penalises vectors.*weight_decay"):
            learner("recommendation", problem, "bpr", model, l2=0.1)
    with lend({"mine": lambda vocabulary: own_models.Vector(vocabulary, 3)}):
        model = build_text_model(tiny.settings("classification", model="mine"), 20, 2)
    with pytest.raises(ValueError, match=r"gave \(4, 3\).*shape \(4, 2\): model\(ids \[N, L\]\)"):
        model(torch.ones(4, 6, dtype=torch.int32))


def test_a_pretrained_encoder_is_refused_where_it_means_nothing():
    complaint = r"reads texts, and here each row is numbers.*my\.py:build.*mlp, attention"
    with pytest.raises(ValueError, match=complaint):
        load_task("ranking").resolve({"model": "hf:encoder"})


# ---------------------------------------------------------------------------- the whole way


def rows_of(family, i):
    draw = random.Random(i)
    words = draw.sample(["red", "green", "blue", "old", "new"], 3)
    if family == "texts":
        return {"title": f"{' '.join(words)} n{i}", "tags": str(sorted(words[:2]))}
    if family == "generation":
        return {"source": f"{' '.join(words)} n{i}", "target": f"n{i} {words[0]}"}
    user, item = divmod(random.Random(0).sample(range(12 * 15), 12 * 15)[i], 15)
    return {"user": f"u{user}", "item": f"i{item}"}


def test_a_model_of_ones_own_may_ask_for_what_is_known_of_items(tmp_path):
    """It is there again when the model comes from its folder, though no weights hold it."""
    pairs = [(u, i) for u in range(12) for i in range(15) if (i + u) % 3 == 0]
    data, items = tmp_path / "r.csv", tmp_path / "items.csv"
    data.write_text("\n".join(["user,item", *(f"u{u},i{i}" for u, i in pairs)]) + "\n")
    lines = ["item,kind", *(f"i{i},{'abc'[i % 3]}" for i in range(15))]
    items.write_text("\n".join(lines) + "\n")
    settings = {"epochs": 20, "model": own("Known"), "item_features": str(items),
                "learning_rate": 0.1, "batch_size": 8}  # fmt: skip
    asked = settle("recommendation", str(data), "bpr", seed=0, settings=settings)
    kept = load_model(fit(asked, tmp_path / "m").folder)
    assert kept.metrics["test"]["auc"] > 0.6  # 0.5 if all scores were equal
    again = evaluate(kept, str(data))
    assert again["metrics"] == kept.metrics["test"]
    (tmp_path / "new.txt").write_text("u1\n")
    found = [one for some in answers(kept, str(tmp_path / "new.txt"), top=2) for one in some]
    assert all(torch.tensor(one["score"]).abs() > 0 for one in found)
    with pytest.raises(ValueError, match=r"argument 'item_features' that it is not given"):
        learner("recommendation", tiny.recommendation(), "bpr", "Known")


def test_the_model_of_the_documentation_trains(tmp_path):
    page = Path(__file__).resolve().parents[2] / "docs" / "your-own.md"
    (block,) = re.findall(r"```python\n(# my_models.py\n.*?)```", page.read_text(), re.DOTALL)
    path = tmp_path / "models_of_the_page.py"
    path.write_text(block)
    settings = tiny.settings("recommendation", model=f"{path}:Pairs(width=4)")
    made = GradientLearner(RECOMMENDATION, tiny.recommendation(), "bpr", settings, seed=0)
    first, *_, last = [made.epoch() for _ in range(10)]
    assert last < first


@pytest.mark.parametrize(
    ("family", "model", "loss"),
    [
        ("users", "Pairs", "warp"),
        ("texts", "Vector", "warp"),
        ("texts", "Scores", "cross_entropy"),
        ("generation", "Writer", "cross_entropy"),
    ],
)
def test_a_model_of_ones_own_is_kept_in_a_folder_and_answers(family, model, loss, tmp_path):
    data = tmp_path / "data"
    data.mkdir()
    start = 0
    for part, size in (("train", 90), ("valid", 20), ("test", 30)):
        rows = [rows_of(family, i) for i in range(start, start + size)]
        start += size
        with (data / f"{part}.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    task = family if family == "generation" else "recommendation"
    settings = {"epochs": 2, "model": own(model), "dimension": 6}
    asked = settle(task, str(data), loss, seed=0, settings=settings)
    kept = load_model(fit(asked, tmp_path / "m").folder)
    assert evaluate(kept, str(data / "test.csv"))["metrics"] == kept.metrics["test"]
    (tmp_path / "new.txt").write_text("u3\nu5\n" if family == "users" else "red\nold new\n")
    found = [one for some in answers(kept, str(tmp_path / "new.txt"), top=2) for one in some]
    assert len(found) == (2 if family == "generation" else 4)
    assert json.dumps(found)
