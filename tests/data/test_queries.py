"""Queries and a corpus, from tables of pairs and from folders as BEIR has them."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import numpy as np
import pytest

from lossmith.data.errors import DataError
from lossmith.data.queries import RetrievalData, gather, make_retrieval, split_retrieval
from lossmith.data.query_files import read_retrieval


def judged(data: RetrievalData, part: str = "train") -> dict[str, dict[str, float]]:
    """Query -> document -> grade, all in words."""
    found: dict[str, dict[str, float]] = {text: {} for text in data.parts[part].texts}
    own = data.parts[part]
    for query, document, grade in zip(own.query, own.document, own.grade, strict=True):
        found[own.texts[query]][data.documents[document]] = float(grade)
    return found


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


# ---------------------------------------------------------------------------- tables


def test_pairs_are_found_by_the_names_of_their_columns(tmp_path):
    rows = "id,Answer,Question\n1,it rains,why wet\n2,the sun,why dry\n3,a  cloud,why  wet\n"
    data = read_retrieval(write(tmp_path / "faq.csv", rows))
    assert data.name == "faq"
    assert data.documents == ["a cloud", "it rains", "the sun"]  # by text, not by row
    assert judged(data) == {
        "why wet": {"it rains": 1, "a cloud": 1},
        "why dry": {"the sun": 1},
    }
    assert any("'Question', by its name" in note for note in data.notes)
    assert any("Not used: column 'id'" in note for note in data.notes)


def test_negatives_are_columns_or_lists_and_a_blank_is_none(tmp_path):
    rows = "query\tpositive\tnegative_1\tnegative_2\na\tx\ty\tz\nb\ty\t\tx\na\tz\tv\t\n"
    data = read_retrieval(write(tmp_path / "train.tsv", rows))
    # z is called relevant to a in another row, which wins.
    assert judged(data) == {"a": {"x": 1, "y": 0, "z": 1, "v": 0}, "b": {"y": 1, "x": 0}}
    lines = [
        {"anchor": "a", "pos": ["x", "w"], "neg": ["y", "z"]},
        {"anchor": "b", "pos": ["y"], "neg": []},
    ]
    data = read_retrieval(
        write(tmp_path / "lists.jsonl", "\n".join(json.dumps(line) for line in lines))
    )
    assert judged(data) == {"a": {"x": 1, "w": 1, "y": 0, "z": 0}, "b": {"y": 1}}


def test_a_column_of_grades_says_what_is_relevant(tmp_path):
    rows = "query,passage,relevance\na,x,2\na,y,0\nb,y,1\nc,x,0\nb,z,-1\n"
    data = read_retrieval(write(tmp_path / "graded.csv", rows))
    assert judged(data) == {"a": {"x": 2, "y": 0}, "b": {"y": 1, "z": 0}}
    assert any("1 query has no relevant document" in n and "'c'" in n for n in data.notes)


def test_columns_can_be_named(tmp_path):
    path = write(tmp_path / "odd.csv", "ask,good,bad,worse\na,x,y,z\nb,y,x,z\n")
    data = read_retrieval(path, query="ask", positive="good", negative="bad, worse")
    assert judged(data)["a"] == {"x": 1, "y": 0, "z": 0}


@pytest.mark.parametrize(
    ("rows", "given", "complaint"),
    [
        ("query,positive\na,x\n ,y\n", {}, r"pairs\.csv:3, column 'query': the query is blank"),
        ("query,positive\na,x\nb,\n", {}, r"pairs\.csv:3, column 'positive': the relevant doc"),
        ("query,rank\na,1\n", {}, "no column for the relevant document.*--positive"),
        ("qery,positive\na,x\n", {}, "If 'qery' is the query, say so: --query qery"),
        ("query,positive\na,x\n", {"positive": "postive"}, "Did you mean 'positive'"),
        ("query,positive,no\na,x,y\n", {"negative": "non"}, "no column 'non'"),
        ("query,positive,label\na,x,often\n", {}, r":2, column 'label': 'often' is not a number"),
        ("query,positive,label\na,x,0\n", {}, "no query has a relevant document"),
        ("query,positive,doc,passage\n", {}, "no rows"),
    ],
)
def test_mistakes_in_a_table_have_a_place_and_a_remedy(tmp_path, rows, given, complaint):
    path = write(tmp_path / "pairs.csv", rows)
    with pytest.raises(DataError, match=complaint):
        read_retrieval(path, **given)


def test_the_corpus_is_that_of_every_part(tmp_path):
    write(tmp_path / "train.csv", "query,positive\na,x\nb,y\nc,z\n")
    write(tmp_path / "test.csv", "query,positive\nd,w\na,v\n")
    data = read_retrieval(tmp_path)
    assert data.documents == ["v", "w", "x", "y", "z"]
    split = split_retrieval(data, valid=0)
    # What the test asks is not trained on, whatever is relevant to it there.
    assert judged(split) == {"b": {"y": 1}, "c": {"z": 1}}
    assert judged(split, "test") == {"d": {"w": 1}, "a": {"v": 1}}
    assert any("1 query of the train part left out" in note for note in split.notes)
    assert split.documents == data.documents


# ---------------------------------------------------------------------------- a folder as BEIR has


def beir(folder: Path, *, packed: bool = False, **parts: str) -> Path:
    """A folder; ``parts`` hold lines ``query document grade``."""
    corpus = [
        {"_id": "d1", "title": "Rain", "text": "is wet.", "metadata": {"year": 1}},
        {"_id": "d2", "title": "", "text": "The sun\nshines.", "metadata": {"by": ["x"]}},
        {"_id": 3, "text": "Snow"},
        {"_id": "copy", "title": "The sun", "text": "shines."},
    ]
    queries = [{"_id": f"q{i}", "text": f"question {i}"} for i in range(6)]
    (folder / "qrels").mkdir(parents=True)
    for name, rows in (("corpus", corpus), ("queries", queries)):
        text = "\n".join(json.dumps(row) for row in rows)
        if packed:
            (folder / f"{name}.jsonl.gz").write_bytes(gzip.compress(text.encode()))
        else:
            (folder / f"{name}.jsonl").write_text(text)
    for part, rows in parts.items():
        lines = ["query-id\tcorpus-id\tscore", *("\t".join(row.split()) for row in rows.split(","))]
        (folder / "qrels" / f"{part}.tsv").write_text("\n".join(lines) + "\n")
    return folder


@pytest.mark.parametrize("packed", [False, True])
def test_a_folder_with_corpus_queries_and_judgements(tmp_path, packed):
    rows = {"train": "q0 d1 1,q0 3 2,q1 copy 1,q1 d1 0", "dev": "q2 d2 1", "test": "q3 3 1"}
    data = read_retrieval(beir(tmp_path / "rain", packed=packed, **rows))
    assert data.name == "rain" and list(data.parts) == ["train", "valid", "test"]
    assert data.documents == ["Rain is wet.", "The sun shines.", "Snow"]
    assert data.names == ["d1", "d2", "3"]
    assert judged(data) == {
        "question 0": {"Rain is wet.": 1, "Snow": 2},
        "question 1": {"The sun shines.": 1, "Rain is wet.": 0},
    }
    assert any("1 of 4 documents is a copy" in note for note in data.notes)
    split = split_retrieval(data)
    assert judged(split, "test") == {"question 3": {"Snow": 1}} and len(split.parts["valid"]) == 1


@pytest.mark.parametrize(
    ("rows", "complaint"),
    [
        ("q0 d1 1,q0 d9 1", r"train\.tsv:3, column 'corpus-id': the id 'd9' is not in corpus"),
        ("q0 d1 1,q00 d1 1", r"train\.tsv:3, column 'query-id': the id 'q00' is not in queries"),
        ("q0 d1 yes", r"train\.tsv:2, column 'score': 'yes' is not a number"),
        ("q0 d1 0", "no query has a relevant document"),
    ],
)
def test_mistakes_in_judgements_are_named_with_their_line(tmp_path, rows, complaint):
    with pytest.raises(DataError, match=complaint):
        read_retrieval(beir(tmp_path / "bad", train=rows))


@pytest.mark.parametrize(
    ("file", "text", "complaint"),
    [
        ("corpus.jsonl", '{"_id": "d1"}', r"corpus\.jsonl:1: no 'text' among '_id'"),
        ("corpus.jsonl", '\n{"id": 1, "text": "x"}', r"corpus\.jsonl:2: no '_id'"),
        (
            "corpus.jsonl",
            '{"_id": "d1", "text": "x"}\n{"_id": "d1", "text": "y"}',
            r"corpus\.jsonl:2: the id 'd1' stands in line 1 already",
        ),
        ("queries.jsonl", '{"_id": "q0", "text": " "}', r"queries\.jsonl:1: the query 'q0' is bla"),
        ("qrels/train.tsv", "q0\td1\t1\nq1\t3\t1\n", "Put a line that names them above"),
    ],
)
def test_mistakes_in_a_folder_are_named_with_their_line(tmp_path, file, text, complaint):
    folder = beir(tmp_path / "bad", train="q0 d1 1")
    write(folder / file, text)
    with pytest.raises(DataError, match=complaint):
        read_retrieval(folder)


def test_a_folder_that_lacks_a_file_says_which(tmp_path):
    folder = beir(tmp_path / "bad", train="q0 d1 1")
    (folder / "queries.jsonl").unlink()
    with pytest.raises(DataError, match=r"holds corpus\.jsonl and no queries\.jsonl"):
        read_retrieval(folder)


# ---------------------------------------------------------------------------- the split


def many(queries: int = 50) -> RetrievalData:
    rows = [(f"q{i}", d, 1.0) for i in range(queries) for d in (i % 9, (i + 1) % 9)]
    part, _ = gather(rows)
    documents = [f"d{d}" for d in range(9)]
    return make_retrieval("many", documents, documents, {"train": part}, ())


def test_a_query_is_split_whole_and_the_corpus_is_shared():
    data = many()
    split = split_retrieval(data, test=0.2, valid=0.25, seed=3)
    assert {name: len(part) for name, part in split.parts.items()} == {
        "train": 30, "valid": 10, "test": 10,
    }  # fmt: skip
    whole = judged(data)
    parts = [judged(split, part) for part in split.parts]
    assert {q: row for part in parts for q, row in part.items()} == whole
    assert split.fingerprint == split_retrieval(data, test=0.2, valid=0.25, seed=3).fingerprint
    assert split.fingerprint != split_retrieval(data, test=0.2, valid=0.25, seed=4).fingerprint


def test_a_given_valid_part_is_trained_on_where_none_is_wanted():
    data = many()
    parts = {"train": data.parts["train"].rows(np.arange(20)),
             "valid": data.parts["train"].rows(np.arange(20, 30)),
             "test": data.parts["train"].rows(np.arange(30, 50))}  # fmt: skip
    given = make_retrieval("given", data.documents, data.names, parts, ())
    split = split_retrieval(given, valid=0)
    assert list(split.parts) == ["train", "test"]
    whole = judged(data)
    assert judged(split) == {f"q{i}": whole[f"q{i}"] for i in range(30)}


def test_too_few_queries_to_hold_some_out_is_an_error():
    with pytest.raises(DataError, match="too few to hold out"):
        split_retrieval(many(3))


def test_a_document_that_is_both_counts_as_relevant_and_a_query_without_any_is_left_out():
    part, left_out = gather([("a", 3, 0.0), ("a", 3, 2.0), ("b", 1, 0.0), ("a", 1, -1.0)])
    assert (part.texts, left_out) == (["a"], 1)
    assert part.document.tolist() == [1, 3] and part.grade.tolist() == [0, 2]
