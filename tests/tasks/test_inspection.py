"""What inspection says of a file, for every format, and what it finds wrong."""

from __future__ import annotations

import json

import pytest

from lossmith.cli.app import run
from lossmith.data.errors import DataError
from lossmith.tasks.inspection import look


def write(path, *lines):
    path.write_text("\n".join(lines) + "\n")
    return str(path)


def test_a_table_is_described_with_roles_faults_and_a_command(tmp_path):
    rows = ["good film,yes", "bad film,no", "good film,no", ",yes", "bad,no", "x y,yes"]
    found = look(write(tmp_path / "a.csv", "text,label", *rows), "classification")
    assert (found.rows, found.format) == (6, "csv, UTF-8")
    assert [(c.name, c.kind, c.missing) for c in found.columns] == [
        ("text", "text", 1), ("label", "text", 0),
    ]  # fmt: skip
    assert found.examples[0] == {"text": "good film", "label": "yes"}
    (fit,) = found.fits
    assert fit.rows == {"train": 6} and any("by its name" in note for note in fit.notes)
    said = " ".join(fit.faults)
    assert "1 of 6 texts are empty" in said and "more than once" in said
    assert "more than one label" in said and "fewer than 5 examples: no, yes" in said
    assert "cross_entropy" in fit.losses and fit.command.startswith("lossmith compare classif")


def test_what_train_and_test_share_is_found_and_uneven_classes_are(tmp_path):
    rows = [f"text {i},{'rare' if i < 6 else 'usual'}" for i in range(90)]
    write(tmp_path / "train.csv", "text,label", *rows)
    write(tmp_path / "test.csv", "text,label", "text 3,rare", "new,usual")
    (fit,) = look(str(tmp_path), "classification").fits
    assert "test: 1 texts (50.0 %) also stand in train, and were seen." in fit.faults
    assert any("'usual' has 85 examples" in fault for fault in fit.faults)


def test_lists_pairs_numbers_and_parallel_text_have_faults_of_their_own(tmp_path):
    svm = write(tmp_path / "a.svm", *(f"{i % 2 if i < 4 else 0} qid:{i // 2} 1:{i} 2:1"
                                      for i in range(8)))  # fmt: skip
    (fit,) = look(svm, "ranking").fits
    assert "train: 2 of 4 lists have no relevant item; metrics leave them out." in fit.faults
    assert "1 features have one value throughout: 2." in fit.faults

    pairs = write(tmp_path / "p.csv", "user,item", *(f"u{i // 2},i{i}" for i in range(7)))
    (fit,) = look(pairs, "recommendation").fits
    assert "1 of 4 users have one interaction: none is left to test with." in fit.faults
    assert "7 of 7 items were taken once: nothing tells them apart." in fit.faults

    numbers = write(tmp_path / "n.csv", "a,b,target", *(f"{i},1,{i % 4}" for i in range(6)))
    (fit,) = look(numbers, "regression").fits
    assert fit.faults == ("1 features have one value throughout: b.",)

    texts = write(tmp_path / "t.csv", "source,target", "a b,c", "d,d", "a b,c")
    (fit,) = look(texts, "generation").fits
    assert "train: 1 of 3 pairs have the same text on both sides." in fit.faults


def test_queries_and_documents_have_faults_of_their_own(tmp_path):
    rows = [f"query {i},document {i % 4}" for i in range(12)]
    write(tmp_path / "train.csv", "query,positive", *rows, "Query 1,lone", "same,same", "late,late")
    write(tmp_path / "test.csv", "query,positive", "late,Document 1", "later,document 0")
    (fit,) = look(str(tmp_path), "retrieval").fits
    assert fit.rows == {"train": 15, "test": 2}
    assert fit.faults == (
        "train: 2 of 15 queries are the text of a relevant document: whatever compares words finds "
        "it.",
        "train: 1 of 15 queries differ from another in case alone.",
        "1 of 8 documents differ from another in case alone.",
        "train: 1 queries are asked in a later part too, and will leave train.",
    )
    assert "Queries have 2 words in the middle, 2 at the 95th" in fit.notes[-2]
    assert "Documents have 2 words" in fit.notes[-1]
    many = [f"question {i},one,{1 + i % 2}" for i in range(8)]
    (fit,) = look(write(tmp_path / "g.csv", "query,positive,grade", *many), "retrieval").fits
    assert fit.faults[0].startswith("The judgements are graded (1, 2): ndcg")
    assert fit.faults[1] == "One document is relevant to 8 of 8 queries."


def test_a_folder_of_queries_says_what_its_judgements_lack(tmp_path):
    (tmp_path / "qrels").mkdir()
    entry = '{{"_id": "{0}", "text": "{1}"}}'.format
    write(tmp_path / "corpus.jsonl", entry("a", "one"), entry("b", ""), entry("c", "one"),
          entry("d", "two"))  # fmt: skip
    write(tmp_path / "queries.jsonl", entry("q", "which"), entry("r", "who"))
    judged = ["query-id\tcorpus-id\tscore", "q\ta\t1", "r\ta\t0"]
    qrels = write(tmp_path / "qrels" / "train.tsv", *judged)
    (fit,) = look(str(tmp_path), "retrieval").fits
    said = " ".join(fit.notes)
    assert "1 of 4 documents is a copy" in said and "a document is blank" in said
    assert "1 query has no relevant document and left the train part" in said
    assert fit.faults[0].startswith("2 of 3 documents were judged for no query")
    write(tmp_path / "qrels" / "train.tsv", *judged, "q\tnone\t1")
    with pytest.raises(DataError, match=r"the id 'none' is not in corpus\.jsonl") as found:
        look(str(tmp_path), "retrieval")
    assert (found.value.path, found.value.line) == (qrels, 4)


def test_without_a_family_every_one_is_tried_and_says_why_not(tmp_path):
    path = write(tmp_path / "p.csv", "user,item", *(f"u{i % 3},i{i % 4}" for i in range(12)))
    found = look(path)
    assert [fit.family for fit in found.fits] == ["recommendation"]
    assert "no column for the text" in found.others["classification"]


def test_of_a_large_file_the_first_rows_are_looked_at(tmp_path, monkeypatch):
    monkeypatch.setattr("lossmith.tasks.inspection.LARGE", 10)
    monkeypatch.setattr("lossmith.tasks.inspection.FIRST", 8)
    rows = (f"text {i},{i % 2}" for i in range(50))
    found = look(write(tmp_path / "a.csv", "text,label", *rows), "classification")
    assert found.rows == 8 and "first 8 rows" in found.notes[0]


def test_the_command_exits_as_it_should(tmp_path, capsys):
    path = write(tmp_path / "a.csv", "text,label", "a b,x", "c d,y")
    assert run(["inspect", path, "--family", "classification", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["fits"][0]["family"] == "classification"
    assert run(["inspect", path, "--family", "tagging"]) == 0
    assert "lossmith compare tagging" in capsys.readouterr().out
    assert run(["inspect", path, "--family", "rankin"]) == 2
    assert run(["inspect", str(tmp_path / "b.csv")]) == 3
    assert run(["inspect", path, "--family", "ranking"]) == 3
    assert run(["inspect", write(tmp_path / "c.csv", "a,b", "1,2")]) == 3
    assert run(["inspect", "embedded"]) == 0
    with pytest.raises(DataError, match="no such file"):
        look("nowhere.csv")
