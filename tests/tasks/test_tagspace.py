"""Texts to items: the encoder, the scores, what an objective is fed, and the whole way."""

from __future__ import annotations

import pytest
import torch

from lossmith.compare.plan import PlanError, make_plan
from lossmith.core.metric import find_metric
from lossmith.core.spec import parse
from lossmith.modules import from_text
from lossmith.tasks.recommendation import RecommendationProblem
from lossmith.tasks.recommendation_data import Texts
from lossmith.tasks.registry import load_task
from lossmith.tasks.tagspace import ConvolutionEncoder, TextItems
from lossmith.tasks.task import GradientLearner
from tasks import tiny

TASK = load_task("recommendation")
LOSSES = [tiny.loss("recommendation", spec.name) for spec in TASK.fitting()]


def settings(**given):
    return tiny.settings("recommendation", **{"filters": 16, "learning_rate": 0.02, **given})


def texts():
    """The problem of :func:`tiny.recommendation`, with words that number the user's text."""
    problem = tiny.recommendation()
    generator = torch.Generator().manual_seed(5)
    ids = torch.randint(2, tiny.WORDS, (tiny.USERS, 7), generator=generator, dtype=torch.int32)
    ids[::3, 4:] = 0
    problem.texts = Texts(ids, tiny.WORDS)
    return problem


# ---------------------------------------------------------------------------- the model


def test_the_convolution_is_a_plain_loop_over_windows():
    torch.manual_seed(0)
    encoder = ConvolutionEncoder(12, dimension=3, filters=4, width=3, dropout=0.0)
    ids = torch.tensor([[5, 2, 9, 3, 0, 0], [7, 0, 0, 0, 0, 0]])
    found = encoder(ids)
    weight, bias = encoder.filters.weight, encoder.filters.bias
    for row, words in enumerate(([5, 2, 9, 3], [7])):
        vectors = [torch.zeros(3), *(encoder.words.weight[w] for w in words), torch.zeros(3)]
        responses = [
            torch.stack([
                bias[f] + sum((weight[f, :, k] * vectors[place + k]).sum() for k in range(3))
                for f in range(4)
            ])
            for place in range(len(words))
        ]  # fmt: skip
        largest = torch.stack([response.tanh() for response in responses]).amax(dim=0)
        torch.testing.assert_close(found[row], encoder.linear(largest.tanh()))


@pytest.mark.parametrize("width", [1, 2, 5])
@pytest.mark.parametrize("model", ["tagspace", "bag"])
def test_padding_changes_nothing(model, width):
    problem = texts()
    torch.manual_seed(0)
    made = problem.model(settings(model=model, width=width))
    ids = problem.texts.ids[:2]
    wide = torch.cat([ids, torch.zeros_like(ids)], dim=1)
    torch.testing.assert_close(made.read_texts(ids), made.read_texts(wide))
    # Beside a longer text, too.
    torch.testing.assert_close(made.read_texts(ids)[0], made.read_texts(ids[:1])[0])


@pytest.mark.parametrize("model", ["tagspace", "bag"])
def test_a_text_without_words_has_a_vector_and_gradients(model):
    problem = texts()
    made = problem.model(settings(model=model))
    vectors = made.read_texts(torch.zeros(2, 7, dtype=torch.int32))
    vectors.sum().backward()
    assert vectors.isfinite().all()
    assert all(p.grad.isfinite().all() for p in made.encoder.parameters() if p.grad is not None)


@pytest.mark.parametrize("score", ["dot", "cosine"])
def test_some_scores_are_those_of_all_items(score):
    problem = texts()
    torch.manual_seed(0)
    made = problem.model(settings(score=score, scale=4.0))
    with torch.no_grad():
        made.offset.fill_(0.3)
    users, items = torch.tensor([3, 0, 3]), torch.tensor([[1, 8], [0, 0], [4, 2]])
    scores, penalty = made(users, items)
    table = made.all_scores(users)
    assert table.shape == (3, tiny.ITEMS)
    torch.testing.assert_close(scores, table.gather(1, items))
    text, item = made.encoder(problem.texts.ids[:1])[0], made.items.weight[4]
    expected = text @ item
    if score == "cosine":
        expected = 4.0 * expected / text.norm() / item.norm()
        assert table.abs().max() <= 4.3 and (penalty - (4.0**2 + 2)).abs().max() < 1e-4
    torch.testing.assert_close(made.all_scores(torch.tensor([0]))[0, 4] - 0.3, expected)


def test_the_data_are_no_part_of_the_weights():
    made = texts().model(settings())
    assert isinstance(made, TextItems) and "ids" not in made.state_dict()


# ---------------------------------------------------------------------------- feeds


@pytest.mark.parametrize(
    ("loss", "model"), [*((loss, "tagspace") for loss in LOSSES), ("warp", "bag"), ("bpr", "bag")]
)
def test_every_fitting_objective_trains(loss, model):
    learner = GradientLearner(TASK, texts(), loss, settings(model=model), seed=0)
    first, *others = [learner.epoch() for _ in range(15)]
    if "monotone" not in parse(loss)[0].exempt:
        assert others[-1] < first


def test_warp_on_texts_is_fed_violators_of_the_catalogue():
    problem, calls = texts(), []
    objective = from_text("warp(margin=0.5)")
    objective.register_forward_pre_hook(
        lambda module, inputs, given: calls.append((*inputs, given)), with_kwargs=True
    )
    made = problem.model(settings())
    for batch in problem.batches(settings(), 0, 1):
        problem.cost(made, batch, objective, "positive+draws")
        positive, negative, given = calls[-1]
        table = made.all_scores(batch.users)
        torch.testing.assert_close(positive, table.gather(1, batch.items[:, None])[:, 0])
        found = given["mask"][:, 0]
        assert (negative[:, 0] > positive - 0.5 - 1e-5)[found].all()
        free = table.masked_fill(problem.known.dense(batch.users), torch.nan)
        drawn = (free - negative).abs().nan_to_num(1.0).amin(dim=1)
        assert (drawn[found] < 1e-5).all()
    assert len(calls) > 3


def test_whole_rows_are_fed_once_for_each_text():
    problem, calls = texts(), []
    objective = from_text("listnet")
    objective.register_forward_pre_hook(lambda module, inputs: calls.append(inputs))
    made = problem.model(settings())
    batch = next(iter(problem.batches(settings(batch_size=30), 0, 1)))
    problem.cost(made, batch, objective, "scores+relevance")
    (scores, taken), users = calls[0], torch.unique(batch.users)
    torch.testing.assert_close(scores, made.all_scores(users))
    assert torch.equal(taken.bool(), problem.known.dense(users)) and len(users) < 30


def test_a_softmax_over_drawn_items_rules_the_known_ones_out():
    problem, calls = texts(), []
    objective = from_text("cross_entropy")
    objective.register_forward_pre_hook(lambda module, inputs: calls.append(inputs))
    made = problem.model(settings())
    batch = next(iter(problem.batches(settings(softmax=12), 0, 1)))
    problem.cost(made, batch, objective, "logits+class")
    (scores, target), table = calls[0], made.all_scores(batch.users)
    assert scores.shape == (8, 13) and not target.any()
    torch.testing.assert_close(scores[:, 0], table.gather(1, batch.items[:, None])[:, 0])
    assert 0.1 < (scores[:, 1:] == -1e4).double().mean() < 0.6


# ---------------------------------------------------------------------------- the whole way

ANIMALS = ["cat", "dog", "cow", "owl"]


@pytest.fixture
def posts(tmp_path):
    """Posts whose tags are the animals that they name."""
    lines = ["title\ttags"]
    for i in range(120):
        one, two = ANIMALS[i % 4], ANIMALS[(i // 4) % 4]
        lines.append(f"post {i % 17} on the {one} and {two} today\t{sorted({one, two})!r}")
    path = tmp_path / "posts.tsv"
    path.write_text("\n".join(lines) + "\n")
    return path


def loaded(path, **given):
    made = TASK.resolve(given)
    return TASK.problem(str(path), made), made


@pytest.mark.parametrize("given", [{}, {"model": "bag"}, {"score": "cosine"}, {"text": "title"}])
def test_a_file_of_texts_is_found_out_and_learnt(posts, given):
    problem, made = loaded(posts, learning_rate=0.02, batch_size=16, negatives=3, **given)
    assert isinstance(problem, RecommendationProblem) and problem.items == 4
    assert problem.description.notes[0].startswith("Each row is a text, column 'title'")
    # Of four items WARP's rank estimate is mostly 1, whose weight is log 1.
    learner = GradientLearner(TASK, problem, "bpr", made, seed=0)
    for _ in range(10):
        learner.epoch()
    names = [find_metric(name, "recommendation") for name in ("precision@1", "recall@2")]
    found = problem.evaluate(learner.model, "test", names)
    assert found["recall@2"] > 0.95 and found["precision@1"] > 0.95


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        ({"model": "factorization"}, "model=factorization needs users"),
        ({"text": "title", "user": "who"}, "user=who and text=title do not go together"),
        ({"item_features": "f.csv"}, "features are for matrix factorisation"),
    ],
)
def test_settings_that_do_not_go_with_texts_are_refused(posts, given, complaint):
    with pytest.raises(ValueError, match=complaint):
        loaded(posts, **given)


@pytest.mark.parametrize("given", [{}, {"text": "title"}, {"model": "bag"}])
def test_lightfm_is_refused_before_anything_is_trained(posts, given, monkeypatch):
    monkeypatch.setattr("lossmith.tasks.lightfm.check_knobs", lambda loss: {})
    with pytest.raises(PlanError, match="has no model of texts"):
        make_plan(TASK, str(posts), ["warp", "lightfm"], metric=None, seeds=1, baseline=None,
                  settings=given)  # fmt: skip
