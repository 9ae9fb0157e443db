from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from lossmith.data.errors import DataError
from lossmith.data.lists import read_ranking, split_ranking

SVM = """\
2 qid:10 1:0.5 3:1 # docid = a
0 qid:10 1:0.25 2:7
# a line of its own says nothing

1 qid:11 3:-1e-3 #b
0 qid:11
"""
CSV = "query,docid,relevance,bm25,length,title\na,1,2,0.5,10,x\nb,2,0,1.5,20,y\na,3,0,,30,z\n"


def content(lists):
    return lists.features.tolist(), lists.relevance.tolist(), lists.sizes.tolist(), lists.queries


def test_svmlight_lines_are_the_items_of_their_queries(write):
    data = read_ranking(write("train.txt", SVM))
    assert data.features == ("1", "2", "3")
    features, relevance, sizes, queries = content(data.parts["train"])
    expected = [[0.5, 0, 1], [0.25, 7, 0], [0, 0, np.float32(-1e-3)], [0, 0, 0]]
    assert features == expected
    assert (relevance, sizes, queries) == ([2, 0, 1, 0], [2, 2], ["10", "11"])


def test_a_feature_numbered_0_makes_all_count_from_0(write):
    data = read_ranking(write("a.svm", "1 qid:1 0:3 2:4\n0 qid:1 1:1\n"))
    assert data.features == ("0", "1", "2")
    assert data.parts["train"].features.tolist() == [[3, 0, 4], [0, 1, 0]]


def test_parts_have_the_features_of_the_widest(write):
    folder = write("set/train.txt", "1 qid:1 1:1\n0 qid:1 1:2\n").parent
    write("set/vali.txt", "1 qid:2 4:1\n")
    write("set/test.txt", "0 qid:3 2:1\n")
    data = read_ranking(folder)
    assert list(data.parts) == ["train", "valid", "test"]
    assert data.features == ("1", "2", "3", "4")
    assert data.parts["test"].features.tolist() == [[0, 1, 0, 0]]


@pytest.mark.parametrize("beside", ["rank.train.query", "rank.query", "rank.train.group"])
def test_lightgbms_lengths_tell_the_lists_apart(write, beside):
    path = write("rank.train", "1 1:1\n0 1:2\n1 1:3\n")
    write(beside, "1\n2\n")
    data = read_ranking(path)
    assert data.parts["train"].sizes.tolist() == [1, 2]
    assert any(beside in note for note in data.notes)


def test_lengths_beside_a_table_do_for_a_query_column(write):
    path = write("rank.csv", "label,f\n1,1\n0,2\n1,3\n")
    write("rank.csv.query", "1\n\n2\n")
    assert read_ranking(path).parts["train"].sizes.tolist() == [1, 2]


@pytest.mark.parametrize("ending", [".csv", ".tsv", ".jsonl", ".parquet"])
def test_a_table_is_read_by_the_names_of_its_columns(write, tmp_path, ending):
    path = write("rows.csv", CSV)
    if ending != ".csv":
        frame = pl.read_csv(path)
        path = tmp_path / f"rows{ending}"
        if ending == ".tsv":
            frame.write_csv(path, separator="\t")
        elif ending == ".jsonl":
            frame.write_ndjson(path)
        else:
            frame.write_parquet(path)
    data = read_ranking(path)
    assert data.features == ("bm25", "length")
    features, relevance, sizes, queries = content(data.parts["train"])
    assert np.isnan(features[1][0]) and features[1][1] == 30
    assert (features[0], features[2]) == ([0.5, 10], [1.5, 20])
    assert (relevance, sizes, queries) == ([2, 0, 0], [2, 1], ["a", "b"])
    said = " ".join(data.notes)
    assert "the query is 'query' and the relevance is 'relevance'" in said
    assert "The features are 2 columns of numbers: 'bm25', 'length'." in said
    assert "Not used: columns 'docid', 'title'." in said
    assert "rows of a query stand apart 1 time" in said
    assert "1 value is blank among the features" in said


def test_columns_may_be_named(write):
    path = write("rows.csv", "who,good,x,y\na,1,2,3\na,0,4,5\n")
    data = read_ranking(path, query="who", label="good", features="y")
    assert data.features == ("y",) and data.parts["train"].features.tolist() == [[3], [5]]


def letor(write):
    for number in range(1, 6):
        write(f"set/S{number}.txt", f"1 qid:{number} 1:{number}\n0 qid:{number} 1:0\n")
    write("set/readme.folds.txt", "prose")


@pytest.mark.parametrize(("fold", "expected"), [(1, ("123", "4", "5")), (4, ("451", "2", "3"))])
def test_letors_five_parts_make_a_fold(write, tmp_path, fold, expected):
    letor(write)
    data = read_ranking(tmp_path / "set", fold=fold)
    found = ["".join(data.parts[part].queries) for part in ("train", "valid", "test")]
    assert tuple(found) == expected
    assert f"Fold {fold} of 5: train is S{expected[0][0]}" in data.notes[0]


def test_letors_folders_are_folds_too(write, tmp_path):
    for part in ("train", "vali", "test"):
        write(f"set/Fold2/{part}.txt", SVM)
    assert list(read_ranking(tmp_path / "set", fold=2).parts) == ["train", "valid", "test"]


def test_a_query_in_two_parts_is_noted(write):
    folder = write("set/train.txt", SVM).parent
    write("set/test.txt", "1 qid:11 1:1\n0 qid:12 1:1\n")
    assert "1 query of the test part is in an earlier part too: '11'." in read_ranking(folder).notes


# ---------------------------------------------------------------------------- the split


def many(write, lists=40):
    rows = [f"{i % 2} qid:{q} 1:{q}.{i}\n" for q in range(lists) for i in range(1 + q % 4)]
    return read_ranking(write("train.txt", "".join(rows)))


def test_whole_lists_are_held_out_and_none_is_lost(write):
    data = many(write)
    parts = split_ranking(data, test=0.25, valid=0.1, seed=3).parts
    assert [len(parts[part]) for part in ("train", "valid", "test")] == [27, 3, 10]
    seen = [query for lists in parts.values() for query in lists.queries]
    assert sorted(seen) == sorted(data.parts["train"].queries)
    for lists in parts.values():
        assert lists.sizes.tolist() == [1 + int(query) % 4 for query in lists.queries]
        owners = np.repeat(np.array(lists.queries, dtype=int), lists.sizes)
        assert (lists.features[:, 0].astype(int) == owners).all()


def test_the_split_is_that_of_its_seed(write):
    data = many(write)
    first, again, other = (split_ranking(data, seed=seed).fingerprint for seed in (1, 1, 2))
    assert first == again != other


def test_a_valid_part_that_is_not_wanted_is_trained_on(write):
    folder = write("set/train.txt", SVM).parent
    write("set/valid.txt", "1 qid:7 1:1\n")
    write("set/test.txt", "1 qid:8 1:1\n")
    data = split_ranking(read_ranking(folder), valid=0)
    assert data.parts["train"].queries == ["10", "11", "7"]
    assert "The given valid part is trained on, as valid=0 asks." in data.notes


def test_too_few_lists_to_split_say_so(write):
    with pytest.raises(DataError, match="2 lists are too few to hold out 20 % for test"):
        split_ranking(read_ranking(write("a.svm", SVM)))


# ---------------------------------------------------------------------------- mistakes


@pytest.mark.parametrize(
    ("name", "text", "complaint"),
    [
        ("a.svm", "1 qid:1 1:1\n0 qid:1 2:x\n", r"a.svm:2: feature 2 is 'x'; expected a number"),
        ("a.svm", "1 qid:1 1:1\n\n0 qid:1 2:1 1:1\n", r"a.svm:3: feature 1 stands after feature 2"),
        (
            "a.svm",
            "1 qid:1 1:1\n0 qid:1 oops\n",
            r"a.svm:2: 'oops' is not a feature; expected 'NUM",
        ),
        ("a.svm", "1 qid:one 1:1\n", r"a.svm:1: the query 'one' is not a whole number"),
        ("a.svm", "query,label,f\n", r"a.svm:1: the label 'query,label,f' is not.*ends in .csv"),
        ("a.svm", "1 qid:1 1:1\n# x\n0 1:1\n", r"a.svm:3: no query, though other rows have one"),
        ("a.svm", "\n1 1:1\n0 1:1\n", r"a.svm:2: no query; expected 'qid:NUMBER'.*a.svm.query"),
        ("a.svm", "-1 qid:1 1:1\n1 qid:1 1:1\n", r"a.svm:1: the label is -1; expected a grade, 0"),
        ("a.svm", "nan qid:1 1:1\n1 qid:1 1:1\n", r"a.svm:1: the label is nan; expected a finite"),
        ("a.svm", "1 qid:1 1:1\n0 qid:1 1:inf\n", r"a.svm:2: feature 1 is infinite"),
        ("a.svm", "1 qid:1 1:1\n0 qid:1 2:1e300\n", r"a.svm:2: feature 2 is infinite"),
        ("a.svm", "1 qid:1 1:1\n1 qid:1 1:2\n", r"the relevance is 1 in all 2 rows"),
        ("a.svm", "# nothing\n", "no rows"),
        (
            "a.csv",
            "query,label,f\na,1,2\na,good,3\n",
            r"a.csv:3, column 'label': 'good' is not a n",
        ),
        (
            "a.csv",
            "query,label,f\na,1,2\na,,3\n",
            r"a.csv:3, column 'label': the relevance is blank",
        ),
        ("a.csv", "query,label,f\na,1,2\na,-2,3\n", r"a.csv:3, column 'label': '-2' is not a numb"),
        ("a.csv", "query,label,f\n,1,2\na,0,3\n", r"a.csv:2, column 'query': the query is blank"),
        (
            "a.csv",
            "query,label,f\na,1,2\na,0,3\na,0,x7\n",
            r"a.csv:4, column 'f': 'x7' is not a number; expected a finite number. Correct it, or",
        ),
        ("a.csv", "query,label,f\na,1,2\na,0,inf\na,0,1\n", r"a.csv:3, column 'f': 'inf' is not"),
        ("a.csv", "query,label,t\na,1,x\na,0,y\n", r"no column holds numbers among.*--features"),
        ("a.csv", "label,f\n1,2\n0,3\n", r"no column for the query among 'label', 'f'"),
        ("a.csv", "qid,lable,f\na,1,2\n", r"If 'lable' is the relevance, say so: --label lable"),
    ],
)
def test_a_mistake_is_placed_and_answered(write, name, text, complaint):
    with pytest.raises(DataError, match=complaint):
        read_ranking(write(name, text))


@pytest.mark.parametrize(
    ("lengths", "complaint"),
    [
        ("1\n3\n", r"add up to 4, and rank.train has 3 rows; expected 2 lengths that add up to 3"),
        ("1\ntwo\n", r"rank.train.query:2: 'two' is not the length of a list"),
        ("0\n3\n", r"rank.train.query:1: '0' is not the length of a list"),
    ],
)
def test_lengths_that_do_not_fit_are_placed(write, lengths, complaint):
    path = write("rank.train", "1 1:1\n0 1:2\n1 1:3\n")
    write("rank.train.query", lengths)
    with pytest.raises(DataError, match=complaint):
        read_ranking(path)


def test_names_mean_nothing_in_a_file_without_columns(write):
    with pytest.raises(DataError, match="no columns with names, so query='q' finds none"):
        read_ranking(write("a.svm", SVM), query="q")


def test_a_part_without_a_feature_of_the_train_part_says_so(write):
    folder = write("set/train.csv", "query,label,f,g\na,1,2,3\na,0,1,1\n").parent
    write("set/test.csv", "query,label,f\nb,1,2\n")
    with pytest.raises(DataError, match=r"test.csv: no column 'g'|test.csv, column 'g'"):
        read_ranking(folder)


def test_a_table_and_an_svmlight_file_do_not_mix(write):
    folder = write("set/train.csv", "query,label,f\na,1,2\na,0,1\n").parent
    write("set/test.svm", SVM)
    with pytest.raises(DataError, match=r"test.svm: this file and train.csv describe items in"):
        read_ranking(folder)
