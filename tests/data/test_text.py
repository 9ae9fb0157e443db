from __future__ import annotations

import gzip

import numpy as np
import polars as pl
import pytest

from lossmith.data.errors import DataError
from lossmith.data.text import TextData, TextPart, make_text, read_text, split_text


def raised(path, family: str, **roles: str) -> DataError:
    with pytest.raises(DataError) as caught:
        read_text(path, family, **roles)
    return caught.value


# ---------------------------------------------------------------------------- roles


def test_roles_go_by_name_whatever_the_order(write) -> None:
    one = read_text(write("one.csv", "text,label\nx,a\ny,b\n"), "classification")
    two = read_text(write("two.csv", "label,text\na,x\nb,y\n"), "classification")
    assert one.parts["train"].texts == two.parts["train"].texts == ["x", "y"]
    assert one.fingerprint == two.fingerprint


def test_what_was_guessed_and_what_is_unused_is_said(write) -> None:
    data = read_text(write("a.csv", "id,Review,sentiment\n7,x,a\n8,y,b\n"), "classification")
    assert "The text is column 'Review', by its name." in data.notes
    assert "The label is column 'sentiment', by its name." in data.notes
    assert "Not used: column 'id'." in data.notes


def test_named_roles_win_and_are_no_guess(write) -> None:
    path = write("a.csv", "text,title,label,kind\nx,t,1,a\ny,u,2,b\n")
    data = read_text(path, "classification", text="title", label="kind")
    assert data.parts["train"].texts == ["t", "u"]
    assert data.classes == ("a", "b")
    assert not any("by its name" in note for note in data.notes)


@pytest.mark.parametrize(
    ("header", "roles", "said"),
    [
        ("txt,label", {}, "If 'txt' is the text, say so: --text txt"),
        ("foo,label", {}, "put a line above it"),
        ("title,body,label", {}, "could each be the text"),
        ("text,label", {"text": "txt"}, "Did you mean 'text'?"),
        ("text,labl", {}, "--label labl"),
    ],
)
def test_a_role_without_its_column_says_what_to_type(header, roles, said, write) -> None:
    row = ",".join("xyz"[: header.count(",") + 1])
    error = raised(write("a.csv", f"{header}\n{row}\n"), "classification", **roles)
    assert error.line == 1 and said in str(error)


def test_a_file_without_header_is_not_read_as_if_it_had_one(write) -> None:
    path = write("train.tsv", "My favourite food.\t27\teebbqej\nOther\t2\tx\n")
    assert "put a line above it" in str(raised(path, "tagging"))


def test_other_families_have_no_texts_with_labels(write) -> None:
    with pytest.raises(ValueError, match="'ranking'"):
        read_text(write("a.csv", "text,label\nx,1\n"), "ranking")


# ---------------------------------------------------------------------------- classification


def test_integer_classes_are_ordered_as_numbers(write) -> None:
    content = "text,label\na,10\nb,9\nc,9\n"
    data = read_text(write("a.csv", content), "classification")
    assert data.classes == ("9", "10")
    assert data.parts["train"].labels.tolist() == [1, 0, 0]
    assert data.parts["train"].labels.dtype == np.int64


def test_floats_that_are_whole_are_the_classes_they_mean(tmp_path) -> None:
    path = tmp_path / "a.parquet"
    pl.DataFrame({"text": ["a", "b"], "label": [1.0, 0.0]}).write_parquet(path)
    assert read_text(path, "classification").classes == ("0", "1")


def test_a_folder_gives_its_parts(write) -> None:
    write("set/train.jsonl", '{"text": "a", "label": "x"}\n{"text": "b", "label": "y"}\n')
    write("set/my-dev.csv", "label,text\ny,c\n")
    test = write("set/test.tsv", "text\tlabel\nd\tx\n")
    (test.parent / "test.tsv.gz").write_bytes(gzip.compress(test.read_bytes()))
    test.unlink()
    write("set/README.md", "about")
    data = read_text(test.parent, "classification")
    assert list(data.parts) == ["train", "valid", "test"]
    assert data.parts["valid"].labels.tolist() == [1]
    assert data.parts["test"].texts == ["d"]


def test_a_folder_without_train_says_what_it_holds(write) -> None:
    folder = write("set/test.csv", "text,label\na,1\n").parent
    write("set/notes.md", "x")
    assert "found 'test.csv'" in str(raised(folder, "classification"))
    (folder / "test.csv").rename(folder / "all.csv")
    error = str(raised(folder, "classification"))
    assert "holds 'all.csv', 'notes.md'" in error and "all.csv." in error.split("Give")[1]


def test_two_files_for_a_part_are_not_chosen_between(write) -> None:
    folder = write("set/en-train.csv", "text,label\na,1\n").parent
    write("set/de-train.csv", "text,label\na,1\n")
    assert "'de-train.csv', 'en-train.csv'" in str(raised(folder, "classification"))


def test_a_label_that_training_never_shows_is_placed(write) -> None:
    folder = write("set/train.csv", "text,label\na,spam\nb,ham\n").parent
    write("set/test.csv", "text,label\nc,ham\n\nd,sapm\n")
    error = raised(folder, "classification")
    assert (error.line, error.column, error.value) == (4, "label", "sapm")
    assert error.path is not None and error.path.endswith("test.csv")
    assert "one of 'ham', 'spam'" in str(error)


def test_a_test_file_without_labels_cannot_be_scored(write) -> None:
    folder = write("set/train.csv", "text,label\na,1\nb,2\n").parent
    write("set/test.csv", "text\nc\n")
    assert "leave this file out" in str(raised(folder, "classification"))


@pytest.mark.parametrize(
    ("content", "line", "said"),
    [
        ("text,label\na,1\nb,\nc,2\n", 3, "the label is blank"),
        ("text,label\na,1\nb, \nc,2\n", 3, "the label is blank"),
        ("text,label\na,1\nb,1\n", None, "'1' in all 2 rows"),
        ("text,label\n" + "".join(f"t,{i}\n" for i in range(30)), None, "30 different labels"),
    ],
)
def test_labels_that_make_no_classes_are_named(content, line, said, write) -> None:
    error = raised(write("a.csv", content), "classification")
    assert (error.line, error.column) == (line, "label")
    assert said in str(error)


def test_lists_are_tagging(write) -> None:
    path = write("a.jsonl", '{"text": "a", "label": ["x"]}\n{"text": "b", "label": []}\n')
    assert "family 'tagging'" in str(raised(path, "classification"))


def test_blank_texts_are_kept_and_said(write) -> None:
    data = read_text(write("a.csv", "text,label\na,1\n,2\n"), "classification")
    assert data.parts["train"].texts == ["a", ""]
    assert any("1 text is blank (the first in line 3)" in note for note in data.notes)


def test_a_text_column_must_hold_texts(write) -> None:
    path = write("a.jsonl", '{"text": 1, "label": "a"}\n{"text": 2, "label": "b"}\n')
    assert "expected texts" in str(raised(path, "classification"))


def test_a_parquet_row_is_placed_by_its_number(tmp_path) -> None:
    path = tmp_path / "a.parquet"
    pl.DataFrame({"text": ["a", "b"], "label": ["x", None]}).write_parquet(path)
    error = raised(path, "classification")
    assert (error.line, error.row) == (None, 2)
    assert "a.parquet, row 2, column 'label'" in str(error)


# ---------------------------------------------------------------------------- tagging

EXPECTED = [[1.0, 1.0], [0.0, 1.0], [0.0, 0.0]]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.jsonl", '{"text":"a","tags":["x","y"]}\n{"text":"b","tags":["y"]}\n'
                    '{"text":"c","tags":[]}\n'),
        ("a.tsv", "text\ttags\na\t['x', 'y']\nb\t['y']\nc\t[]\n"),
        ("a.csv", 'text,tags\na,"[""x"", ""y""]"\nb,"[""y""]"\nc,[]\n'),
        ("a.csv", "text,tags\na,x|y\nb,y\nc,[]\n"),
        ("a.csv", "text,tags\na,x; y\nb,y\nc,[]\n"),
        ("a.csv", 'text,tags\na,"x,y"\nb,y\nc,[]\n'),
        ("a.csv", "text,x,y\na,1,1\nb,0,1\nc,0,0\n"),
        ("a.csv", "text,x,y\na,1.0,1.0\nb,0.0,True\nc,false,0\n"),
    ],
)  # fmt: skip
def test_every_way_to_write_tags_gives_the_same_cells(name, content, write) -> None:
    data = read_text(write(name, content), "tagging")
    assert data.classes == ("x", "y")
    assert data.parts["train"].labels.tolist() == EXPECTED
    assert data.parts["train"].labels.dtype == np.float32


def test_blank_and_minus_one_and_nan_are_missing(write) -> None:
    data = read_text(write("a.csv", "text,x,y\na,1,\nb,-1,0\nc,NaN,null\n"), "tagging")
    assert data.parts["train"].labels.tolist() == [[1, -1], [-1, 0], [-1, -1]]
    path = write("a.jsonl", '{"text":"a","x":1,"y":null}\n{"text":"b","x":NaN,"y":0}\n')
    assert read_text(path, "tagging").parts["train"].labels.tolist() == [[1, -1], [-1, 0]]


def test_a_blank_list_is_missing_and_an_empty_one_is_not(write) -> None:
    data = read_text(write("a.csv", "text,tags\na,x|y\nb,\nc,[]\n"), "tagging")
    assert data.parts["train"].labels.tolist() == [[1, 1], [-1, -1], [0, 0]]
    assert any("1 rows are blank in 'tags'" in note for note in data.notes)


def test_integer_tags_are_ordered_as_numbers(write) -> None:
    data = read_text(write("a.tsv", "text\tlabels\na\t27\nb\t4,27\n"), "tagging")
    assert data.classes == ("4", "27")
    assert data.parts["train"].labels.tolist() == [[0, 1], [1, 1]]


def test_label_columns_can_be_named(write) -> None:
    path = write("a.csv", "text,x,y,z\na,1,0,1\nb,0,1,1\n")
    assert read_text(path, "tagging").classes == ("x", "y", "z")
    assert read_text(path, "tagging", label="z,x").classes == ("z", "x")
    assert read_text(path, "tagging", label="y").parts["train"].labels.tolist() == [[0], [1]]


def test_a_column_that_almost_holds_labels_is_an_error_not_left_out(write) -> None:
    rows = "".join(f"t{i},1,0\n" for i in range(30))
    error = raised(write("a.csv", f"text,x,y\n{rows}t,maybe,1\n"), "tagging")
    assert (error.line, error.column, error.value) == (32, "x", "maybe")
    assert "expected 1, 0 or blank" in str(error)


def test_a_list_that_cannot_be_read_is_placed(write) -> None:
    error = raised(write("a.csv", "text,tags\na,['x']\nb,['x'\nc,['y']\n"), "tagging")
    assert (error.line, error.column, error.value) == (3, "tags", "['x'")


def test_lists_are_parsed_and_never_run(write) -> None:
    error = raised(write("a.csv", "text,tags\na,[print(1)]\n"), "tagging")
    assert "is not a list of labels" in str(error)


def test_tags_that_training_never_shows_are_left_out_and_named(write) -> None:
    folder = write("set/train.csv", "text,tags\na,x|y\nb,y\n").parent
    write("set/test.csv", "text,tags\nc,x|rare\n")
    data = read_text(folder, "tagging")
    assert data.parts["test"].labels.tolist() == [[1, 0]]
    assert any("'rare'" in note for note in data.notes)


def test_no_tag_at_all_is_an_error(write) -> None:
    assert "no row has a label" in str(raised(write("a.csv", "text,tags\na,[]\n"), "tagging"))
    assert "no row has a label" in str(
        raised(write("b.csv", "text,x,y\na,,-1\n"), "tagging", label="x,y")
    )


# ---------------------------------------------------------------------------- the split


def numbered(rows: int, classes: int = 4) -> TextData:
    texts = [f"text {i}" for i in range(rows)]
    part = TextPart(texts, np.arange(rows) % classes)
    return make_text("made", "classification", tuple("abcd"[:classes]), {"train": part}, [])


def test_the_parts_share_the_rows_out() -> None:
    data = split_text(numbered(1000), test=0.2, valid=0.1)
    assert {part: len(rows) for part, rows in data.parts.items()} == {
        "train": 720,
        "valid": 80,
        "test": 200,
    }
    texts = [text for rows in data.parts.values() for text in rows.texts]
    assert sorted(texts) == sorted(numbered(1000).parts["train"].texts)
    for rows in data.parts.values():
        assert np.ptp(np.bincount(rows.labels)) == 0  # each class in proportion
        assert [int(text.split()[1]) % 4 for text in rows.texts] == rows.labels.tolist()


def test_the_split_follows_the_seed_and_nothing_else() -> None:
    one, same, other = (split_text(numbered(200), seed=seed) for seed in (1, 1, 2))
    assert one.fingerprint == same.fingerprint != other.fingerprint
    without = split_text(numbered(200), seed=1, valid=0)
    assert without.parts["test"].texts == one.parts["test"].texts
    assert list(without.parts) == ["train", "test"]


def test_copies_of_a_text_stay_on_one_side() -> None:
    texts = [f"text  {i % 50}" if i % 2 else f"text {i % 50} " for i in range(400)]
    labels = np.array([i % 50 % 3 for i in range(400)])
    part = TextPart(texts, labels)
    data = split_text(make_text("made", "classification", ("a", "b", "c"), {"train": part}, []))
    sides = [{" ".join(t.split()) for t in rows.texts} for rows in data.parts.values()]
    assert not sides[0] & sides[1] and not sides[0] & sides[2] and not sides[1] & sides[2]


def test_every_class_keeps_an_example_to_train_on() -> None:
    labels = np.array([0] * 50 + [1, 2, 2])
    part = TextPart([str(i) for i in range(53)], labels)
    data = split_text(make_text("made", "classification", ("a", "b", "c"), {"train": part}, []))
    assert set(data.parts["train"].labels) == {0, 1, 2}


def test_given_parts_stay_and_valid_0_trains_on_valid() -> None:
    whole = numbered(30).parts["train"]
    index = np.arange(30)
    parts = {name: whole.rows(index[i::3]) for i, name in enumerate(("train", "valid", "test"))}
    given = make_text("made", "classification", tuple("abcd"), parts, [])
    assert split_text(given).fingerprint == given.fingerprint
    merged = split_text(given, valid=0)
    assert {part: len(rows) for part, rows in merged.parts.items()} == {"train": 20, "test": 10}
    assert any("trained on" in note for note in merged.notes)


def test_tagging_is_split_at_random() -> None:
    cells = np.ones((100, 2), dtype=np.float32)
    part = TextPart([str(i) for i in range(100)], cells)
    data = split_text(make_text("made", "tagging", ("a", "b"), {"train": part}, []))
    assert {part: rows.labels.shape for part, rows in data.parts.items()} == {
        "train": (72, 2),
        "valid": (8, 2),
        "test": (20, 2),
    }


def test_a_share_that_leaves_nothing_is_an_error() -> None:
    with pytest.raises(DataError, match="3 rows are too few"):
        split_text(numbered(3, classes=3))
    with pytest.raises(ValueError, match=r"test must lie in \(0, 1\)"):
        split_text(numbered(30), test=1.0)
    with pytest.raises(ValueError, match=r"valid must lie in \[0, 1\)"):
        split_text(numbered(30), valid=-0.1)
