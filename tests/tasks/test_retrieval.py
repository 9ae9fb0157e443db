"""Retrieval: what is a negative, what is ranked, BM25, and the whole way from a file."""

from __future__ import annotations

import math
from collections import Counter

import pytest
import torch
import torch.nn.functional as F

from lossmith.modules import from_text
from lossmith.tasks.bm25 import BM25, terms
from lossmith.tasks.registry import load_task
from lossmith.tasks.retrieval import RetrievalProblem
from lossmith.tasks.task import GradientLearner
from lossmith.tasks.towers import TwoTowers
from lossmith.training.job import Job
from lossmith.training.run import run_job
from tasks import tiny

TASK = load_task("retrieval")


def setup(**given):
    """A problem, a model, and a batch with every training pair: 24, and two more that tie rows."""
    problem = tiny.retrieval(negatives=given.pop("given_negatives", True))
    settings = tiny.settings("retrieval", **{"batch_size": 99, **given})
    torch.manual_seed(0)
    model = problem.model(settings)
    (batch,) = problem.batches(settings, 0, 1)
    return problem, model, batch


def fed(loss, problem, model, batch):
    objective = from_text(loss)
    return problem.cost(model, batch, objective, TASK.feed(objective.spec))


def relevant(problem: RetrievalProblem, part: str = "train") -> dict[int, dict[int, float]]:
    own = problem.data.parts[part]
    found: dict[int, dict[int, float]] = {}
    for query, document, grade in zip(own.query, own.document, own.grade, strict=True):
        found.setdefault(int(query), {})[int(document)] = float(grade)
    return found


def rows_of(problem, batch):
    """The query of each row of a batch, by its tokens and its document."""
    own, grades = problem.queries["train"], relevant(problem)
    return [
        next(
            q
            for q in range(len(own))
            if torch.equal(own[q], ids) and grades[q].get(int(document), 0) > 0
        )
        for ids, document in zip(batch.queries, batch.documents, strict=True)
    ]


def test_a_batch_knows_the_grade_of_each_document_for_each_query():
    problem, _, batch = setup()
    grades, queries = relevant(problem), rows_of(problem, batch)
    assert len(queries) == 26
    expected = [[grades[q].get(int(d), 0.0) for d in batch.documents] for q in queries]
    assert batch.grades.tolist() == expected
    assert batch.known.sum() > 2 and not batch.known.diagonal().any()


def test_given_negatives_are_those_of_the_query():
    problem, _, batch = setup(hard_negatives=2)
    grades = relevant(problem)
    assert batch.negatives.shape[1] == 1 and batch.there.any() and not batch.there.all()
    for q, ids, there in zip(rows_of(problem, batch), batch.negatives, batch.there, strict=True):
        wrong = [d for d, grade in grades[q].items() if grade == 0]
        assert bool(there[0]) == bool(wrong)
        if wrong:
            assert torch.equal(ids[0], problem.documents[wrong[0]])


@pytest.mark.parametrize("given_negatives", [True, False])
def test_what_is_relevant_as_well_is_no_negative(given_negatives):
    problem, model, batch = setup(given_negatives=given_negatives)
    queries, documents = model.queries(batch.queries), model.documents(batch.positives)
    costs = []
    for i in range(len(queries)):
        right = (queries[i] @ documents[i]) / 0.1
        others = [(queries[i] @ documents[j]) / 0.1 for j in range(len(queries))
                  if j != i and batch.grades[i, j] <= 0]  # fmt: skip
        if batch.there.shape[1] and batch.there[i, 0]:
            others.append(queries[i] @ model.documents(batch.negatives[i, :1])[0] / 0.1)
        costs.append(torch.stack([right, *others]).logsumexp(0) - right)
    value = fed("info_nce(temperature=0.1)", problem, model, batch)
    torch.testing.assert_close(value, torch.stack(costs).mean(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("loss", ["matryoshka_info_nce", "nt_xent", "multi_similarity", "sup_con"])
def test_where_an_objective_cannot_be_told_the_later_of_two_rows_is_left_out(loss):
    problem, model, batch = setup()
    tied = batch.known | batch.known.T
    kept = [i for i in range(len(tied)) if not tied[i, :i].any()]
    assert len(kept) < len(tied)
    queries, documents = model.queries(batch.queries[kept]), model.documents(batch.positives[kept])
    if TASK.feed(from_text(loss).spec) == "embeddings+labels":
        labels = torch.arange(len(kept)).repeat(2)
        expected = from_text(loss)(torch.cat([queries, documents]), labels)
    else:
        expected = from_text(loss)(queries, documents)
    torch.testing.assert_close(fed(loss, problem, model, batch), expected)


def test_a_copy_may_be_right_as_well():
    problem, model, batch = setup()
    assert batch.copies.any()
    value = fed("info_nce(same_id='positive')", problem, model, batch)
    assert value.isfinite() and value != fed("info_nce", problem, model, batch)


def test_triplets_have_given_and_drawn_negatives_and_no_relevant_one():
    problem, model, batch = setup(negatives=30)
    queries, documents = model.queries(batch.queries), model.documents(batch.positives)
    given, costs = model.documents(batch.negatives), []
    for i in range(len(queries)):
        near = (queries[i] - documents[i]).norm()
        far = [given[i, k] for k in range(given.shape[1]) if batch.there[i, k]]
        far += [documents[j] for j in batch.drawn[i] if batch.grades[i, j] <= 0]
        costs += [F.relu(near - (queries[i] - x).norm() + 0.3) for x in far]
    value = fed("triplet(margin=0.3)", problem, model, batch)
    torch.testing.assert_close(value, torch.stack(costs).mean(), rtol=1e-4, atol=1e-6)


def test_a_list_holds_each_document_once_with_its_grade():
    problem, model, batch = setup(given_negatives=False, scale=3.0)
    first = [j for j, d in enumerate(batch.documents) if d not in batch.documents[:j]]
    assert len(first) < len(batch.documents)
    scores = model.queries(batch.queries) @ model.documents(batch.positives[first]).T
    expected = from_text("listnet")(3.0 * scores, batch.grades[:, first])
    torch.testing.assert_close(fed("listnet", problem, model, batch), expected)


def test_a_batch_of_one_pair_teaches_nothing_and_does_no_harm():
    problem = tiny.retrieval(negatives=False)
    settings = tiny.settings("retrieval", batch_size=1)
    torch.manual_seed(0)
    model = problem.model(settings)
    batch = next(iter(problem.batches(settings, 0, 1)))
    for loss in ("info_nce", "triplet", "sup_con", "batch_hard_triplet"):
        value = fed(loss, problem, model, batch)
        value.backward()
        assert value == 0


# ---------------------------------------------------------------------------- evaluation


@pytest.mark.parametrize("at_once", [1, 100, 1 << 24])
def test_every_document_of_every_part_is_ranked(monkeypatch, at_once):
    monkeypatch.setattr("lossmith.tasks.retrieval.SCORES_AT_ONCE", at_once)
    problem, model, _ = setup()
    found = problem.evaluate(model, "test", TASK.metrics(tiny.settings("retrieval")))
    index, ranks = model.index(problem.documents), []
    assert len(index) == sum(tiny.ROWS.values())
    for q, grades in relevant(problem, "test").items():
        scores = (model.queries(problem.queries["test"][[q]]) @ index.T)[0]
        order = scores.argsort(descending=True, stable=True).tolist()
        ranks.append(min(order.index(d) for d, grade in grades.items() if grade > 0) + 1)
    expected = sum(1 / r if r <= 10 else 0.0 for r in ranks) / len(ranks)
    assert found["mrr@10"] == pytest.approx(expected)
    assert list(found) == ["ndcg@10", "mrr@10", "recall@10", "recall@100", "map"]


def test_separate_towers_begin_as_one_and_part():
    problem = tiny.retrieval()
    shared, separate = (
        GradientLearner(TASK, problem, "info_nce", tiny.settings("retrieval", towers=t), 0)
        for t in ("shared", "separate")
    )
    assert separate.parameters == 2 * shared.parameters
    ids = problem.documents
    assert torch.equal(shared.model.documents(ids), separate.model.documents(ids))
    assert torch.equal(separate.model.queries(ids), separate.model.documents(ids))
    separate.epoch()
    assert not torch.equal(separate.model.queries(ids), separate.model.documents(ids))


def test_vectors_have_unit_length_and_any_encoder_makes_them():
    for model in TASK.settings["model"].choices:
        problem, towers, _ = setup(model=model, filters=4)
        assert isinstance(towers, TwoTowers)
        lengths = towers.index(problem.documents).norm(dim=-1)
        torch.testing.assert_close(lengths, torch.ones_like(lengths))


# ---------------------------------------------------------------------------- BM25

TEXTS = ["The cat sat.", "a dog, a cat and a get_dog", "nothing here", "", "the the the end"]


@pytest.mark.parametrize(("k1", "b"), [(1.2, 0.75), (0.9, 0.4), (0.0, 0.0), (2.0, 1.0)])
def test_bm25_is_its_formula(k1, b):
    asked = ["the cat", "dog dog cat", "unknown words", ""]
    scores = BM25(TEXTS, k1=k1, b=b).scores(asked)
    documents = [terms(text) for text in TEXTS]
    mean = sum(map(len, documents)) / len(documents)
    for q, query in enumerate(asked):
        for d, document in enumerate(documents):
            expected, counts = 0.0, Counter(document)
            for word in terms(query):
                holding = sum(word in other for other in documents)
                idf = math.log(1 + (len(documents) - holding + 0.5) / (holding + 0.5))
                norm = k1 * (1 - b + b * len(document) / mean)
                if counts[word]:
                    expected += idf * counts[word] * (k1 + 1) / (counts[word] + norm)
            assert scores[q, d].item() == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(
    ("loss", "complaint"),
    [
        ("bm25(k2=1)", "bm25 has no knob 'k2'. Known: b, k1"),
        ("bm25(b=2)", r"b=2; expected a number in \[0, 1\]"),
        ("bm25(k1='high')", r"k1='high'; expected a number in \[0, inf\]"),
        ("info_nse", "Did you mean 'info_nce'"),
        ("cross_entropy", "takes logits.class or logits.distribution, which the retrieval task"),
    ],
)
def test_what_cannot_be_trained_is_refused(loss, complaint):
    with pytest.raises(ValueError, match=complaint):
        TASK.check(loss, TASK.resolve({}))


# ---------------------------------------------------------------------------- from a file


@pytest.fixture
def faq(tmp_path):
    rows = [f"how does item{i} work,item{i} works by part{i} of kind{i % 4}" for i in range(60)]
    path = tmp_path / "faq.csv"
    path.write_text("\n".join(["question,answer", *rows]))
    return str(path)


@pytest.mark.parametrize("loss", ["info_nce", "bm25"])
def test_what_shares_a_rare_word_is_found(faq, loss):
    outcome = run_job(Job("retrieval", faq, loss, 0, {"epochs": 2, "valid": 0.2}))
    assert outcome.scores["mrr@10"] > 0.9
    assert outcome.parameters > 0 or loss == "bm25"
    again = run_job(Job("retrieval", faq, loss, 0, {"epochs": 2, "valid": 0.2}))
    assert again.scores == outcome.scores


def test_the_description_says_what_was_read(faq):
    found = TASK.describe(faq, TASK.resolve({}))
    assert found.rows == {"train": 43, "valid": 5, "test": 12}
    assert any("60 documents are ranked" in note for note in found.notes)
    assert found.facts["documents"] == 60 and found.facts["pairs"] == 60


def test_the_printed_usage_of_bm25_says_what_it_is():
    assert TASK.usage("bm25(b=0.4)").startswith("# bm25(b=0.4) has no objective")
