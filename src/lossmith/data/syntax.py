"""What the embedded data reads off Python source: names, words, calls; and its parts."""

from __future__ import annotations

import ast
import hashlib
import re
from collections.abc import Iterable, Iterator

from lossmith.data.corpus import Source

TEST_IN = 5  # one key in five goes to the test part
DOCSTRING_WORDS = 60

Function = ast.FunctionDef | ast.AsyncFunctionDef


def part_of(key: str) -> str:
    """The part of everything that has this key: by its hash, so the same on every machine.

    >>> {part_of(key) for key in ("a", "a")} <= {"train", "test"}
    True
    """
    place = int.from_bytes(hashlib.sha256(key.encode("utf-8", "replace")).digest()[:8], "big")
    return "test" if place % TEST_IN == 0 else "train"


def trees(sources: Iterable[Source]) -> Iterator[tuple[Source, ast.Module]]:
    """The sources that parse, with what they parse to."""
    for source in sources:
        tree = source.tree()
        if tree is not None:
            yield source, tree


def package_of(place: str) -> str:
    """The package or module of a file, an implementation counted with its module.

    >>> package_of("email/mime/text.py"), package_of("_pydecimal.py"), package_of("glob.py")
    ('email', 'decimal', 'glob')
    """
    top = place.split("/")[0].removesuffix(".py")
    return re.sub("^_+(py)?_*", "", top) or top


def without_name(text: str, name: str) -> str:
    """The text without that word, as a part of identifiers too.

    >>> without_name("asyncio.Task of _asyncio, asynciolike", "asyncio")
    '.Task of _, asynciolike'
    """
    word = re.compile(rf"(?<![^\W_]){re.escape(name)}(?![^\W_])", re.IGNORECASE)
    return word.sub("", text).strip()


def words(name: str) -> list[str]:
    """The words of an identifier or a path, lower case.

    >>> words("getHTTPHeader_2")
    ['get', 'httph', 'eader', '2']
    """
    return [word.lower() for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+|\d+", name)]


def functions(
    tree: ast.AST, outermost: Function | None = None
) -> Iterator[tuple[Function, Function]]:
    """Every function with the outermost one around it, or itself."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            yield node, outermost or node
            yield from functions(node, outermost or node)
        else:
            yield from functions(node, outermost)


def called_names(tree: ast.AST) -> set[str]:
    """The names that are called in it: ``f`` for ``f()``, ``append`` for ``list.append()``."""
    called = (node.func for node in ast.walk(tree) if isinstance(node, ast.Call))
    names = (
        function.id
        if isinstance(function, ast.Name)
        else function.attr
        if isinstance(function, ast.Attribute)
        else None
        for function in called
    )
    return {name for name in names if name}


def described(function: Function) -> list[str]:
    """What is known of a function from outside: words of its name, arguments and docstring."""
    docstring = re.findall("[a-z]+", (ast.get_docstring(function) or "").lower())
    arguments = [word for argument in function.args.args for word in words(argument.arg)]
    return [*words(function.name), *arguments, *docstring[:DOCSTRING_WORDS]]


def code_of(function: Function, lines: list[str]) -> str:
    """The lines of a function's body, without its docstring and its indentation.

    Copies of a function have it in common, whatever they are called and wherever they stand.
    """
    body = function.body[1:] if ast.get_docstring(function) is not None else function.body
    if not body:
        return ""
    own = lines[body[0].lineno - 1 : body[-1].end_lineno]
    return "\n".join(line.strip() for line in own)


def imported_names(tree: ast.AST) -> set[str]:
    """The names that are imported in it: modules, and what is taken from them."""
    nodes = (node for node in ast.walk(tree) if isinstance(node, (ast.Import, ast.ImportFrom)))
    return {alias.name for node in nodes for alias in node.names if alias.name != "*"}
