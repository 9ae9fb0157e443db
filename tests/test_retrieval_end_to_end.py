"""``lossmith compare retrieval`` as a user types it, on a tiny corpus."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from test_end_to_end import check_again, compare, results

LOSSES = "info_nce,triplet,bm25"


def search(folder: Path, queries: int = 80) -> str:
    """A folder as BEIR has it: a query has two rare words of its document."""
    draw = random.Random(0)
    made = folder / "search"
    (made / "qrels").mkdir(parents=True)
    documents = [[f"rare{d}", f"odd{d}", *draw.choices(["the", "of", "a"], k=5)]
                 for d in range(queries + 20)]  # fmt: skip
    corpus = [{"_id": f"d{d}", "title": "", "text": " ".join(row)}
              for d, row in enumerate(documents)]  # fmt: skip
    asked = [{"_id": f"q{q}", "text": f"the {documents[q][0]} of {documents[q][1]}"}
             for q in range(queries)]  # fmt: skip
    for name, rows in (("corpus", corpus), ("queries", asked)):
        (made / f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    for part, rows in (("train", range(60)), ("test", range(60, queries))):
        lines = ["query-id\tcorpus-id\tscore", *(f"q{q}\td{q}\t1" for q in rows)]
        (made / "qrels" / f"{part}.tsv").write_text("\n".join(lines))
    return "search"


def test_a_corpus_is_searched_by_trained_towers_and_by_bm25(tmp_path):
    words = ("retrieval", search(tmp_path), "--losses", LOSSES, "--seeds", "2", "--epochs", "1",
             "--set", "dimension=32", "--set", "size=32", "--out", "here")  # fmt: skip
    done = compare(tmp_path, *words)
    assert done.returncode == 0, done.stderr
    found = results(tmp_path / "here")
    assert {(run["arm"], run["seed"]) for run in found["runs"]} == {
        (arm, seed) for arm in LOSSES.split(",") for seed in (0, 1)
    }
    assert found["plan"]["metric"] == "ndcg@10"
    assert found["data"]["rows"] == {"train": 54, "valid": 6, "test": 20}
    for run in found["runs"]:
        assert run["scores"]["mrr@10"] > 0.5
    check_again(tmp_path / "here", done.stdout, tmp_path, *words)
    # The plan that the run wrote makes the same comparison again.
    plan = str(tmp_path / "here" / "plan.toml")
    again = compare(tmp_path, "--plan", plan, "--out", "again", "--dry-run")
    assert again.returncode == 0 and "to train  6 of 6" in again.stdout, again.stderr


def test_a_mistake_in_the_judgements_is_one_line(tmp_path):
    folder = search(tmp_path)
    with (tmp_path / folder / "qrels" / "test.tsv").open("a") as file:
        file.write("\nq1\td999\t1")
    done = compare(tmp_path, "retrieval", folder, "--seeds", "1")
    assert done.returncode == 3 and done.stderr.count("\n") == 1
    assert "test.tsv:22, column 'corpus-id': the id 'd999' is not in corpus.jsonl" in done.stderr


@pytest.mark.slow
def test_the_embedded_queries_need_no_file(tmp_path):
    done = compare(tmp_path, "retrieval", "embedded", "--losses", "info_nce,bm25", "--epochs", "1",
                   "--seeds", "1", "--out", "here")  # fmt: skip
    assert done.returncode == 0, done.stderr
    for run in results(tmp_path / "here")["runs"]:
        assert run["scores"]["ndcg@10"] > 0.15
