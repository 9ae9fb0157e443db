from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from lossmith.data import corpus
from lossmith.data.corpus import Source, cache_folder, standard_library
from lossmith.data.embedded import (
    candidate_rows,
    code_of,
    docstring_rows,
    embedded,
    function_rows,
    functions,
    name_rows,
    size_rows,
)
from lossmith.data.errors import DataError
from lossmith.data.progress import track

PACKAGES = ("asyncio", "email", "importlib", "logging", "tkinter")


@pytest.fixture
def small_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Five packages of the standard library, and a cache folder of one's own."""
    sources = [source for source in standard_library() if source.place.startswith(PACKAGES)]
    monkeypatch.setattr(corpus, "standard_library", lambda: sources)
    monkeypatch.setenv("LOSSMITH_CACHE", str(tmp_path))
    return tmp_path


def test_the_library_is_read_without_tests_and_installed_packages() -> None:
    places = [source.place for source in standard_library()]
    assert "json/decoder.py" in places and "argparse.py" in places
    assert places == sorted(places)
    assert not [place for place in places if "site-packages" in place or "/test" in place]
    assert "unittest/case.py" in places


def test_a_python_without_its_sources_says_so(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no source files"):
        standard_library(tmp_path)


@pytest.mark.parametrize("family", ["classification", "tagging", "regression"])
def test_texts_are_real_split_and_repeatable(family: str, small_library: Path) -> None:
    data = embedded(family)
    assert embedded(family).fingerprint == data.fingerprint
    assert list(data.parts) == ["train", "test"]
    train, test = data.parts["train"], data.parts["test"]
    assert len(train) > 500
    assert 0.1 < len(test) / (len(train) + len(test)) < 0.3


def test_packages_are_the_classes_and_their_names_are_left_out(small_library: Path) -> None:
    data = embedded("classification")
    assert set(data.classes) <= set(PACKAGES) and len(data.classes) >= 3
    for part in data.parts.values():
        for text, label in zip(part.texts, part.labels, strict=True):
            assert data.classes[label] not in text.lower().replace("_", " ").split()
    assert not set(data.parts["train"].texts) & set(data.parts["test"].texts)


def test_the_most_called_names_are_the_tags(small_library: Path) -> None:
    data = embedded("tagging")
    assert len(data.classes) == 30
    cells = np.concatenate([part.labels for part in data.parts.values()])
    assert set(np.unique(cells)) == {0.0, 1.0}  # every label is known
    assert (np.diff(cells.sum(axis=0)) <= 0).all()  # the most called first


def test_files_and_names_make_a_dense_enough_problem(small_library: Path) -> None:
    data = embedded("recommendation")
    pairs = data.parts["train"]
    assert list(data.parts) == ["train"]
    assert np.bincount(pairs.users, minlength=data.users).min() >= 10
    assert np.bincount(pairs.items, minlength=data.items).min() >= 5


def test_the_size_of_a_function_is_to_be_read_off_its_outside() -> None:
    code = """
def readLines(file_name, *, deep):
    '''Return the lines.'''
    if deep:
        for line in open(file_name):
            yield line
    return

def nothing():
    '''Only said.'''
"""
    frame = size_rows([Source("pkg/mod.py", code.encode())])
    assert frame["text"].to_list() == ["read lines file name return the lines m_pkg m_mod"]
    assert frame["target"].to_list() == [2.0]  # if, for, yield, return


def test_candidates_are_graded_by_how_near_they_are(small_library: Path) -> None:
    data = embedded("ranking")
    assert embedded("ranking").fingerprint == data.fingerprint
    train, test = data.parts["train"], data.parts["test"]
    assert 0.1 < len(test) / (len(train) + len(test)) < 0.3
    assert not set(train.queries) & set(test.queries)
    assert len(set(train.queries)) == len(train) > 200
    assert train.features.shape == (train.sizes.sum(), len(data.features))
    assert np.isfinite(train.features).all() and (train.features.std(axis=0) > 0).all()
    assert set(train.sizes.tolist()) == {20}
    grades = np.split(train.relevance, np.cumsum(train.sizes)[:-1])
    assert all((one == 4).sum() == 1 for one in grades)
    assert {0.0, 1.0, 2.0, 3.0, 4.0} == set(np.unique(train.relevance).tolist())
    # What the features are for: the function of a docstring shares more of its words.
    own = train.relevance == 4
    place = data.features.index("idf_share_in_code")
    assert train.features[own, place].mean() > 2 * train.features[~own, place].mean()


def test_a_copy_of_the_answer_is_no_candidate() -> None:
    body = (
        "    value = compute(first, second)\n    return value + first + second + third + fourth\n"
    )
    answer = f'def f{{}}(first):\n    """Add what is computed of the first."""\n{body}'
    others = "".join(
        f"def g{i}(a):\n    '''Do it for number {i} and say so.'''\n"
        f"    return one_{i}(a) + two_{i}(a) + three_{i}(a) + four_{i}(a)\n" for i in range(9)
    )  # fmt: skip
    sources = [Source("one.py", (answer.format(1) + others).encode()),
               Source("two.py", (answer.format(2) + others).encode())]  # fmt: skip
    frame = candidate_rows(sources)
    lists = frame.filter(pl.col("query").str.contains(":f"))
    assert lists.group_by("query").len()["len"].to_list() == [10, 10]
    # Itself, four of its module, and the other five from elsewhere: nine differ, and no copy is in.
    assert lists["relevance"].sort().to_list() == [0.0] * 10 + [2.0] * 8 + [4.0] * 2


def test_a_function_is_described_from_outside_and_labelled_by_what_it_calls() -> None:
    code = '''
def readLines(file_name, *, deep):
    """Return the lines, all of them."""
    return len(open(file_name).read())

def nothing():
    pass
'''
    frame = function_rows([Source("pkg/mod.py", code.encode())])
    assert frame["text"].to_list() == [
        "read lines file name return the lines all of them m_pkg m_mod"
    ]
    assert frame["labels"].to_list() == [["len", "open", "read"]]


def test_copies_of_a_function_and_functions_inside_it_stay_together() -> None:
    inner = "def f(a):\n    def g():\n        return len(a)\n    return g()\n"
    copy = 'class C:\n    def other(self):\n        """Copied."""\n'
    copy += "".join(f"    {line}\n" for line in inner.splitlines()[1:])
    sources = [Source(f"m{i}.py", code.encode()) for i, code in enumerate((inner, copy))]
    assert function_rows(sources)["part"].n_unique() == 1
    keys = {
        code_of(outermost, source.content.decode().splitlines())
        for source in sources
        for _, outermost in functions(source.tree())
    }
    assert keys == {"def g():\nreturn len(a)\nreturn g()"}


def test_sentences_that_open_alike_stay_together() -> None:
    docs = [f"Return the big red house of the old man number {i}." for i in range(90)]
    code = "".join(f"def f{i}():\n    '''{doc}'''\n" for i, doc in enumerate(docs))
    frame = docstring_rows([Source("pkg.py", code.encode())])
    assert frame.height == 90 and frame["part"].n_unique() == 1


def test_rare_files_and_names_are_pruned_until_none_is_left() -> None:
    common = "".join(f"f{i}()\n" for i in range(12))
    sources = [Source(f"m{i}.py", (common + f"only{i}()\n").encode()) for i in range(6)]
    sources.append(Source("small.py", b"f0()\nf1()\n"))
    frame = name_rows(sources)
    assert frame.height == 6 * 12
    assert not frame["item"].str.starts_with("only").any()


def test_what_does_not_parse_is_passed_over() -> None:
    assert name_rows([Source("bad.py", b"def (:\n"), Source("old.py", b"'\\d'\n")]).height == 0


# ---------------------------------------------------------------------------- the cache


def test_docstrings_ask_for_code_that_does_not_hold_them(small_library: Path) -> None:
    data = embedded("retrieval")
    assert embedded("retrieval").fingerprint == data.fingerprint
    train, test = data.parts["train"], data.parts["test"]
    assert len(train) > 500 and 0.1 < len(test) / (len(train) + len(test)) < 0.3
    assert not set(train.texts) & set(test.texts)
    assert len(set(data.documents)) == len(data.documents)
    shown = 0
    for query, document in zip(train.query[:300], train.document[:300], strict=True):
        code, asked = data.documents[document], train.texts[query]
        assert code.startswith(("def ", "async def "))
        shown += asked in code
    assert shown == 0


def test_the_cache_is_used_and_rebuilt_when_it_is_damaged(small_library: Path) -> None:
    first = embedded("recommendation")
    (file,) = small_library.iterdir()  # no temporary file is left beside it
    assert file.name.startswith("embedded-recommendation-python3.")
    stamp = file.stat().st_mtime_ns
    assert embedded("recommendation").fingerprint == first.fingerprint
    assert file.stat().st_mtime_ns == stamp
    file.write_bytes(b"damaged")
    assert embedded("recommendation").fingerprint == first.fingerprint
    assert file.read_bytes()[:4] == b"PAR1"


def test_other_sources_have_another_cache(
    small_library: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    embedded("recommendation")
    fewer = corpus.standard_library()[10:]
    monkeypatch.setattr(corpus, "standard_library", lambda: fewer)
    embedded("recommendation")
    assert len(list(small_library.iterdir())) == 2


def test_a_cache_that_cannot_be_written_costs_only_time(
    small_library: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blocked = small_library / "file"
    blocked.write_text("not a folder")
    monkeypatch.setenv("LOSSMITH_CACHE", str(blocked))
    assert embedded("recommendation").users > 0


def test_the_cache_folder_follows_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LOSSMITH_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", "/x")
    assert cache_folder() == Path("/x/lossmith")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_folder() == Path.home() / ".cache" / "lossmith"
    monkeypatch.setenv("LOSSMITH_CACHE", "/y")
    assert cache_folder() == Path("/y")


def test_a_family_without_embedded_data_is_named() -> None:
    with pytest.raises(ValueError, match="'translation' has no embedded data"):
        embedded("translation")


# ---------------------------------------------------------------------------- progress


def test_progress_is_on_stderr_and_only_after_a_second(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    assert list(track(range(3), "Quick")) == [0, 1, 2]
    assert capsys.readouterr() == ("", "")
    monkeypatch.setattr("lossmith.data.progress.PATIENCE", -1.0)
    assert list(track(range(3), "Reading")) == [0, 1, 2]
    out, err = capsys.readouterr()
    assert out == "" and "Reading" in err
    assert list(track(range(3), "Silent", show=False)) == [0, 1, 2]
    monkeypatch.setattr("sys.stderr.isatty", lambda: False)
    assert list(track(range(3), "Piped")) == [0, 1, 2]
    assert capsys.readouterr() == ("", "")
