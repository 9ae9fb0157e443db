from __future__ import annotations

import gzip
import json
import pickle
from pathlib import Path

import polars as pl
import pytest

from lossmith.data.errors import DataError
from lossmith.data.tables import load_table, read_table

ROWS = {"text": ["a, b", 'say "hi"', "é\nline"], "label": ["1", "0", "1"]}


def rows_as(ending: str, folder: Path) -> Path:
    path = folder / f"rows{ending}"
    frame = pl.DataFrame(ROWS)
    if ending.startswith((".csv", ".tsv")):
        content = frame.write_csv(separator="," if ending.startswith(".csv") else "\t")
    elif ending.startswith(".json") and "l" not in ending:
        content = json.dumps(frame.to_dicts())
    elif ending.startswith(".parquet"):
        frame.write_parquet(path)
        return path
    else:
        content = "\n".join(map(json.dumps, frame.to_dicts()))
    data = content.encode()
    path.write_bytes(gzip.compress(data) if ending.endswith(".gz") else data)
    return path


@pytest.mark.parametrize(
    "ending",
    [".csv", ".csv.gz", ".tsv", ".tsv.gz", ".jsonl", ".ndjson", ".jsonl.gz", ".json", ".parquet"],
)
def test_every_format_gives_the_same_table(ending: str, tmp_path: Path) -> None:
    assert read_table(rows_as(ending, tmp_path)).to_dict(as_series=False) == ROWS


def test_one_object_a_line_is_read_under_the_name_json_too(write) -> None:
    path = write("rows.json", '{"a": 1}\n{"a": 2}\n')
    assert read_table(path)["a"].to_list() == [1, 2]


def test_windows_line_ends_and_byte_order_mark_are_no_content(write) -> None:
    path = write("rows.csv", "\ufefftext,label\r\na,1\r\n")
    assert read_table(path).to_dict(as_series=False) == {"text": ["a"], "label": ["1"]}


def test_blank_lines_are_no_rows_and_lines_are_still_right(write) -> None:
    table = load_table(write("rows.csv", 'text,label\n\na,1\n\n"b\nb",2\nc,3\n'))
    assert table.frame["label"].to_list() == ["1", "2", "3"]
    assert [table.find_line(row) for row in range(3)] == [3, 5, 7]


def test_a_semicolon_separates_where_the_header_says_so(write) -> None:
    table = load_table(write("rows.csv", "text;label\na, b;1\n"))
    assert table.frame.to_dict(as_series=False) == {"text": ["a, b"], "label": ["1"]}
    assert "';'" in table.notes[0]


def test_a_blank_last_cell_is_not_a_short_row(write) -> None:
    assert read_table(write("rows.csv", "a,b\n1,\n2,3\n"))["b"].to_list() == [None, "3"]


@pytest.mark.parametrize(
    "content",
    [
        'text\tlabel\n"lone\t1\nb\t2\n',  # never closed
        'text\tlabel\n"foo" bar\t1\nb\t2\n',  # closed too early
        'text\tlabel\n"lone\t1\nother"\t2\n',  # closed two lines on, as if one row
    ],
)
def test_lone_quotation_marks_in_tsv_are_characters(content: str, write) -> None:
    table = load_table(write("rows.tsv", content))
    expected = [line.split("\t")[0] for line in content.splitlines()[1:]]
    assert table.frame["text"].to_list() == expected
    assert "quotation marks" in table.notes[0]


def test_a_value_may_be_longer_than_the_csv_module_allows(write) -> None:
    long = "x" * 200_000
    assert read_table(write("rows.csv", f"text,label\n{long},\n"))["text"][0] == long


def test_numbers_that_json_does_not_have_are_read_as_python_writes_them(write) -> None:
    values = read_table(write("rows.jsonl", '{"a": 1.0}\n{"a": NaN}\n'))["a"].to_list()
    assert values[0] == 1.0 and values[1] != values[1]


def raised(path: Path) -> DataError:
    with pytest.raises(DataError) as caught:
        load_table(path)
    return caught.value


@pytest.mark.parametrize(
    ("name", "content", "line", "parts"),
    [
        ("a.csv", "text,label\na,1\nb\nc,3\n", 3, ["1 value", "expected 2"]),
        ("a.csv", "text,label\na,1\n\nb,2,3\n", 4, ["3 values", "Quote"]),
        ("a.csv", 'text,label\na,1\n"b,2\nc,3\n', 3, ["quotation mark"]),
        ("a.csv", "a,a\n1,2\n", None, ["'a' twice"]),
        ("a.csv", "", None, ["empty"]),
        ("a.csv", "text,label\n", None, ["no rows"]),
        ("a.jsonl", '{"a": 1}\n\n{"a": 2\n{"a": 3}\n', 3, ["not JSON", "one object a line"]),
        ("a.jsonl", '{"a": 1}\n[1]\n', 2, ["JSON list", "an object"]),
        ("a.jsonl", '[{"a": 1},\n{"a": 2}]\n', 1, [".json, not .jsonl"]),
        ("a.json", '[{"a": 1},\n{"a": }]\n', 2, ["not JSON"]),
        ("a.json", "[1, 2]", None, ["list of objects"]),
        ("a.parquet", "not parquet at all", None, ["Parquet"]),
        ("a.csv.gz", "not packed", None, ["unpacked"]),
        ("a.xlsx", "x", None, ["'.xlsx'", ".parquet"]),
    ],
)
def test_a_fault_is_placed(name: str, content: str, line: int | None, parts, write) -> None:
    path = write(name, content)
    error = raised(path)
    assert error.path == str(path) and error.line == line
    assert str(error).startswith(f"{path}:{line}" if line else str(path))
    for part in parts:
        assert part in str(error)


def test_what_is_not_utf8_is_placed_by_byte_and_line(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes("text,label\na,1\ncafé,2\n".encode("cp1252"))
    error = raised(path)
    assert (error.line, error.value) == (3, 0xE9)
    assert "position 18" in str(error) and "iconv -f cp1252" in str(error)


def test_utf16_is_recognised(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes("text,label\na,1\n".encode("utf-16"))
    assert "UTF-16" in str(raised(path))


@pytest.mark.parametrize(
    ("asked", "said"),
    [("trian.csv", "Did you mean"), ("train", "train.csv"), ("else/x.csv", "holds 'train.csv'")],
)
def test_a_file_that_is_not_there_is_answered_with_its_neighbours(asked, said, write) -> None:
    folder = write("train.csv", "a\n1\n").parent
    error = raised(folder / asked)
    assert said in str(error) and "train.csv" in str(error)


def test_an_error_travels_between_processes_whole() -> None:
    error = DataError("bad", path="a.csv", line=3, column="x", value=7, expected="1", fix="Fix it.")
    copy = pickle.loads(pickle.dumps(error))
    assert str(copy) == str(error) == "a.csv:3, column 'x': bad; expected 1. Fix it."
    assert vars(copy) == vars(error)
