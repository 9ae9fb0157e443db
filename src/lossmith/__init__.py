"""Training objectives for text, search and recommendation: use them, check them, compare them.

    >>> import lossmith as lm
    >>> lm.info_nce.__name__, lm.InfoNCE.__name__
    ('info_nce', 'InfoNCE')

Names are resolved when first used, so importing this package does not import torch. The stub
``__init__.pyi`` is the list of them (SPEC 1); ``python tools/generate.py`` writes it.
"""

from __future__ import annotations

import ast
import importlib
from pathlib import Path
from typing import Any

__version__ = "0.1.0"


def _homes() -> dict[str, str]:
    """Each public name and the module that defines it, read from the stub."""
    stub = ast.parse(Path(__file__).with_suffix(".pyi").read_text("utf-8"))
    return {
        name.name: node.module
        for node in stub.body
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("lossmith.")
        for name in node.names
        if node.module
    }


_HOMES = _homes()
__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name.startswith("__"):  # asked by tools that probe modules, not by people
        raise AttributeError(f"module 'lossmith' has no attribute {name!r}")
    if name == "check":  # a package of its own, reached as lossmith.check.check_loss
        return importlib.import_module("lossmith.check")
    if name not in _HOMES:
        from lossmith.core.words import did_you_mean

        raise AttributeError(f"lossmith has no {name!r}.{did_you_mean(name, _HOMES)}")
    value = globals()[name] = getattr(importlib.import_module(_HOMES[name]), name)
    return value


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
