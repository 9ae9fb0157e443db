"""The words of the house, free of torch so that the command line starts at once."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

FAMILIES = (
    "classification",
    "tagging",
    "regression",
    "generation",
    "retrieval",
    "ranking",
    "recommendation",
)


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """A suggestion to append to an error about an unknown name, or the list of known ones.

    >>> did_you_mean("margn", ["margin", "weighting"])
    " Did you mean 'margin'?"
    >>> did_you_mean("x", ["margin", "weighting"])
    ' Known: margin, weighting.'
    """
    known = sorted(known)
    close = difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    if close:
        return f" Did you mean {close[0]!r}?"
    return f" Known: {', '.join(known)}." if known else ""
