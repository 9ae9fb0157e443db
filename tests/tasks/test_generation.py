"""Parallel text in tensors, how its outputs meet a loss, and what the task reports."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

import lossmith as lm
from lossmith.data.parallel import ParallelPart
from lossmith.kernels.terms import find_terms
from lossmith.modules import from_text
from lossmith.tasks.codec import BEGIN_ID, END_ID, PAD_ID, UNKNOWN_ID, Codec
from lossmith.tasks.generation import TASK
from lossmith.tasks.pairs import IGNORED, encode_part
from tasks import tiny

TEXTS = [
    "A list comprehension, C++ and (COVID).",
    "``os.path`` isn't naïve: :func:`getattr` of 3.14",
    "« liste » d'itérateurs — très bien",
    "no",
]


# ---------------------------------------------------------------------------- the tokenizer


@pytest.mark.parametrize(("kind", "size"), [("subwords", 300), ("subwords", 2000), ("words", 300)])
def test_what_is_encoded_decodes_to_the_same_text(kind, size):
    codec = Codec(TEXTS, kind, size)
    assert codec.decode([one.ids for one in codec.encode(TEXTS)]) == TEXTS


def test_subwords_lose_nothing_of_texts_never_seen():
    codec = Codec(TEXTS, "subwords", 300)
    unseen = ['Ωmega {"x": [1, 2]} 日本語 C++', "tabs\tand  spaces"]
    assert codec.decode([one.ids for one in codec.encode(unseen)]) == unseen


def test_special_tokens_leave_nothing_in_the_text():
    codec = Codec(TEXTS, "subwords", 300)
    ids = codec.encode(["a list"])[0].ids
    assert codec.decode([[BEGIN_ID, *ids, END_ID, PAD_ID]]) == ["a list"]


def test_the_vocabulary_is_the_same_every_time():
    ids = [Codec(TEXTS * 3, "subwords", 400).encode(TEXTS) for _ in range(2)]
    assert ids[0] == ids[1]


@pytest.mark.parametrize("kind", ["subwords", "words"])
def test_tokens_know_the_characters_that_they_stand_for(kind):
    codec = Codec(TEXTS, kind, 400)
    for text, encoded in zip(TEXTS, codec.encode(TEXTS), strict=True):
        for token, (start, end) in zip(encoded.ids, encoded.places, strict=True):
            assert (
                codec.decode([[token]])[0] in text[start:end] or "�" in codec.decode([[token]])[0]
            )


# ---------------------------------------------------------------------------- keywords in tokens


@pytest.mark.parametrize("kind", ["subwords", "words"])
def test_a_keyword_is_the_tokens_that_say_it_and_they_are_marked(kind):
    text = "the C++ list, a (C++) list comprehension"
    terms = ("list comprehension", "C++", "list", "tuple")
    codec = Codec([text, "a tuple"], kind, 400)
    part = encode_part(codec, ParallelPart(["x"], [text], [terms]))
    said = [codec.decode([phrase])[0] for phrase in part.phrases[0]]
    # A token may hold the comma or bracket beside a keyword, never another word.
    assert [word.strip(" ,()") for word in said] == ["list comprehension", "C++", "list", "tuple"]
    marked, ids = part.marked[0], part.target[0]
    assert marked.shape == ids.shape and not marked[-1] and ids[-1] == END_ID
    spans = [span for places in find_terms(text, terms) for span in places]
    letters = codec.decode([ids[marked].tolist()])[0]
    for start, end in spans:
        assert text[start:end] in letters
    assert "the" not in letters and " a " not in letters


def test_a_keyword_that_the_vocabulary_lacks_is_not_asked_for():
    codec = Codec(["a list"] * 2, "words", 300)
    part = encode_part(codec, ParallelPart(["x"], ["a tuple list"], [("tuple", "list")]))
    assert part.phrases == [[(codec.encode(["list"])[0].ids[0],)]]
    assert UNKNOWN_ID in part.target[0] and part.marked[0].tolist() == [False, False, True, False]


# ---------------------------------------------------------------------------- batches


def test_a_batch_shifts_the_target_and_pads_behind():
    problem = tiny.generation()
    part = problem.parts["train"]
    batch = part.batch([0, 1, 2])
    for row, i in enumerate((0, 1, 2)):
        size = len(part.target[i])
        assert batch.target[row, :size].tolist() == part.target[i].tolist()
        assert (batch.target[row, size:] == IGNORED).all()
        assert batch.given[row, :size].tolist() == [BEGIN_ID, *part.target[i][:-1].tolist()]
        assert batch.marked[row, :size].tolist() == part.marked[i].tolist()
        assert not batch.marked[row, size:].any()
        assert batch.source[row, len(part.source[i]) :].eq(PAD_ID).all()


def test_every_pair_is_in_one_batch_of_an_epoch():
    part = tiny.generation().parts["train"]
    rows = [tuple(row[row != PAD_ID].tolist()) for b in part.shuffled(5, 0, 1) for row in b.source]
    assert sorted(rows) == sorted(tuple(row.tolist()) for row in part.source)


# ---------------------------------------------------------------------------- the feeds


def both(loss: str, single: bool = False, **given):
    """The cost of a batch as the task feeds it, and what a call by hand needs."""
    problem = tiny.generation(**given)
    torch.manual_seed(0)
    model = problem.model(tiny.settings("generation", dropout=0.0))
    part = problem.parts["train"]
    batch = part.batch(
        [i for i in range(16) if not single or all(len(phrase) == 1 for phrase in part.phrases[i])]
    )
    objective = from_text(loss)
    value = problem.cost(model, batch, objective, TASK.feed(objective.spec))
    return value, model(batch.source, batch.given), batch


def test_cross_entropy_is_that_of_the_tokens_that_are_real():
    value, logits, batch = both("cross_entropy")
    wanted = F.cross_entropy(logits.flatten(0, 1), batch.target.flatten(), ignore_index=IGNORED)
    torch.testing.assert_close(value, wanted)


def test_presence_beside_cross_entropy_is_what_the_source_describes():
    """Cross-entropy + factor x P(no keyword), by a loop over rows and positions."""
    loss = "keyword_hybrid(presence=0.5, placement=0.0, prefix_aware=False)"
    value, logits, batch = both(loss, single=True)
    plain = F.cross_entropy(logits.flatten(0, 1), batch.target.flatten(), ignore_index=IGNORED)
    none = []
    for row, phrases in enumerate(batch.phrases):
        if phrases:
            ids = [phrase[0] for phrase in phrases]
            p = logits[row].softmax(dim=-1)[batch.target[row] != IGNORED]
            none.append((1 - p[:, ids].sum(dim=-1)).prod())
    assert 2 < len(none) < len(batch.phrases)
    torch.testing.assert_close(value, plain + 0.5 * torch.stack(none).mean())


def test_placement_divides_by_all_tokens_as_the_source_does():
    value, logits, batch = both("keyword_hybrid(presence=0.0, placement=0.25)")
    real = batch.target != IGNORED
    log_p = logits.log_softmax(dim=-1).gather(-1, batch.target.clamp(min=0).unsqueeze(-1))
    cost = -log_p.squeeze(-1)[real]
    # The same as a cross-entropy in which a marked token weighs 1.25.
    weight = 1 + 0.25 * batch.marked[real].float()
    torch.testing.assert_close(value, (weight * cost).sum() / real.sum())
    over_marked, *_ = both("keyword_hybrid(presence=0.0, placement=0.25)", placement_over="marked")
    wanted = cost.mean() + 0.25 * cost[batch.marked[real]].mean()
    torch.testing.assert_close(over_marked, wanted)


def test_the_terms_alone_are_added_to_cross_entropy_with_the_setting_factor():
    for loss, knobs in (
        ("keyword_presence", "presence=0.3, placement=0.0"),
        ("keyword_placement", "presence=0.0, placement=0.3"),
    ):
        for over in ("tokens", "marked"):
            alone, *_ = both(loss, factor=0.3, placement_over=over)
            hybrid, *_ = both(f"keyword_hybrid({knobs})", placement_over=over)
            torch.testing.assert_close(alone, hybrid)


def test_a_batch_of_which_no_keyword_is_asked_is_plain_cross_entropy():
    problem = tiny.generation()
    part = problem.parts["train"]
    rows = [i for i, phrases in enumerate(part.phrases) if not phrases]
    torch.manual_seed(0)
    model = problem.model(tiny.settings("generation", dropout=0.0))
    batch = part.batch(rows)
    losses = ("keyword_hybrid", "keyword_presence", "keyword_placement", "cross_entropy")
    values = []
    for loss in losses:
        objective = from_text(loss)
        values.append(problem.cost(model, batch, objective, TASK.feed(objective.spec)))
    for value in values[:-1]:
        torch.testing.assert_close(value, values[-1])


# ---------------------------------------------------------------------------- evaluation


def test_what_a_trained_model_says_is_judged_in_plain_text():
    problem = tiny.generation()
    settings = tiny.settings("generation", dropout=0.0, dimension=32, hidden=32, learning_rate=0.02)
    learner = TASK.learner(problem, "cross_entropy", settings, 0)
    for _ in range(60):
        learner.epoch()
    found = problem.evaluate(learner.model, "train", TASK.metrics(settings))
    texts = problem.parts["train"].text
    said = problem.say(learner.model, "train")
    exact = sum(a == b for a, b in zip(said, texts.targets, strict=True)) / len(said)
    assert exact > 0.8 and found["keyword_recall"] > 0.9 and found["bleu"] > 80
    words = [(a.split(), terms) for a, terms in zip(said, texts.keywords, strict=True) if terms]
    whole = sum(all(term in row for term in terms) for row, terms in words) / len(words)
    assert found["all_keywords"] == pytest.approx(whole)


@pytest.mark.parametrize("model", ["gru", "lstm", "transformer"])
def test_perplexity_is_that_of_a_loop_over_rows_without_padding(model):
    problem = tiny.generation(model=model, dimension=8)
    torch.manual_seed(1)
    net = problem.model(tiny.settings("generation", model=model, dimension=8)).eval()
    found = problem.evaluate(net, "test", TASK.metrics({"metrics": "perplexity", "metric": ""}))
    part, costs = problem.parts["test"], []
    for i in range(len(part)):
        batch = part.batch([i])
        logits = net(batch.source, batch.given)[0]
        costs += F.cross_entropy(logits, batch.target[0], reduction="none").tolist()
    assert found == {"perplexity": pytest.approx(math.exp(sum(costs) / len(costs)), rel=1e-5)}


def test_evaluation_does_not_depend_on_the_batch(monkeypatch):
    problem = tiny.generation()
    torch.manual_seed(2)
    model = problem.model(tiny.settings("generation")).eval()
    whole = problem.say(model, "test")
    monkeypatch.setattr("lossmith.tasks.generation.ROWS_AT_ONCE", 1)
    assert problem.say(model, "test") == whole


def test_beams_and_length_are_settings():
    problem = tiny.generation(beams=3, longest=2)
    torch.manual_seed(2)
    model = problem.model(tiny.settings("generation")).eval()
    assert all(
        1 <= len(problem.codec.encode([text])[0].ids) <= 2 for text in problem.say(model, "test")
    )


def test_every_objective_of_the_family_fits_the_task():
    fitting = {spec.name for spec in TASK.fitting()}
    assert {spec.name for spec in lm.objectives("generation") if "keyword" in spec.name} <= fitting
