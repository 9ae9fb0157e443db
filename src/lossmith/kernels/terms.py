"""Where terms stand in a text: exact, escaped, and no character counted for two terms."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache

Span = tuple[int, int]


def find_terms(text: str, terms: Sequence[str]) -> list[list[Span]]:
    """The places of each term in the text, in order of the text.

    A term is found as it is written (``C++``, ``(COVID)``), not inside a longer word, with any
    white space where it has some. A term without capitals is found in any case (``argument`` at the
    start of a sentence); one with capitals only as it is (``PEP``). Longer terms go first and
    what they cover is taken: the ``argument`` of ``keyword argument`` is not one more ``argument``.
    A term that is listed twice gets every second place.

    >>> find_terms("A keyword argument, an Argument", ["argument", "keyword argument"])
    [[(23, 31)], [(2, 18)]]
    >>> find_terms("C++ and Objective-C", ["C", "C++"])
    [[(18, 19)], [(0, 3)]]
    """
    found: list[list[Span]] = [[] for _ in terms]
    if not text:
        return found
    places: dict[str, list[int]] = {}
    for i, term in enumerate(terms):
        places.setdefault(term, []).append(i)
    taken = bytearray(len(text))
    for term in sorted(places, key=lambda term: (-len(term), term)):
        own = places[term]
        free = [span for span in _matches(text, term) if not any(taken[slice(*span)])]
        for n, (start, end) in enumerate(free):
            taken[start:end] = b"\1" * (end - start)
            found[own[n % len(own)]].append((start, end))
    return found


def _matches(text: str, term: str) -> list[Span]:
    pattern = _pattern(term)
    return [] if pattern is None else [match.span() for match in pattern.finditer(text)]


@lru_cache(maxsize=65_536)
def _pattern(term: str) -> re.Pattern[str] | None:
    words = term.split()
    if not words:
        return None
    inner = r"\s+".join(map(re.escape, words))
    # A boundary stands only beside a letter or digit: "C++" may be followed by anything.
    before = r"(?<!\w)" if re.match(r"\w", words[0]) else ""
    after = r"(?!\w)" if re.search(r"\w$", words[-1]) else ""
    return re.compile(before + inner + after, 0 if term != term.lower() else re.IGNORECASE)
