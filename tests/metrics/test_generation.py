"""Metrics of generated text against plain loops, and against sacrebleu."""

from __future__ import annotations

import math
import random

import pytest
import torch

from lossmith.core.metric import find_metric
from lossmith.metrics.generation import (
    Outputs,
    all_keywords,
    bleu,
    chrf,
    duplicates,
    keyword_recall,
    perplexity,
)

WORDS = ["list", "tuple", "C++", "(COVID)", "naïve", "os.path"]


def outputs(seed: int = 0, rows: int = 40) -> Outputs:
    """Texts of single words with a space around each, so that a loop can count them."""
    draw = random.Random(seed)

    def text() -> str:
        return " ".join(draw.choices([*WORDS, "the", "of"], k=draw.randint(0, 9)))

    texts, references = [text() for _ in range(rows)], [text() for _ in range(rows)]
    keywords = [draw.sample(WORDS, draw.randint(0, 3)) for _ in range(rows)]
    return Outputs(texts, references, keywords)


def plain_counts(text: str, term: str) -> int:
    return sum(word == term for word in text.split())


@pytest.mark.parametrize("seed", range(3))
def test_keyword_metrics_equal_plain_loops(seed):
    given = outputs(seed)
    found, required, whole, extra = 0, 0, [], []
    for text, reference, terms in zip(given.texts, given.references, given.keywords, strict=True):
        here = [plain_counts(text, term) for term in terms]
        found += sum(n > 0 for n in here)
        required += len(terms)
        if terms:
            whole.append(all(here))
            wanted = [max(1, plain_counts(reference, term)) for term in terms]
            extra.append(sum(max(0, n - w) for n, w in zip(here, wanted, strict=True)))
    assert float(keyword_recall(given)) == pytest.approx(found / required, abs=1e-12)
    assert float(all_keywords(given)) == pytest.approx(sum(whole) / len(whole), abs=1e-12)
    assert float(duplicates(given)) == pytest.approx(sum(extra) / len(extra), abs=1e-12)


def test_a_longer_keyword_does_not_stand_in_for_the_shorter_one():
    terms = ["argument", "keyword argument"]
    once = Outputs(["a keyword argument"], [""], [terms])
    both = Outputs(["a keyword argument, an argument"], [""], [terms])
    assert (float(keyword_recall(once)), float(all_keywords(once))) == (0.5, 0.0)
    assert (float(keyword_recall(both)), float(all_keywords(both))) == (1.0, 1.0)


def test_what_the_reference_repeats_is_no_duplicate():
    given = Outputs(["x x x", "x x"], ["x x", "y"], [["x"], ["x"]])
    assert duplicates(given).item() == ((3 - 2) + (2 - 1)) / 2


def test_without_keywords_there_is_no_number():
    given = Outputs(["a"], ["a"], [[]])
    for metric in (keyword_recall, all_keywords, duplicates):
        assert metric(given).isnan()


def test_perplexity_is_that_of_the_mean_token():
    assert perplexity(Outputs([], [], [], token_cost=math.log(7.0))).item() == pytest.approx(7.0)


def test_bleu_and_chrf_are_those_of_sacrebleu():
    sacrebleu = pytest.importorskip("sacrebleu")
    from lossmith.tasks.corpus_scores import corpus_score, signature

    given = outputs(5)
    scored = Outputs(given.texts, given.references, given.keywords, corpus_score=corpus_score)
    wanted = sacrebleu.corpus_bleu(list(given.texts), [list(given.references)])
    assert bleu(scored).item() == wanted.score > 0
    assert chrf(scored).item() == sacrebleu.corpus_chrf(given.texts, [given.references]).score > 0
    assert f"version:{sacrebleu.__version__}" in signature("bleu") and "nc:6" in signature("chrf")


def test_a_score_without_its_scorer_says_what_to_give():
    with pytest.raises(ValueError, match=r"bleu needs a scorer: Outputs\(..., corpus_score="):
        bleu(Outputs(["a"], ["a"], [[]]))
    score = Outputs([], [], [], corpus_score=lambda *_: 0.0)
    assert chrf(score).isnan()


def test_lists_of_unequal_length_are_refused():
    with pytest.raises(ValueError, match="2 texts, 1 references and 1 lists"):
        Outputs(["a", "b"], ["a"], [[]])


def test_directions_are_data():
    for name, higher in (("keyword_recall", True), ("duplicates", False), ("perplexity", False)):
        assert find_metric(name, "generation").higher_is_better is higher
    assert keyword_recall(outputs()).dtype == torch.float64
