"""The results file: what was measured so far, and whether a size is among it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.case import Size
from benchmarks.schema import misfits

NAME = "results.json"
Measurement = dict[str, Any]


class Store:
    """Measurements in one JSON file, written whole after each of them."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / NAME
        self.measurements: list[Measurement] = []
        if self.path.exists():
            found = json.loads(self.path.read_text())
            wrong = misfits(found)
            if wrong:
                raise ValueError(f"{self.path} does not fit the schema: {wrong[0]}. Try --fresh.")
            self.measurements = found["measurements"]

    def find(self, case: str, size: Size, threads: int) -> Measurement | None:
        """The measurement of a size, if there is one."""
        wanted = (case, dict(size), threads)
        return next((one for one in self.measurements if _key(one) == wanted), None)

    def put(self, measurement: Measurement) -> None:
        """Add a measurement in the place of an earlier one, and write the file."""
        wrong = misfits({"version": 1, "measurements": [measurement]})
        if wrong:
            raise ValueError(f"a measurement does not fit the schema: {wrong[0]}")
        kept = [one for one in self.measurements if _key(one) != _key(measurement)]
        self.measurements = [*kept, measurement]
        self.write()

    def forget(self, case: str, sizes: Sequence[Size]) -> None:
        """Drop what was measured of a case at these sizes."""
        self.measurements = [
            one for one in self.measurements if one["case"] != case or one["size"] not in sizes
        ]

    def write(self) -> None:
        """Replace the file in one step, so that a kill leaves the old one or the new one."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        beside = self.path.with_suffix(".part")
        results = {"version": 1, "measurements": self.measurements}
        beside.write_text(json.dumps(results, indent=1) + "\n")
        beside.replace(self.path)


def _key(measurement: Mapping[str, Any]) -> tuple[str, dict[str, int], int]:
    return measurement["case"], measurement["size"], measurement["threads"]
