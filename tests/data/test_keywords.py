"""Keywords: from a glossary, from a column, or mined."""

from __future__ import annotations

import pytest

from lossmith.data.errors import DataError
from lossmith.data.keywords import Term, add_keywords, mined, po_entries, read_glossary
from lossmith.data.parallel import ParallelData, ParallelPart

PO = """# a comment
msgid ""
msgstr "Language: fr\\n"

#: glossary.rst:1
msgid "list"
msgstr "liste"

#, fuzzy
msgid "tuple"
msgstr "uplet"

msgid "garbage "
"collection"
msgstr ""
"ramasse-\\"miettes\\""

msgid "callable"
msgstr "appelable (*callable*)"
msgid "A sentence about it."
msgstr "Une phrase."

msgid "not translated"
msgstr ""

msgid "one"
msgid_plural "many"
msgstr[0] "un"
msgstr[1] "plusieurs"

#~ msgid "old"
#~ msgstr "vieux"

msgid "``>>>``"
msgstr "``>>>``"
"""


def data(*pairs: tuple[str, str], keywords=None) -> ParallelData:
    sources, targets = (list(side) for side in zip(*pairs, strict=True))
    lists = keywords or [()] * len(pairs)
    return ParallelData("x", {"train": ParallelPart(sources, targets, lists)}, (), bool(keywords))


def asked(found: ParallelData) -> list[tuple[str, ...]]:
    return found.parts["train"].keywords


# ---------------------------------------------------------------------------- glossaries


def test_a_po_file_gives_its_translated_entries(write):
    assert dict(po_entries(write("g.po", PO))) == {
        "list": "liste",
        "garbage collection": 'ramasse-"miettes"',
        "callable": "appelable (*callable*)",
        "A sentence about it.": "Une phrase.",
        "``>>>``": "``>>>``",
    }


def test_the_terms_of_a_po_file_are_no_sentences_and_have_no_markup(write):
    terms = {term.source: term.target for term in read_glossary(write("g.po", PO))}
    assert terms == {
        "list": "liste", "garbage collection": 'ramasse-"miettes"', "callable": "appelable",
    }  # fmt: skip


def test_what_is_not_gettext_is_placed(write):
    with pytest.raises(DataError, match=r"g\.po:2: 'msgstr liste' is not gettext; expected msgid"):
        read_glossary(write("g.po", 'msgid "list"\nmsgstr liste\n'))


def test_a_table_of_terms_goes_by_names(write):
    table = write("g.csv", "target,source\nliste,list\nliste,list\n,blank\n")
    assert read_glossary(table) == [Term("list", "liste")]
    as_data = write("g.tsv", "en\tfr\nlist\tliste\n")
    assert read_glossary(as_data, source="en", target="fr") == [Term("list", "liste")]
    with pytest.raises(
        DataError, match=r"g\.tsv:1: no column for the source text among 'en', 'fr'"
    ):
        read_glossary(as_data)


GLOSSARY = [Term("argument", "argument"), Term("keyword argument", "argument nommé"),
            Term("C++", "C++"), Term("list", "liste")]  # fmt: skip


def test_a_term_is_asked_for_where_the_source_contains_it():
    found = add_keywords(
        data(
            ("A keyword argument in C++.", "Un argument nommé en C++."),
            ("Lists of arguments", "Des listes d'arguments"),
            ("List, list", "Une liste, liste"),
        ),
        GLOSSARY,
    )
    assert asked(found) == [("argument nommé", "C++"), (), ("liste",)]
    assert "the translations of 4 glossary terms" in found.notes[-1]


def test_what_the_reference_does_not_say_is_asked_for_only_if_wanted():
    pair = ("a list in C++", "un tableau en C++")
    found = add_keywords(data(pair), GLOSSARY)
    assert asked(found) == [("C++",)] and "1 more are not in the target" in found.notes[-1]
    assert set(asked(add_keywords(data(pair), GLOSSARY, "listed"))[0]) == {"C++", "liste"}


def test_no_keyword_anywhere_is_an_error():
    with pytest.raises(DataError, match="no pair has a keyword"):
        add_keywords(data(("nothing", "rien")), GLOSSARY)


# ---------------------------------------------------------------------------- column and mined


def test_a_column_of_the_data_is_taken_as_it_is():
    found = add_keywords(data(("a", "b c"), ("a", "d"), keywords=[("b", "x"), ()]), None)
    assert asked(found) == [("b",), ()]
    assert "as the data lists them; 1 in 1 of 2 pairs" in found.notes[-2]


def test_mined_keywords_are_rare_words_of_both_sides():
    common = [("the module os.path", "le module os.path")] * 150
    part = ParallelPart(
        *(
            list(side)
            for side in zip(
                *common, ("a re-use of X2 Foo", "un re-use de X2 Foo en foo"), strict=True
            )
        ),
        [()] * 151,
    )
    found = mined({"train": part, "test": part})
    # "module" is in 150 of 151 targets; "X2" has two letters; "foo" is not in the source.
    assert found["train"][:150] == [()] * 150
    assert found["train"][150] == ("re-use", "Foo") == found["test"][150]


def test_mining_counts_the_training_part_alone():
    train = ParallelPart(["a b"] * 300, ["a b"] * 300, [()] * 300)
    test = ParallelPart(["Foo"] * 9, ["Foo"] * 9, [()] * 9)
    assert mined({"train": train, "test": test})["test"] == [("Foo",)] * 9
