"""Parallel text: its layouts, and errors that name the file and the line."""

from __future__ import annotations

import gzip
import json
import random
from pathlib import Path

import pytest

from lossmith.data.errors import DataError
from lossmith.data.parallel import (
    ParallelData,
    ParallelPart,
    limit_words,
    read_parallel,
    split_parallel,
)

EN, FR = "a list\nthe <b>tuple</b>\nno\n", "une liste\nle <b>tuple</b>\nnon\n"


def lines(*texts: str) -> str:
    return "".join(f"{text}\n" for text in texts)


def rows(data: ParallelData, part: str = "train") -> list[tuple[str, str]]:
    return list(zip(data.parts[part].sources, data.parts[part].targets, strict=True))


WANTED = [("a list", "une liste"), ("the <b>tuple</b>", "le <b>tuple</b>"), ("no", "non")]


# ---------------------------------------------------------------------------- two files of lines


def test_two_files_are_read_line_by_line_with_their_markup(write):
    data = read_parallel(f"{write('x.en', EN)},{write('x.fr', FR)}")
    assert rows(data) == WANTED and not data.has_keywords
    assert data.notes == ("Each line of x.en with that of x.fr.",)


def test_a_packed_file_and_windows_line_ends_read_the_same(write, tmp_path):
    (tmp_path / "x.en.gz").write_bytes(gzip.compress(EN.encode()))
    other = write("x.fr", FR.replace("\n", "\r\n").removesuffix("\r\n"))
    assert rows(read_parallel(f"{tmp_path / 'x.en.gz'},{other}")) == WANTED


def test_only_a_line_feed_ends_a_line(write):
    data = read_parallel(
        f"{write('x.en', 'a b' + chr(10))},{write('x.fr', 'a' + chr(0x2028) + 'b')}"
    )
    assert rows(data) == [("a b", "a b")]


@pytest.mark.parametrize(("short", "long"), [("en", "fr"), ("fr", "en")])
def test_unequal_line_counts_name_the_first_line_without_a_partner(write, short, long):
    one, two = write(f"x.{short}", "1\n2\n"), write(f"x.{long}", "1\n2\n3\n4\n")
    files = {short: one, long: two}
    with pytest.raises(DataError, match=rf"x\.{short} ends after line 2 of 4") as caught:
        read_parallel(f"{files['en']},{files['fr']}")
    assert (caught.value.path, caught.value.line, caught.value.value) == (str(two), 3, "3")


def test_unequal_line_counts_point_at_where_the_files_may_have_come_apart(write):
    with pytest.raises(DataError, match="may come apart at line 2, blank in one of them"):
        read_parallel(f"{write('x.en', lines('1', '', '3'))},{write('x.fr', lines(*'1234'))}")


def test_pairs_blank_on_one_side_are_left_out_and_said(write):
    data = read_parallel(f"{write('x.en', lines('a', '', 'c'))},{write('x.fr', lines(*'abc'))}")
    assert rows(data) == [("a", "a"), ("c", "c")]
    assert "x.en, line 2: a pair is blank on one side; left out." in data.notes


def test_one_file_alone_is_told_how_two_are_given(write):
    with pytest.raises(DataError, match=r"For two files give both, the source first: x.en,x.OTHER"):
        read_parallel(write("x.en", EN))


# ---------------------------------------------------------------------------- folders


def folder(write, *names: str) -> Path:
    for name in names:
        text = EN if name.endswith(("en", "src")) else FR
        path = write(f"set/{name}", text)
    return path.parent


def test_a_folder_has_parts_and_its_endings_are_named(write):
    path = folder(
        write, "train.en", "train.fr", "train.de", "val.en", "val.fr", "test.en", "test.fr"
    )
    data = read_parallel(path, source="en", target="fr")
    assert list(data.parts) == ["train", "valid", "test"] and rows(data, "test") == WANTED


def test_endings_that_say_which_is_which_are_found(write):
    data = read_parallel(folder(write, "train.src", "train.tgt"))
    assert rows(data) == WANTED
    assert "The source text is in the files that end in .src." in data.notes


def test_endings_that_say_nothing_have_to_be_given(write):
    path = folder(write, "train.en", "train.fr")
    with pytest.raises(
        DataError, match=r"which files hold the source text\? .* 'en', 'fr'.*--source en"
    ):
        read_parallel(path)
    with pytest.raises(DataError, match=r"no file ends in \.frr; .*Did you mean 'fr'"):
        read_parallel(path, source="en", target="frr")


def test_of_several_test_sets_one_is_read_and_said(write):
    names = [f"{stem}.{end}" for stem in ("train", "test_1_a", "test_2_b") for end in ("en", "fr")]
    path = folder(write, *names)
    data = read_parallel(path, source="en", target="fr")
    assert any("the first is read (setting test_set)" in note for note in data.notes)
    assert read_parallel(path, source="en", target="fr", test_set="test_2_b").parts.keys() == {
        "train", "test",
    }  # fmt: skip
    with pytest.raises(DataError, match=r"no test set 'test_2'; .*Did you mean 'test_2_b'"):
        read_parallel(path, source="en", target="fr", test_set="test_2")


def test_two_train_parts_are_an_error(write):
    path = folder(write, "train_1.en", "train_1.fr", "train_2.en", "train_2.fr")
    with pytest.raises(DataError, match="'train_1', 'train_2' could each be the train part"):
        read_parallel(path, source="en", target="fr")


def test_a_folder_without_parts_says_what_it_holds(write):
    with pytest.raises(DataError, match=r"no file for the train part; it holds 'notes.md'"):
        read_parallel(write("set/notes.md", "x").parent)


# ---------------------------------------------------------------------------- tables


def test_a_table_goes_by_the_names_of_its_columns(write):
    data = read_parallel(write("x.tsv", "target\tid\tsource\nune liste\t1\ta list\n"))
    assert rows(data) == [("a list", "une liste")]
    assert "The source text: column 'source', by its name." in data.notes
    assert "Not used: column 'id'." in data.notes


def test_columns_are_named_by_hand_or_by_the_name_of_the_file(write):
    line = json.dumps({"en": "a list", "fr": "une liste", "file": "x"}) + "\n"
    named = read_parallel(write("x.jsonl", line), source="fr", target="en")
    assert rows(named) == [("une liste", "a list")]
    by_file = read_parallel(write("en-fr.jsonl", line))
    assert rows(by_file) == [("a list", "une liste")]
    assert "From 'en' to 'fr', as the file is called." in by_file.notes
    with pytest.raises(DataError, match=r"x\.jsonl:1: no column for the source text among 'en'"):
        read_parallel(write("x.jsonl", line))


def test_a_column_of_keywords_is_a_list_or_text_with_marks(write):
    lists = write("x.jsonl", json.dumps({"source": "a", "target": "b", "keywords": ["b", "c d"]}))
    marks = write("x.csv", "source,target,keywords\na,b,b;c d\na,b,\n")
    assert read_parallel(lists).parts["train"].keywords == [("b", "c d")]
    data = read_parallel(marks)
    assert data.has_keywords and data.parts["train"].keywords == [("b", "c d"), ()]
    named = write("y.csv", "source,target,must\na,b,b|b\n")
    assert read_parallel(named, keywords="must").parts["train"].keywords == [("b",)]


def test_numbers_for_texts_name_the_column(write):
    with pytest.raises(DataError, match=r"x\.jsonl:1, column 'target': holds values of type Int64"):
        read_parallel(write("x.jsonl", '{"source": "a", "target": 3}\n'))


def test_a_part_without_the_column_is_named(write):
    write("set/train.csv", "source,target\na,b\n")
    path = write("set/test.csv", "source,goal\na,b\n").parent
    with pytest.raises(DataError, match=r"test\.csv, column 'target': no column 'target'"):
        read_parallel(path)


# ---------------------------------------------------------------------------- the split


def made(rows: int = 200) -> ParallelData:
    draw = random.Random(0)
    sources = [f"text {draw.randint(0, 120)}" for _ in range(rows)]
    part = ParallelPart(sources, [f"{s} {i}" for i, s in enumerate(sources)], [()] * rows)
    return ParallelData("made", {"train": part}, (), False)


def test_copies_of_a_source_stay_on_one_side_and_shares_are_kept():
    data = split_parallel(made(), test=0.25, valid=0.1)
    sides = {name: set(part.sources) for name, part in data.parts.items()}
    assert not sides["train"] & sides["test"] and not sides["train"] & sides["valid"]
    assert 40 <= len(data.parts["test"]) <= 50
    assert sum(map(len, data.parts.values())) == 200


def test_the_split_goes_by_its_seed_and_the_test_part_does_not_feel_the_valid_one():
    one, two = split_parallel(made(), valid=0.1), split_parallel(made(), valid=0)
    assert one.parts["test"] == two.parts["test"] and "valid" not in two.parts
    assert split_parallel(made(), seed=1).fingerprint != one.fingerprint
    assert split_parallel(made()).fingerprint == one.fingerprint


def test_a_subset_leaves_the_other_parts_alone():
    data = split_parallel(made(), subset=30)
    assert len(data.parts["train"]) == 30 and "30 of " in data.notes[-1]
    assert data.parts["test"] == split_parallel(made()).parts["test"]


def test_too_few_pairs_to_split_say_so():
    with pytest.raises(DataError, match="2 pairs are too few to hold out 20 % for test"):
        split_parallel(made(2))


def test_long_pairs_are_left_out_of_every_part_and_counted():
    part = ParallelPart(["a b", "a b c", "a"], ["x", "x", "x y z"], [(), (), ()])
    data = limit_words(ParallelData("made", {"train": part, "test": part}, (), False), 2)
    assert [p.sources for p in data.parts.values()] == [["a b"], ["a b"]]
    assert "4 of 6 pairs are left out" in data.notes[-1]
    with pytest.raises(DataError, match="every pair of the train part has more than 1 words"):
        limit_words(ParallelData("made", {"train": part.rows([1])}, (), False), 1)


def test_the_fingerprint_holds_the_keywords():
    part = ParallelPart(["a"], ["b"], [("b",)])
    other = ParallelPart(["a"], ["b"], [()])
    prints = {ParallelData("x", {"train": p}, (), True).fingerprint for p in (part, other)}
    assert len(prints) == 2
