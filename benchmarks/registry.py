"""All cases: every module of ``benchmarks.cases`` brings its ``CASES``."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Sequence

from benchmarks import cases
from benchmarks.case import Case


def load_cases() -> dict[str, Case]:
    """Every case by name, in the order of the modules and within them."""
    found: dict[str, Case] = {}
    for module in sorted(pkgutil.iter_modules(cases.__path__), key=lambda one: one.name):
        listed: Sequence[Case] = importlib.import_module(f"{cases.__name__}.{module.name}").CASES
        for case in listed:
            if case.name in found:
                raise ValueError(f"two cases are named {case.name!r}; a name is a row of the page.")
            found[case.name] = case
    return found
