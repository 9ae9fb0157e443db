from __future__ import annotations

import numpy as np
import pytest

from lossmith.data.errors import DataError
from lossmith.data.numbers import FeatureData, read_numbers, split_numbers
from lossmith.data.text import TextData, split_text

HOUSES = "id,rooms,area,town,price\n1,3,70.5,x,200\n2,,90,y,250\n3,5,NA,x,1e3\n"
REVIEWS = "review,stars,label\nfine film,8,1\ndull,2.5,0\n,1,0\n"


def test_a_table_without_a_text_has_features(write):
    data = read_numbers(write("houses.csv", HOUSES))
    assert isinstance(data, FeatureData)
    assert data.features == ("rooms", "area")
    part = data.parts["train"]
    assert part.target.tolist() == [200, 250, 1000]
    blank = np.isnan(part.features)
    assert blank.tolist() == [[False, False], [True, False], [False, True]]
    assert part.features[~blank].tolist() == [3, 70.5, 90, 5]
    said = " ".join(data.notes)
    assert "The target is column 'price', by its name." in said
    assert "The features are 2 columns of numbers: 'rooms', 'area'." in said
    assert "Not used: columns 'id', 'town'." in said
    assert "2 values are blank among the features; the mean of the train part stands in." in said


def test_a_table_with_a_text_is_text_to_number(write):
    data = read_numbers(write("reviews.csv", REVIEWS))
    assert isinstance(data, TextData) and data.family == "regression" and data.classes == ()
    part = data.parts["train"]
    assert part.texts == ["fine film", "dull", ""]
    assert part.labels.tolist() == [8, 2.5, 1] and part.labels.dtype == np.float32
    said = " ".join(data.notes)
    assert "The text is column 'review'" in said and "Not used: column 'label'." in said
    assert "1 text is blank (the first in line 4)" in said


def test_columns_may_be_named_and_decide_what_is_read(write):
    path = write("mixed.csv", "text,a,b,score\nx,1,2,3\ny,4,5,6\n")
    assert isinstance(read_numbers(path), TextData)
    data = read_numbers(path, features="b", target="a")
    assert isinstance(data, FeatureData) and data.features == ("b",)
    assert data.parts["train"].target.tolist() == [1, 4]
    with pytest.raises(DataError, match="both a text and features were named"):
        read_numbers(path, features="b", text="text")


def test_svmlight_is_a_number_and_features(write):
    folder = write("set/train.svm", "1.5 1:1\n-2 qid:3 3:4\n").parent
    write("set/test.svm", "0 2:1\n")
    data = read_numbers(folder)
    assert data.features == ("1", "2", "3")
    assert data.parts["train"].target.tolist() == [1.5, -2]
    assert data.parts["test"].features.tolist() == [[0, 1, 0]]


def test_copies_of_a_row_stay_on_one_side(write):
    rows = "".join(f"{i % 7},{i % 5},{i % 7}\n" for i in range(140))
    data = split_numbers(read_numbers(write("a.csv", "f,g,target\n" + rows)), test=0.3, valid=0.2)
    sides: dict[tuple[float, ...], set[str]] = {}
    for part, content in data.parts.items():
        for row in content.features.tolist():
            sides.setdefault(tuple(row), set()).add(part)
    assert len(sides) == 35 and all(len(parts) == 1 for parts in sides.values())
    assert sum(map(len, data.parts.values())) == 140
    assert any("copies of a row stay together" in note for note in data.notes)


def test_texts_with_numbers_are_split_like_other_texts(write):
    rows = "".join(f"text {i % 30},{i}\n" for i in range(120))
    data = split_text(read_numbers(write("a.csv", "text,score\n" + rows)), test=0.25, valid=0)
    train, test = (set(data.parts[part].texts) for part in ("train", "test"))
    assert not train & test and len(test) in (7, 8)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("f,price\n1,2\n2,cheap\n", r"a.csv:3, column 'price': 'cheap' is not a number.*--target"),
        ("f,price\n1,2\n2,\n", r"a.csv:3, column 'price': the target is blank"),
        ("f,price\n1,nan\n2,3\n", r"a.csv:2, column 'price': the target is blank"),
        ("f,price\n1,2\n2,inf\n", r"a.csv:3, column 'price': 'inf' is not a number"),
        (
            "f,price\n1,2\n2,1e40\n",
            r"a.csv:3, column 'price': '1e40' is not a number; expected a f",
        ),
        ("f,price\n1,2\n2,2\n", r"column 'price': the target is 2 in all 2 rows"),
        ("f,g\n1,2\n", r"no column for the target among 'f', 'g'"),
        ("rating,score\n1,2\n", r"'rating', 'score' could each be the target.*--target rating"),
    ],
)
def test_a_mistake_is_placed_and_answered(write, text, complaint):
    with pytest.raises(DataError, match=complaint):
        read_numbers(write("a.csv", text))


def test_a_test_part_without_the_target_says_what_to_do(write):
    folder = write("set/train.csv", "text,score\na,1\nb,2\n").parent
    write("set/test.csv", "text\nc\n")
    with pytest.raises(DataError, match=r"no column 'score'.*Rows without target cannot be scored"):
        read_numbers(folder)
