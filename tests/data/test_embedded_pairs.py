"""The embedded pairs: code, the first line of its docstring, and the names in the code."""

from __future__ import annotations

import ast

import pytest

from lossmith.data.corpus import Source
from lossmith.data.embedded import embedded
from lossmith.data.embedded_pairs import CODE_WORDS, code_line, identifiers, pair_rows
from lossmith.data.keywords import add_keywords
from lossmith.data.parallel import split_parallel

CODE = b'''
def area(self, side, scale=1):
    """Return side times scale.

    More of it.
    """
    total = self.side * side
    return total * scale

def no_docstring(x):
    return x

class Box:
    async def close(self):
        """Close the box."""

def one_word():
    """Nothing."""

def copy(self, side, scale=1): "Two words"; return 1
'''


def test_a_pair_is_code_and_the_first_line_of_its_docstring():
    rows = pair_rows([Source("shapes.py", CODE)]).rows()
    assert rows == [
        (
            "def area(self, side, scale=1): total = self.side * side return total * scale",
            "Return side times scale.",
            ["area", "scale", "side", "total"],
        ),
        ("def copy(self, side, scale=1): return 1", "Two words", ["copy", "scale", "side"]),
        ("async def close(self): pass", "Close the box.", ["close"]),
    ]


def test_a_docstring_does_not_stand_in_its_own_source():
    function = ast.parse(CODE).body[0]
    assert isinstance(function, ast.FunctionDef)
    line = code_line(function)
    assert "times" not in line and line.startswith("def area(") and line.endswith("total * scale")
    assert identifiers(function) == {"area", "side", "scale", "total"}


@pytest.mark.slow
def test_the_standard_library_gives_thousands_of_pairs():
    data = split_parallel(embedded("generation"))
    assert data.fingerprint == split_parallel(embedded("generation")).fingerprint
    assert len(data.parts["train"]) > 1000 and list(data.parts) == ["train", "valid", "test"]
    assert all(code.count(" ") < CODE_WORDS for code in data.parts["train"].sources)
    asked = add_keywords(data, None).parts["train"]
    having = [(t, k) for t, k in zip(asked.targets, asked.keywords, strict=True) if k]
    assert len(having) > len(asked) / 4
    assert all(term.lower() in text.lower() for text, terms in having for term in terms)
