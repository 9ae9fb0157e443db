"""From ``module:attribute``, ``file.py:attribute`` or a name of the registry to a loss."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from lossmith.core.spec import parse
from lossmith.core.words import did_you_mean


def load(text: str) -> tuple[Any, dict[str, object]]:
    """The loss, and the knobs that the text brings.

    >>> load("info_nce(temperature=0.1)")[1]
    {'temperature': 0.1}
    >>> load("torch.nn:CrosEntropyLoss")
    Traceback (most recent call last):
        ...
    ValueError: torch.nn has no 'CrosEntropyLoss'. Did you mean 'CrossEntropyLoss'?
    """
    home, colon, path = text.rpartition(":")
    if not colon or "(" in home:
        spec, knobs = parse(text)
        return spec.function, knobs
    value: Any = _from_file(Path(home)) if home.endswith(".py") else _from_name(home)
    for part in path.split("."):
        if not hasattr(value, part):
            known = [name for name in dir(value) if not name.startswith("_")]
            hint = did_you_mean(part, known) if len(known) < 2000 else ""
            raise ValueError(f"{home} has no {part!r}.{hint if 'Did' in hint else ''}")
        value = getattr(value, part)
    if not callable(value):
        raise ValueError(f"{text} is {type(value).__name__}; expected something that is called.")
    return value, {}


def _from_file(path: Path) -> ModuleType:
    path = path.resolve()
    if not path.is_file():
        raise ValueError(f"there is no file {path.name!r} in {path.parent}.")
    if str(path.parent) not in sys.path:
        sys.path.insert(0, str(path.parent))
    found = importlib.util.find_spec(path.stem) if path.stem.isidentifier() else None
    if found is not None and found.origin and Path(found.origin).resolve() == path:
        return importlib.import_module(path.stem)
    spec = importlib.util.spec_from_file_location(f"checked_{path.stem}", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[module.__name__] = module
    spec.loader.exec_module(module)
    return module


def _from_name(name: str) -> ModuleType:
    if str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise ValueError(f"there is no module {error.name!r}.") from error
