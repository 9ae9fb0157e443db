"""Every mistake of docs/gallery is caught by its law, and its corrected twin breaks none."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import pytest

from lossmith.check import check_loss
from lossmith.check.laws import laws
from lossmith.check.signature import parse_inputs
from lossmith.core.words import FAMILIES

GALLERY = Path(__file__).parents[2] / "docs" / "gallery"
FILES = sorted(GALLERY.glob("*.py"))
all_files = pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
CONSTANTS = {"FAMILY", "INPUTS", "CAUGHT_BY", "broken", "corrected"}


def load(path: Path) -> ModuleType:
    name = f"gallery_{path.stem}"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, path)
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module  # where pickle finds it again
        spec.loader.exec_module(module)
    return sys.modules[name]


def test_the_gallery_is_large_enough() -> None:
    assert len(FILES) >= 25


@all_files
def test_a_file_says_what_the_page_needs(path: Path) -> None:
    module = load(path)
    assert set(dir(module)) >= CONSTANTS
    assert module.FAMILY in FAMILIES
    assert set(module.CAUGHT_BY) <= set(laws()) and module.CAUGHT_BY
    parse_inputs(module.INPUTS)
    for part in ("\n\nPublished: ", "\nCosts: ", "\nMend: "):
        assert part in module.__doc__


@all_files
def test_the_mistake_is_caught_by_its_law(path: Path) -> None:
    module = load(path)
    report = check_loss(
        module.broken,
        family=module.FAMILY,
        inputs=module.INPUTS,
        args=getattr(module, "ARGS", None),
        laws=module.CAUGHT_BY,
        isolate=False,
    )
    assert report.broken == tuple(law for law in laws() if law in module.CAUGHT_BY)
    for finding in report.findings:
        assert finding.expected and finding.got and finding.hint


@all_files
def test_the_corrected_twin_breaks_no_law(path: Path) -> None:
    module = load(path)
    report = check_loss(
        module.corrected,
        family=module.FAMILY,
        inputs=module.INPUTS,
        args=getattr(module, "ARGS", None),
        seconds=60.0,
        isolate=False,
    )
    assert not report.broken, [
        (finding.law, finding.detail, finding.example, finding.expected, finding.got)
        for finding in report.findings
        if finding.status == "broken"
    ]
    untested = [finding for finding in report.findings if finding.status == "untested"]
    assert not untested, [(finding.law, finding.detail) for finding in untested]


def test_the_page_shows_the_numbers_of_every_law_that_catches() -> None:
    found = json.loads((GALLERY / "findings.json").read_text("utf-8"))
    assert {(path.stem, law) for path in FILES for law in load(path).CAUGHT_BY} == {
        (name, law) for name, laws_there in found.items() for law in laws_there
    }
