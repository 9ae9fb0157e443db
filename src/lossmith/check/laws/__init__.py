"""The laws: one file per group, gathered in the order of the files.

A new law is a function with :func:`law` above it in one of the modules here; nothing else names it.
"""

from __future__ import annotations

import importlib
import pkgutil
import sys
from types import ModuleType

from lossmith.check.laws.base import Broken, Law, NotApplicable, Untested, law, registry

__all__ = ["Broken", "Law", "NotApplicable", "Untested", "law", "laws"]


def laws() -> dict[str, Law]:
    """Every law by name.

    >>> list(laws())[:2]
    ['runs', 'gradient']
    """
    for module in pkgutil.iter_modules(__path__):
        importlib.import_module(f"{__name__}.{module.name}")
    return dict(sorted(registry.items(), key=lambda pair: pair[1].place))


class _Callable(ModuleType):
    """``lossmith.check.laws`` is this package and, called, the list of its laws."""

    def __call__(self) -> dict[str, Law]:
        return laws()


sys.modules[__name__].__class__ = _Callable
