from __future__ import annotations

import json

import numpy as np
import pytest

from lossmith.data.errors import DataError
from lossmith.data.side_features import read_side_features


def dense(found):
    """A dict of features for each row."""
    made = []
    for index, value in zip(found.index, found.value, strict=True):
        made.append({found.names[i]: float(v) for i, v in zip(index, value, strict=True) if v})
    return made


FILE = "item_id,year,kind,genres,title\nb,2000,film,war|drama,x\na,1990,film,,y\nc,,book,war,z\n"


def test_numbers_are_standardised_and_categories_and_sets_are_indicators(write):
    found = read_side_features(write("items.csv", FILE), "item", ["a", "b", "c"])
    a, b, c = dense(found)
    assert a == {"year": -1.0, "kind=film": 1.0, "title=y": 1.0}
    assert b == {"year": 1.0, "kind=film": 1.0, "genres=drama": 1.0, "genres=war": 1.0,
                 "title=x": 1.0}  # fmt: skip
    assert c == {"kind=book": 1.0, "genres=war": 1.0, "title=z": 1.0}  # blank: the mean
    assert found.names == sorted(found.names)
    assert found.index.shape == (3, 5) and found.value.dtype == np.float32


def test_lists_are_sets(write):
    lines = [{"id": "a", "of": ["x", "y"]}, {"id": "b", "of": ["x"]}, {"id": "c", "of": []}]
    path = write("items.jsonl", "\n".join(map(json.dumps, lines)))
    assert dense(read_side_features(path, "item", ["c", "b", "a"])) == [
        {},
        {"of=x": 1.0},
        {"of=x": 1.0, "of=y": 1.0},
    ]


def test_unknown_ids_are_noted_and_missing_rows_have_no_features(write):
    path = write("users.csv", "user,age\nann,10\nbob,30\nzoe,999\n")
    found = read_side_features(path, "user", ["ann", "bob", "eve"])
    # Neither the mean nor the spread is that of rows which are left out.
    assert dense(found) == [{"age": -1.0}, {"age": 1.0}, {}]
    assert found.notes == (
        "users.csv: 1 columns describe 2 users.",
        "1 users have no row in users.csv and no features.",
        "users.csv: 1 rows of users without interactions were left out.",
    )


def test_columns_that_tell_nothing_are_left_out(write):
    lines = "".join(f"{i},{i % 2},name {i},same,5\n" for i in range(30))
    path = write("items.csv", f"item,even,name,word,five\n{lines}")
    found = read_side_features(path, "item", [str(i) for i in range(30)])
    assert found.names == ["even"]
    assert found.notes[-1] == (
        "items.csv: not used, without values that recur: 'name', 'word', 'five'."
    )


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("item,n\na,1\na,2\n", r"items\.csv:3, column 'item': 'a' has a row already"),
        ("item,n\nq,1\n", "none of its 1 ids is a item|none of its 1 ids"),
        ("what,n\na,1\n", "no column holds the ids of the items"),
        ("item,n\na,1\nb,1\n", "tells one item from another"),
        ("item,n\na,1\nb,2\nc,x\nd,3\n", r"items\.csv:4, column 'n'.*'x' is not a number"),
    ],
)
def test_faults_are_named(content, complaint, write):
    with pytest.raises(DataError, match=complaint):
        read_side_features(write("items.csv", content), "item", ["a", "b", "c", "d"])


def test_the_id_column_can_be_named(write):
    path = write("items.csv", "n,code\n1,a\n2,b\n")
    assert dense(read_side_features(path, "item", ["a", "b"], column="code")) == [
        {"n": -1.0},
        {"n": 1.0},
    ]
