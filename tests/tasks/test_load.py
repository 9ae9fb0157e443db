"""From files to tensors."""

from __future__ import annotations

import json

import pytest
import torch

from lossmith.data.errors import DataError
from lossmith.tasks.registry import load_task


@pytest.fixture
def reviews(tmp_path):
    folder = tmp_path / "reviews"
    folder.mkdir()
    lines = [f"word{i % 7} shared text with {i % 3} more words,{'yes' if i % 2 else 'no'}"
             for i in range(40)]  # fmt: skip
    (folder / "train.csv").write_text("review,sentiment\n" + "\n".join(lines))
    (folder / "test.csv").write_text("review,sentiment\nshort,no\nword1 never,yes\nword2,no\n")
    return folder


def problem(family, data, **given):
    task = load_task(family)
    return task.problem(str(data), task.resolve({"valid": 0, **given}))


@pytest.mark.parametrize("keep", ["first", "last"])
def test_a_text_is_padded_alike_in_whichever_part_it_stands(reviews, keep):
    ids = problem("classification", reviews, keep=keep, length=400).tensors.ids
    assert ids["train"].shape == (40, 7) and ids["test"].shape == (3, 7)
    assert (ids["test"][0] != 0).sum() == 1


def test_the_vocabulary_is_learnt_from_the_training_part_alone(reviews):
    ids = problem("classification", reviews).tensors.ids["test"]
    known = [[token > 1 for token in row if token > 0] for row in ids.tolist()]
    assert known == [[False], [True, False], [True]]  # "short" and "never" are in test alone


def test_the_description_says_what_was_read_and_guessed(reviews):
    found = problem("classification", reviews, valid=0.2).description
    assert found.rows == {"train": 32, "valid": 8, "test": 3}
    assert found.split == "train and test as given, valid drawn (s0)"
    assert any("'review'" in note for note in found.notes)
    assert found.facts["classes"] == 2


def test_the_same_data_and_settings_are_read_once(reviews):
    first = problem("classification", reviews, learning_rate=0.1)
    assert problem("classification", reviews, epochs=3).tensors is first.tensors
    assert problem("classification", reviews, length=2).tensors is not first.tensors


def test_labels_given_missing_and_blank_come_through(tmp_path):
    labels = {"one": (1, None), "two": (0, 1), "three": (None, 0)}
    rows = [{"text": text, "a": a, "b": b} for text, (a, b) in labels.items()]
    lines = [json.dumps(row) for row in rows * 4]
    (tmp_path / "train.jsonl").write_text("\n".join(lines))
    (tmp_path / "test.jsonl").write_text("\n".join(lines))
    tensors = problem("tagging", tmp_path).tensors
    assert tensors.classes == ("a", "b")
    assert tensors.labels["train"][:3].tolist() == [[1, -1], [0, 1], [-1, 0]]
    assert tensors.labels["train"].dtype is torch.float32


def test_interactions_are_split_and_numbered(tmp_path):
    rows = [f"u{u},i{i}" for u in range(10) for i in range(10) if (u + i) % 2]
    (tmp_path / "log.csv").write_text("\n".join(["user,item", *rows]))
    found = problem("recommendation", tmp_path / "log.csv", test=0.2, valid=0.25)
    assert (found.users, found.items) == (10, 10)
    assert sum(found.description.rows.values()) == 50
    assert found.has_valid and not problem("recommendation", tmp_path / "log.csv").has_valid
    pairs = [set(zip(*(side.tolist() for side in part), strict=True))
             for part in found.pairs.values()]  # fmt: skip
    assert len(set().union(*pairs)) == 50


def test_a_wrong_column_is_named_with_the_file(reviews):
    with pytest.raises(DataError, match=r"train\.csv:1, column 'revue'.*Did you mean 'review'"):
        problem("classification", reviews, text="revue")
