"""The text form of "a name with keyword values": ``warp(margin=0.5, weighting='harmonic')``.

Used for objectives and metrics alike. Text is parsed, never evaluated.
"""

from __future__ import annotations

import ast
import math
from collections.abc import Mapping

# Words a shell user types without quotes; every other bare word stands for itself.
_WORDS = {"nan": math.nan, "inf": math.inf, "true": True, "false": False, "none": None}


def parse_call(text: str) -> tuple[str, dict[str, object]]:
    """Split ``name(key=value, ...)`` into the name and its values.

    >>> parse_call("warp(margin=0.5, weighting=harmonic)")
    ('warp', {'margin': 0.5, 'weighting': 'harmonic'})
    >>> parse_call("bpr")
    ('bpr', {})
    """
    try:
        node = ast.parse(text.strip(), mode="eval").body
    except SyntaxError:
        raise ValueError(_complaint(text)) from None
    if isinstance(node, ast.Name):
        return node.id, {}
    if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name)):
        raise ValueError(_complaint(text))
    if node.args or any(keyword.arg is None for keyword in node.keywords):
        raise ValueError(f"{text!r}: give every value by name, as in {node.func.id}(knob=0.5).")
    values: dict[str, object] = {}
    for keyword in node.keywords:
        assert keyword.arg is not None
        if keyword.arg in values:
            raise ValueError(f"{text!r}: {keyword.arg} is given twice.")
        values[keyword.arg] = _literal(keyword.value, text)
    return node.func.id, values


def format_call(name: str, values: Mapping[str, object]) -> str:
    """The inverse of :func:`parse_call`: a bare name when there is nothing to say.

    >>> format_call("warp", {"margin": 0.5}), format_call("bpr", {})
    ('warp(margin=0.5)', 'bpr')
    """
    if not values:
        return name
    return f"{name}({', '.join(f'{key}={_plain(value)!r}' for key, value in values.items())})"


def split_list(text: str) -> list[str]:
    """Split at the commas that stand outside brackets and quotes.

    >>> split_list("a, b(margin=0.7, power=2),c")
    ['a', 'b(margin=0.7, power=2)', 'c']
    """
    return [part for part in split_at(",", text) if part]


def split_at(mark: str, text: str) -> list[str]:
    """Split at the marks that stand outside brackets and quotes.

    >>> split_at("@", "bpr@l2=0.1@epochs=3")
    ['bpr', 'l2=0.1', 'epochs=3']
    """
    parts, depth, quote, start, escaped = [], 0, "", 0, False
    for i, letter in enumerate(text):
        if escaped:
            escaped = False
        elif quote:
            escaped = letter == "\\"
            quote = "" if letter == quote else quote
        elif letter in "'\"":
            quote = letter
        elif letter in "([{":
            depth += 1
        elif letter in ")]}":
            depth -= 1
        elif letter == mark and depth == 0:
            parts.append(text[start:i])
            start = i + 1
    return [part.strip() for part in [*parts, text[start:]]]


def _literal(node: ast.expr, text: str) -> object:
    if isinstance(node, ast.Name):
        return _WORDS.get(node.id.lower(), node.id)
    if isinstance(node, (ast.List, ast.Tuple)):
        values = [_literal(element, text) for element in node.elts]
        return values if isinstance(node, ast.List) else tuple(values)
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        value = _literal(node.operand, text)
        if isinstance(value, (int, float)):
            return -value
    try:
        return ast.literal_eval(node)
    except ValueError:
        raise ValueError(
            f"{text!r}: {ast.unparse(node)} is not a plain value; expected a number, a word, "
            "True, False, None or a list of them."
        ) from None


def _plain(value: object) -> object:
    """A tensor as the list that reads back as it."""
    return value.tolist() if hasattr(value, "tolist") else value


def _complaint(text: str) -> str:
    return f"{text!r} does not read as a name or as name(knob=value, ...)."
