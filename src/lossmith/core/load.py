"""From ``module:attribute``, ``file.py:attribute`` or a name of the registry to what it names."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import sys
import traceback
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

from lossmith.core.spec import parse
from lossmith.core.words import did_you_mean

MANY = 12  # names; a longer list says less than none


class LoadError(ValueError):
    """There is no such thing; the message says why and what to type."""


def load(text: str) -> tuple[Any, dict[str, object]]:
    """The loss that ``file.py:Name``, ``package.module:Name`` or ``info_nce(...)`` names.

    A name of the registry may bring knobs, which are returned beside its function.

    >>> load("info_nce(temperature=0.1)")[1]
    {'temperature': 0.1}
    >>> load("torch:softmx")
    Traceback (most recent call last):
        ...
    lossmith.core.load.LoadError: torch has no 'softmx'. Did you mean 'softmax'?
    """
    home, colon, _ = text.rpartition(":")
    if not colon or "(" in home:
        return _of_registry(text)
    return load_attribute(text), {}


def load_attribute(text: str) -> Any:
    """What ``file.py:Name`` or ``package.module:Name`` names: something that can be called.

    >>> load_attribute("math:hypot")(3, 4)
    5.0
    """
    home, _, name = text.rpartition(":")
    if not (home and name):
        raise LoadError(f"{text!r} does not read as file.py:Name or package.module:Name.")
    module = _from_file(Path(home)) if home.endswith(".py") else _from_package(home)
    return _attribute(module, home, name)


def _of_registry(text: str) -> tuple[Any, dict[str, object]]:
    try:
        spec, knobs = parse(text)
    except ValueError as error:
        hint = ""
        if text.endswith(".py") or Path(text).exists():
            hint = f" To check a loss of a file, name it: {text}:MyLoss."
        elif "." in text:
            start, _, end = text.rpartition(".")
            hint = f" A loss of a module is named with a colon: {start}:{end}."
        raise LoadError(f"{str(error).rstrip()}{hint}") from error
    return spec.function, knobs


def _from_file(path: Path) -> ModuleType:
    if not path.is_file():
        near = _near(path.name, [p.name for p in path.parent.glob("*.py")])
        raise LoadError(f"there is no file {str(path)!r}.{near}")
    path = path.resolve()
    _search_first(path.parent)
    known = importlib.util.find_spec(path.stem) if path.stem.isidentifier() else None
    if known is not None and known.origin and Path(known.origin).resolve() == path:
        return _import(path.stem)
    # A file whose name another module has, or cannot have: under a name of its own.
    spec = importlib.util.spec_from_file_location(f"loaded_{path.stem}", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[module.__name__] = module
    with _shown_without_us(str(path)):
        spec.loader.exec_module(module)
    return module


def _from_package(name: str) -> ModuleType:
    if not all(part.isidentifier() for part in name.split(".")):
        raise LoadError(f"{name!r} is neither a module nor a file that ends with .py.")
    _search_first(Path.cwd())
    return _import(name)


def _import(name: str) -> ModuleType:
    with _shown_without_us(name):
        try:
            return importlib.import_module(name)
        except ModuleNotFoundError as error:
            if error.name is None or not f"{name}.".startswith(f"{error.name}."):
                raise  # a module that the user's module wants
            near = _near(error.name, _neighbours(error.name))
            raise LoadError(f"there is no module {error.name!r}.{near}") from error


def _neighbours(name: str) -> Iterable[str]:
    """Modules that stand where this one was looked for."""
    import pkgutil

    package, _, _ = name.rpartition(".")
    where = sys.modules[package].__path__ if package in sys.modules else None
    prefix = f"{package}." if package else ""
    return [prefix + found.name for found in pkgutil.iter_modules(where)]


def _near(word: str, known: Iterable[str]) -> str:
    """A suggestion, or the list of what there is when it is short."""
    known = list(known)
    text = did_you_mean(word, known)
    return text if len(known) <= MANY or not text.startswith(" Known:") else ""


def _search_first(folder: Path) -> None:
    """Find the modules of a folder, as ``python -m`` does."""
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))


@contextlib.contextmanager
def _shown_without_us(name: str) -> Iterator[None]:
    """An error of the user's module as a message with its own file and line; prints to stderr."""
    try:
        with contextlib.redirect_stdout(sys.stderr):
            yield
    except LoadError:
        raise
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # SystemExit too: a script without a main guard
        raise LoadError(f"{name} cannot be imported.\n{_their_lines(error)}") from error


def _their_lines(error: BaseException) -> str:
    """What Python would print, less the frames of the import machinery and of this module."""
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if not frame.filename.startswith("<frozen") and "importlib" not in frame.filename
        if Path(frame.filename) != Path(__file__)
    ]
    lines = [f"  {frame.filename}:{frame.lineno}\n    {frame.line}" for frame in frames[-3:]]
    if isinstance(error, SyntaxError) and error.filename:
        lines = [f"  {error.filename}:{error.lineno}\n    {(error.text or '').strip()}"]
        return "\n".join([*lines, f"  {type(error).__name__}: {error.msg}"])
    return "\n".join([*lines, f"  {type(error).__name__}: {error}"])


def _attribute(module: ModuleType, home: str, name: str) -> Any:
    value: Any = module
    for part in name.split("."):
        if not hasattr(value, part):
            known = [n for n in dir(value) if not n.startswith("_") and callable(getattr(value, n))]
            raise LoadError(f"{home} has no {part!r}.{_near(part, known)}")
        value = getattr(value, part)
    if not callable(value):
        raise LoadError(
            f"{home}:{name} is {type(value).__name__} {value!r:.60}; expected a function, "
            "a module or a class."
        )
    return value
