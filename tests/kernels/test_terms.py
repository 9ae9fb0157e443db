"""Where terms stand: against a plain search by hand."""

from __future__ import annotations

import pytest

from lossmith.kernels.terms import find_terms


def said(text: str, *terms: str) -> list[list[str]]:
    return [[text[a:b] for a, b in places] for places in find_terms(text, terms)]


@pytest.mark.parametrize(
    ("text", "term", "count"),
    [
        ("a list of lists", "list", 1),
        ("list, (list) and list.", "list", 3),
        ("C++ is not C+", "C++", 1),
        ("C++, C++.", "C++", 2),
        ("the virus (COVID) spread", "(COVID)", 1),
        ("the virus COVID spread", "(COVID)", 0),
        ("a.b axb", "a.b", 1),
        (":func:`getattr` here", "getattr", 1),
        ("my_list", "list", 0),
        ("l'itérateur", "itérateur", 1),
        ("itérateurs", "itérateur", 0),
        ("garbage\n  collection", "garbage collection", 1),
        ("Argument and ARGUMENT", "argument", 2),
        ("pep and Pep and PEP", "PEP", 1),
        ("", "x", 0),
        ("anything", " ", 0),
        ("...", "...", 1),
    ],
)
def test_a_term_is_found_as_it_is_written(text, term, count):
    assert len(said(text, term)[0]) == count


def test_no_character_counts_for_two_terms():
    text = "a keyword argument and an argument"
    assert said(text, "argument", "keyword argument") == [["argument"], ["keyword argument"]]
    assert find_terms(text, ["argument"]) == [[(10, 18), (26, 34)]]
    assert find_terms(text, ["keyword argument", "argument"])[1] == [(26, 34)]


def test_one_place_does_not_serve_a_term_that_is_listed_twice():
    assert [len(places) for places in find_terms("one x", ["x", "x"])] == [1, 0]
    assert [len(places) for places in find_terms("x x x", ["x", "x"])] == [2, 1]


def test_places_are_in_the_order_of_the_text_and_of_the_terms():
    text = "b a b"
    assert find_terms(text, ["a", "b", "c"]) == [[(2, 3)], [(0, 1), (4, 5)], []]
