"""Stand-ins for packages that a peer imports at its start and does not need for its losses.

torchvision must match torch to the build, and where it does not, importing it fails. What is
imported from a stand-in is an empty class.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import sys
import types
from collections.abc import Sequence
from typing import Any


class _Nothing(type):
    """The class of empty classes whose attributes are empty classes again."""

    def __getattr__(cls, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return _Nothing(name, (), {})


def _named(name: str) -> Any:
    return getattr(_Nothing("Nothing", (), {}), name)


class StandIns(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds the named packages, and everything in them, before anybody else does."""

    def __init__(self, names: Sequence[str]) -> None:
        self.names = frozenset(names)

    def find_spec(
        self, fullname: str, path: Any, target: Any = None
    ) -> importlib.machinery.ModuleSpec | None:
        """The spec of a stand-in, or None for every other module."""
        if fullname.split(".")[0] not in self.names:
            return None
        return importlib.machinery.ModuleSpec(fullname, self, is_package=True)

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> types.ModuleType:
        """An empty module that has every name."""
        made = types.ModuleType(spec.name)
        made.__dict__["__getattr__"] = _named
        return made

    def exec_module(self, module: types.ModuleType) -> None:
        """Nothing to run."""


def install_stand_ins(names: Sequence[str]) -> None:
    """Put stand-ins in the place of these packages, in this process."""
    if names:
        sys.meta_path.insert(0, StandIns(names))
