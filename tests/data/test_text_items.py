from __future__ import annotations

import json

import numpy as np
import pytest

from lossmith.data.errors import DataError
from lossmith.data.text_items import is_text_items, read_text_items, split_text_items


def rows(data, part="train"):
    return list(zip(data.parts[part].texts, data.parts[part].items, strict=True))


EXPECTED = [("how to sort", ["python", "list"]), ("a loop", ["c"])]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("t.tsv", "title\ttags\nhow to sort\t['python', 'list']\na loop\t['c']\n"),
        ("t.tsv", 'title\ttags\nhow to sort\t["python", "list"]\na loop\t["c"]\n'),
        ("t.csv", "title,tags\nhow to sort,python|list\na loop,c\n"),
        ("t.csv", "text,item\nhow to sort,python; list\na loop,c\n"),
        ("t.csv", 'text,hashtags,id\nhow to sort,"python,list",1\na loop,c,2\n'),
        (
            "t.jsonl",
            "\n".join(json.dumps({"text": text, "tags": tags}) for text, tags in EXPECTED),
        ),
    ],
)
def test_every_file_gives_the_same_texts_and_items(name, content, write):
    path = write(name, content)
    assert is_text_items(path, text=None, user=None)
    assert rows(read_text_items(path)) == EXPECTED


def test_a_list_in_a_cell_is_parsed_and_never_evaluated(write, tmp_path):
    path = write("t.tsv", "title\ttags\na\t[open('made', 'w')]\n")
    with pytest.raises(DataError, match=r"t\.tsv:2, column 'tags'.*is not a list"):
        read_text_items(path)
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize(
    ("header", "roles", "texts"),
    [
        ("title,tags", {}, True),
        ("user,item,title", {}, False),
        ("user,item,title", {"text": "title"}, True),
        ("title,tags", {"user": "title"}, False),
        ("user,item,rating", {}, False),
        ("title,price", {}, False),
        ("title,comment,tags", {}, False),  # either could be the text
    ],
)
def test_a_text_and_no_user_means_texts_with_items(header, roles, texts, write):
    cells = ",".join("x" for _ in header.split(","))
    path = write("train.csv", f"{header}\n{cells}\n")
    roles = {"text": None, "user": None, **roles}
    assert is_text_items(path, **roles) is texts
    assert is_text_items(path.parent, **roles) is texts  # a folder is read by its train file


def test_other_folders_and_files_are_interactions(write):
    folder = write("d/train.dat", "1::2::3::4\n").parent
    write("d/test.csv", "text,tags\na,b\n")
    assert not is_text_items(folder, text=None, user=None)
    assert not is_text_items(write("u.data", "1\t2\t3\t881250949\n"), text=None, user=None)


def test_what_was_guessed_and_left_out_is_said(write):
    path = write("t.csv", "title,tags,n\na,x|y,1\nb,,2\nc,x,3\n")
    data = read_text_items(path)
    assert data.notes == (
        "Each row is a text, column 'title', and its items are in column 'tags'. Not used: 'n'.",
        "Column 'tags': entries are separated by '|'.",
        "t.csv: 1 rows without an item were left out.",
    )
    assert rows(data) == [("a", ["x", "y"]), ("c", ["x"])]


def test_texts_are_users_of_their_own_and_items_a_catalogue(write):
    write("d/train.csv", "text,tags\na,x|y\nb,x|x\n")
    data = read_text_items(write("d/test.csv", "text,tags\na,z\n").parent)
    assert data.texts() == ["a", "b", "a"] and data.item_ids == ["x", "y", "z"]
    assert "1 items of the test part are in no training text: 'z'." in data.notes
    found = data.interactions()
    assert (found.users, found.items) == (3, 3)
    pairs = {part: np.stack([p.users, p.items], axis=1).tolist() for part, p in found.parts.items()}
    assert pairs == {"train": [[0, 0], [0, 1], [1, 0]], "test": [[2, 2]]}


def test_the_fingerprint_is_of_texts_and_items(write):
    prints = {
        read_text_items(write(f"{i}.csv", content)).interactions().fingerprint
        for i, content in enumerate(["text,tags\na,x\n", "text,tags\nb,x\n", "text,tags\na,y\n"])
    }
    assert len(prints) == 3


def test_copies_of_a_text_stay_on_one_side(write):
    lines = "".join(f"text  {i % 25},t{i % 3}\n" for i in range(100))
    whole = split_text_items(read_text_items(write("t.csv", f"text,tags\n{lines}")), test=0.2)
    assert {part: len(rows) for part, rows in whole.parts.items()} == {
        "train": 72,
        "valid": 8,
        "test": 20,
    }
    sides = [set(part.texts) for part in whole.parts.values()]
    assert sum(map(len, sides)) == len(set().union(*sides)) == 25
    again = split_text_items(read_text_items(write("t.csv", f"text,tags\n{lines}")), valid=0)
    assert again.parts["test"].texts == whole.parts["test"].texts


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("text,tags\na,\nb,\n", "no row has an item"),
        ("text,price\na,3\n", "no column for the items.*--item NAME"),
        ("words,tags\na,x\n", "no column for the text"),
    ],
)
def test_faults_are_named(content, complaint, write):
    with pytest.raises(DataError, match=complaint):
        read_text_items(write("t.csv", content))
