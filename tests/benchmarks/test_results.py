"""Statistics, verdicts, the store, its schema, and the page, on results made by hand."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks import page, run
from benchmarks.case import Case, Contender, Size
from benchmarks.measure import QUICK
from benchmarks.run import Options, run_all
from benchmarks.schema import misfits
from benchmarks.statistics import exponent, growing, ratio, spread
from benchmarks.store import Store
from benchmarks.verdict import checks, verdict

OPTIONS = Options(quick=False, threads=1, effort=QUICK, cap_mb=0)


def case(**changes: Any) -> Case:
    given = {
        "name": "fake row",
        "target": "twice as fast as peer",
        "inputs": lambda size: {"x": torch.ones(size["n"])},
        "contenders": {
            "lossmith": Contender(lambda given: given["x"]),
            "peer": Contender(lambda given: given["x"], environment="peer"),
        },
        "sizes": ({"n": 10}, {"n": 100}),
        "quick": ({"n": 10},),
        "floor": lambda given: given["x"],
        "at_most": {"peer": 0.5, "floor": 1.1, "memory @ n=100": 50.0},
        **changes,
    }
    return Case(**given)


def contender(seconds: list[float | None], memory: float | None = 1.0) -> dict[str, Any]:
    return {
        "environment": "main",
        "wall": seconds,
        "cpu": seconds,
        "value": None,
        "memory": memory,
        "gradients": 0.5,
        "error": None if seconds else "OutOfMemoryError: asks 4 GB",
    }


def measurement(n: int, **contenders: dict[str, Any]) -> dict[str, Any]:
    return {
        "case": "fake row",
        "size": {"n": n},
        "threads": 1,
        "began": "2026-01-01T00:00:00+00:00",
        "load": [0.1, 1.5],
        "machine": {
            "processor": "P",
            "cores": 2,
            "system": "S",
            "python": "3",
            "torch": "2",
        },
        "contenders": contenders,
    }


def test_ratios_are_taken_within_rounds() -> None:
    # Load that doubles both sides of a round leaves the ratio alone; means would give 6.5 / 5.
    found = ratio([2.0, 20.0, 4.0, None], [1.0, 10.0, 2.0, 7.0])
    assert found is not None
    assert (found.median, found.low, found.high, found.runs) == (2.0, 2.0, 2.0, 3)
    assert ratio([1.0], []) is None


def test_quartiles() -> None:
    assert spread([4.0, 1.0, 3.0, 2.0, 5.0]) == (3.0, 2.0, 4.0, 5)
    assert spread([None]) is None
    assert spread([7.0]) == (7.0, 7.0, 7.0, 1)


@pytest.mark.parametrize("power", [0.5, 1.0, 2.0])
def test_the_exponent_is_that_of_the_curve(power: float) -> None:
    assert exponent({x: 3 * x**power for x in (2.0, 8.0, 64.0)}) == pytest.approx(power)


def test_the_exponent_needs_two_points() -> None:
    assert exponent({2.0: 1.0}) is None
    assert exponent({2.0: 1.0, 4.0: 0.0}) is None
    assert growing([{"a": 1, "b": 2}]) is None


def test_bounds_are_judged_at_their_sizes() -> None:
    slow = contender([3.0, 3.0])
    measured = [
        measurement(10, lossmith=contender([1.0, 1.0]), peer=slow, floor=contender([1.0, 1.0])),
        measurement(
            100, lossmith=contender([2.0, 2.0], 60.0), peer=slow, floor=contender([1.0, 2.0])
        ),
    ]
    found = checks(case(), measured)
    assert [(one.what, one.size, one.met) for one in found] == [
        ("time of lossmith / peer", "n=10", True),
        ("time of lossmith / peer", "n=100", False),
        ("time of lossmith / floor", "n=10", True),
        ("time of lossmith / floor", "n=100", False),
        ("memory, MiB", "n=100", False),
    ]
    assert verdict(found) == "missed"
    assert verdict(found[:1]) == "met"


def test_a_peer_that_fails_is_not_beaten() -> None:
    measured = [measurement(10, lossmith=contender([1.0]), peer=contender([]))]
    found = checks(case(at_most={"peer": 0.5}), measured)
    assert found[0].met is None
    assert "asks 4 GB" in found[0].missing
    assert verdict(found) == "not seen"


def test_a_bound_may_name_both_sides() -> None:
    measured = [measurement(10, lossmith=contender([1.0]), peer=contender([4.0]))]
    found = checks(case(at_most={"peer / lossmith": 3.0}), measured)
    assert found[0].value is not None
    assert found[0].value.median == 4.0
    assert (
        checks(case(at_most={"pear": 3.0}), measured)[0].missing == "there is no contender 'pear'"
    )


def test_what_is_stored_is_found_again_and_fits_the_schema(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.put(measurement(10, lossmith=contender([1.0, None])))
    store.put(measurement(10, lossmith=contender([2.0, None])))
    again = Store(tmp_path)
    found = again.find("fake row", {"n": 10}, 1)
    assert found is not None
    assert found["contenders"]["lossmith"]["wall"] == [2.0, None]
    assert again.find("fake row", {"n": 10}, 2) is None
    assert misfits(json.loads((tmp_path / "results.json").read_text())) == []


def test_the_schema_tells_what_does_not_fit(tmp_path: Path) -> None:
    wrong = measurement(10, lossmith={**contender([1.0]), "wall": ["soon"], "more": 1})
    del wrong["load"]
    found = misfits({"version": 1, "measurements": [wrong]})
    assert found == [
        "results.measurements[0]: load is missing",
        "results.measurements[0].contenders.lossmith.wall[0]: 'soon' is not number or null",
        "results.measurements[0].contenders.lossmith: more is not known",
    ]
    with pytest.raises(ValueError, match="load is missing"):
        Store(tmp_path).put(wrong)
    (tmp_path / "results.json").write_text('{"version": 2, "measurements": []}')
    with pytest.raises(ValueError, match=r"2 is not 1. Try --fresh"):
        Store(tmp_path)


def test_a_contender_that_is_not_run_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    slow = Contender(lambda given: given["x"], quick=False)
    large = Contender(lambda given: given["x"], fits=lambda size: False)
    some = case(contenders={"slow": slow, "large": large}, floor=None)
    monkeypatch.setattr(run, "_times", lambda case, size, able, options: {n: {} for n in able})
    monkeypatch.setattr(run, "_memory", lambda *_: {})
    reasons = {}
    for quick in (False, True):
        options = replace(OPTIONS, quick=quick)
        found = run.measure(some, {"n": 10}, options, lambda text: None)["contenders"]
        reasons[quick] = {name: one["error"] for name, one in found.items()}
    assert reasons[False] == {"slow": None, "large": "not run: too large for it"}
    assert reasons[True]["slow"] == "not run: not part of the short run"


def test_a_run_resumes_after_what_is_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[Size] = []

    def measure(case: Case, size: Size, options: Options, say: Any) -> dict[str, Any]:
        done.append(size)
        if len(done) == 2:
            raise KeyboardInterrupt
        return measurement(size["n"], lossmith=contender([1.0]))

    monkeypatch.setattr(run, "measure", measure)
    with pytest.raises(KeyboardInterrupt):
        run_all([case()], Store(tmp_path), OPTIONS, lambda text: None)
    said: list[str] = []
    run_all([case()], Store(tmp_path), OPTIONS, said.append)
    assert done == [{"n": 10}, {"n": 100}, {"n": 100}]
    assert said == ["[1/1] fake row, n=100"]
    run_all([case()], Store(tmp_path), OPTIONS, said.append)
    assert said[-1].startswith("everything is measured")


def test_the_page_shows_rows_bounds_growth_and_notes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("matplotlib")
    notes = tmp_path / "notes.md"
    notes.write_text("## fake row\nBlocks of 64 were tried and lost.\n")
    monkeypatch.setattr(page, "NOTES", notes)
    store = Store(tmp_path)
    for n in (100, 10):
        ours, peer = contender([0.01 * n, 0.01 * n], n), contender([])
        store.put(measurement(n, lossmith=ours, peer=peer, floor=contender([0.01 * n] * 2)))
    rated = case(handled=lambda size: size["n"], unit="samples")
    text = page.write_page({"fake row": rated, "other": case(name="other")}, store, tmp_path)
    shown = text.read_text()
    assert "| [fake row](#fake-row) | twice as fast as peer | **missed**" in shown
    assert "; 2 of 3 bounds met |" in shown
    assert "| [other](#other) | twice as fast as peer | not measured |" in shown
    assert "| peer | OutOfMemoryError: asks 4 GB |" in shown
    assert "| **lossmith** | 0.1 [0.1, 0.1] | 0.1 | 1 [1, 1] | 1 [1, 1] | 10 | 100 |" in shown
    assert "| lossmith | 1.00 | 1.00 |" in shown
    assert "Blocks of 64 were tried and lost." in shown
    assert shown.index("**n=10**") < shown.index("**n=100**")
    assert (tmp_path / "fake-row.svg").read_text().startswith("<?xml")
    before = (tmp_path / "fake-row.svg").read_bytes()
    page.write_page({"fake row": rated}, store, tmp_path)
    assert (tmp_path / "fake-row.svg").read_bytes() == before


def test_notes_on_no_row_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    notes = tmp_path / "notes.md"
    notes.write_text("## gone\nText.\n")
    monkeypatch.setattr(page, "NOTES", notes)
    with pytest.raises(ValueError, match="gone, which is no case"):
        page.write_page({}, Store(tmp_path), tmp_path)
