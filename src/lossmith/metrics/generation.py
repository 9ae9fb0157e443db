"""Metrics of generated text: are the keywords there, and is the rest still good?

All take one :class:`Outputs`, the texts of a whole part. Look at keyword recall and at BLEU or chrF
together: a model that is pushed hard enough says its keywords and little else.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lossmith.core.metric import metric
from lossmith.kernels.terms import find_terms


@dataclass(frozen=True)
class Outputs:
    """What a model said on a part, as plain text, beside what it was asked for.

    ``corpus_score`` computes "bleu" or "chrf" of texts against references (sacrebleu, supplied by
    whoever evaluates: this layer needs torch alone). ``token_cost`` is the mean of -log p over the
    tokens of the references, ends of sentences included.
    """

    texts: Sequence[str]
    references: Sequence[str]
    keywords: Sequence[Sequence[str]]
    token_cost: float = math.nan
    corpus_score: Callable[[str, Sequence[str], Sequence[str]], float] | None = None

    def __post_init__(self) -> None:
        sizes = (len(self.texts), len(self.references), len(self.keywords))
        if len(set(sizes)) > 1:
            raise ValueError(
                "Outputs: {} texts, {} references and {} lists of keywords; expected one of each "
                "per example.".format(*sizes)
            )

    def score(self, name: str) -> Tensor:
        """A score of the whole corpus by the scorer that came with the texts."""
        if self.corpus_score is None:
            raise ValueError(f"{name} needs a scorer: Outputs(..., corpus_score=...).")
        value = self.corpus_score(name, self.texts, self.references) if self.texts else math.nan
        return _number(value)


@metric(family="generation", higher_is_better=True)
def keyword_recall(outputs: Outputs) -> Tensor:
    """Share of the required keywords that the texts say, exactly as written.

    Formula: ``sum_i #{k in K_i: k occurs in text_i} / sum_i |K_i|``.

    A keyword occurs where :func:`lossmith.kernels.terms.find_terms` finds it: escaped, not inside
    a longer word, and no stretch of text for two keywords. No keywords at all: NaN.

    Averages over: required keywords, all texts together.

    >>> outputs = Outputs(["the C++ list"], ["a C++ list"], [["C++", "tuple"]])
    >>> keyword_recall(outputs)
    tensor(0.5000, dtype=torch.float64)
    """
    found = [bool(spans) for spans in _occurrences(outputs.texts, outputs.keywords)]
    return _mean(found)


@metric(family="generation", higher_is_better=True)
def all_keywords(outputs: Outputs) -> Tensor:
    """Share of the texts with keywords that say every one of theirs.

    Formula: ``mean over i with |K_i| > 0 of [every k in K_i occurs in text_i]``.

    Occurring is as in :func:`keyword_recall`. No text with keywords: NaN.

    Averages over: texts of which a keyword is required.

    >>> all_keywords(Outputs(["a b", "a"], ["", ""], [["a", "b"], ["a", "b"]]))
    tensor(0.5000, dtype=torch.float64)
    """
    return _mean(
        [
            all(find_terms(text, terms))
            for text, terms in zip(outputs.texts, outputs.keywords, strict=True)
            if terms
        ]
    )


@metric(family="generation", higher_is_better=False)
def duplicates(outputs: Outputs) -> Tensor:
    """Keywords said more often than the reference says them, for each text with keywords.

    Formula: ``mean over i with |K_i| > 0 of sum_k max(0, n_k(text_i) - max(1, n_k(reference_i)))``,
    where n_k counts the places of k as in :func:`keyword_recall`.

    What a presence term costs when it is pushed too far. No text with keywords: NaN.

    Averages over: texts of which a keyword is required.

    >>> duplicates(Outputs(["list list list"], ["a list"], [["list"]]))  # 3 - 1
    tensor(2., dtype=torch.float64)
    """
    extra = []
    for text, reference, terms in zip(
        outputs.texts, outputs.references, outputs.keywords, strict=True
    ):
        if terms:
            pairs = zip(find_terms(text, terms), find_terms(reference, terms), strict=True)
            extra.append(sum(max(0, len(said) - max(1, len(wanted))) for said, wanted in pairs))
    return _mean(extra)


@metric(family="generation", higher_is_better=True)
def bleu(outputs: Outputs) -> Tensor:
    """Precision of the n-grams of one to four words, with a penalty on short output; 0 to 100.

    Formula: ``100 min(1, exp(1 - r/c)) exp(1/4 sum_n log precision_n)``, for c words of output and
    r of reference, the counts summed over the corpus (Papineni et al. 2002; Post 2018).

    Averages over: nothing; it is one number for the corpus. No texts: NaN.

    >>> bleu(Outputs(["a"], ["a"], [[]], corpus_score=lambda name, texts, references: 100.0))
    tensor(100., dtype=torch.float64)
    """
    return outputs.score("bleu")


@metric(family="generation", higher_is_better=True)
def chrf(outputs: Outputs) -> Tensor:
    """F-score of the n-grams of one to six characters, recall weighing most; 0 to 100.

    Formula: ``100 (1 + b^2) P R / (b^2 P + R)``, b = 2, for precision P and recall R averaged over
    the orders, the counts summed over the corpus (Popovic 2015; Post 2018).

    Averages over: nothing; it is one number for the corpus. No texts: NaN.

    >>> chrf(Outputs(["a"], ["a"], [[]], corpus_score=lambda name, texts, references: 100.0))
    tensor(100., dtype=torch.float64)
    """
    return outputs.score("chrf")


@metric(family="generation", higher_is_better=False)
def perplexity(outputs: Outputs) -> Tensor:
    """How many tokens the model hesitates between, on average, when it is told the reference.

    Formula: ``exp(mean of -log p(token))`` over the tokens of the references, the end of each
    included. It depends on what a token is: compare within one tokenizer.

    Averages over: tokens.

    >>> perplexity(Outputs([], [], [], token_cost=0.0))
    tensor(1., dtype=torch.float64)
    """
    return _number(outputs.token_cost).exp()


def _occurrences(
    texts: Sequence[str], keywords: Sequence[Sequence[str]]
) -> list[list[tuple[int, int]]]:
    """The places of every keyword of every text, text by text."""
    return [
        spans
        for text, terms in zip(texts, keywords, strict=True)
        for spans in find_terms(text, terms)
    ]


def _mean(values: Sequence[float]) -> Tensor:
    return torch.tensor(values, dtype=torch.float64).mean()


def _number(value: float) -> Tensor:
    return torch.tensor(value, dtype=torch.float64)
