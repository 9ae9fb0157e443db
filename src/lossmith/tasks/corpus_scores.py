"""BLEU and chrF as they are published: computed by sacrebleu, with the signature that says how."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.chrf import CHRF


@cache
def _scorer(name: str) -> BLEU | CHRF:
    return BLEU() if name == "bleu" else CHRF()


def corpus_score(name: str, texts: Sequence[str], references: Sequence[str]) -> float:
    """ "bleu" or "chrf" of the texts against one reference each, 0 to 100.

    >>> corpus_score("chrf", ["a list of names"], ["a list of names"])
    100.0
    """
    return float(_scorer(name).corpus_score(list(texts), [list(references)]).score)


def signature(name: str) -> str:
    """What it takes to get the same score again.

    >>> signature("bleu").split("|")[:4]
    ['bleu:nrefs:1', 'case:mixed', 'eff:no', 'tok:13a']
    """
    # The number of references is known after the first score.
    corpus_score(name, ["a b c d"], ["a b c d"])
    return f"{name}:{_scorer(name).get_signature()}"
