"""The run folder: every finished training is one file, so that any stop can be picked up."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lossmith.compare.plan import Arm, Plan, PlanError, Run
from lossmith.compare.planfile import plan_text
from lossmith.training.files import alone_in, environment, unlike, write_whole
from lossmith.training.job import Outcome

if TYPE_CHECKING:  # needs torch, and a folder does not
    from lossmith.tasks.task import Description

PLAN_FILE = "plan.json"
REPLAY_FILE = "plan.toml"
REPORT_FILES = ("report.html", "report.md", "results.json", "results.csv")
OURS = (*REPORT_FILES, "data.json", "environment.json", "runs", "search", PLAN_FILE, REPLAY_FILE)


class Store:
    """One run folder. :meth:`open` is the way in."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @classmethod
    @contextlib.contextmanager
    def open(
        cls, folder: Path, plan: Plan, description: Description, *, fresh: bool = False
    ) -> Iterator[Store]:
        """Take the folder for this plan; a folder that holds another plan is refused."""
        store = cls(folder)
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise PlanError(f"{folder} cannot be used as the run folder: {error}.") from error
        with alone_in(folder, "lossmith compare"):
            if fresh and (folder / PLAN_FILE).exists():
                store._clear()
            else:
                store._claim(plan)
            store.write_json(PLAN_FILE, {"conditions": plan.conditions(), "plan": plan.as_dict()})
            store.write_text(REPLAY_FILE, plan_text(plan))
            store.write_json("data.json", describe(description))
            store.write_json("environment.json", environment())
            yield store

    def outcome(self, run: Run) -> Outcome | None:
        """What a finished training left, or None."""
        path = self._path(run)
        if not path.exists():
            return None
        return Outcome.from_dict(json.loads(path.read_text("utf-8"))["outcome"])

    def environment_of(self, run: Run) -> dict[str, Any]:
        """The versions with which a finished training was made."""
        values: dict[str, Any] = json.loads(self._path(run).read_text("utf-8"))["environment"]
        return values

    def save(self, run: Run, outcome: Outcome) -> None:
        """File a finished training; all of it is there, or nothing."""
        values = {
            "arm": run.arm.text,
            "seed": run.job.seed,
            "values": dict(run.values),
            "outcome": outcome.as_dict(),
            "environment": environment(),
        }
        self.write_json(self._path(run).relative_to(self.folder), values)
        self._error_path(run).unlink(missing_ok=True)

    def save_error(self, run: Run, text: str) -> None:
        """Keep why a training failed; the same command tries it again."""
        self._write(self._error_path(run), text)

    def trial(self, arm: Arm, number: int) -> tuple[dict[str, Any], Outcome] | None:
        """The values that a finished trial tried, and what came out."""
        path = self._trial_path(arm, number)
        if not path.exists():
            return None
        filed = json.loads(path.read_text("utf-8"))
        return filed["values"], Outcome.from_dict(filed["outcome"])

    def error(self, run: Run) -> str | None:
        """Why a training failed, in one line; None if it did not."""
        path = self._error_path(run)
        lines = path.read_text("utf-8").strip().splitlines() if path.exists() else []
        return lines[-1] if lines else None

    def write_json(self, name: str | Path, values: object) -> None:
        """Write values as JSON, atomically."""
        self._write(self.folder / name, json.dumps(values, indent=1, default=str) + "\n")

    def write_text(self, name: str, text: str) -> None:
        """Write text, atomically."""
        self._write(self.folder / name, text)

    def _trial_path(self, arm: Arm, number: int) -> Path:
        return self.folder / "search" / arm.slug / f"trial-{number}.json"

    def _path(self, run: Run) -> Path:
        if run.trial is not None:
            return self._trial_path(run.arm, run.trial)
        return self.folder / "runs" / run.arm.slug / f"seed-{run.job.seed}.json"

    def _error_path(self, run: Run) -> Path:
        return self._path(run).with_suffix(".error.txt")

    def _write(self, path: Path, text: str) -> None:
        write_whole(path, text.encode("utf-8"))

    def _claim(self, plan: Plan) -> None:
        path = self.folder / PLAN_FILE
        if not path.exists():
            others = sorted(entry.name for entry in self.folder.iterdir())
            if others:
                raise PlanError(
                    f"{self.folder} is not a run folder and not empty (it holds {others[0]!r}); "
                    "give a new folder with --out."
                )
            return
        before = json.loads(path.read_text("utf-8"))["conditions"]
        found = differences(before, plan.conditions())
        if found:
            raise PlanError(
                f"{self.folder} holds another comparison:\n"
                + "\n".join(f"  {line}" for line in found)
                + "\nGive another folder with --out, or start this one over with --fresh."
            )

    def _clear(self) -> None:
        """Remove what a comparison writes and nothing else."""
        for name in OURS:
            path = self.folder / name
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Sentences on what two sets of conditions disagree in; what all arms share is said once."""
    lines = unlike(*({k: v for k, v in each.items() if k != "arms"} for each in (before, now)))
    old, new = before.get("arms", {}), now.get("arms", {})
    lines += [f"loss {text!r}: there, not asked for" for text in old if text not in new]
    lines += [f"loss {text!r}: asked for, not there" for text in new if text not in old]
    shared = [text for text in new if text in old]
    changes: dict[tuple[str, str, str], list[str]] = {}
    for text in shared:
        for key in sorted({*old[text], *new[text]}):
            pair = repr(old[text].get(key)), repr(new[text].get(key))
            if pair[0] != pair[1]:
                changes.setdefault((key, *pair), []).append(text)
    for (key, was, wanted), texts in changes.items():
        where = "" if len(texts) == len(shared) else f" ({', '.join(texts)})"
        lines.append(f"{key}{where}: {was} there, {wanted} asked for")
    return lines


def describe(description: Description) -> dict[str, Any]:
    """The description of the data as plain values."""
    return {
        "name": description.name,
        "rows": dict(description.rows),
        "notes": list(description.notes),
        "fingerprint": description.fingerprint,
        "split": description.split,
        "scorers": list(description.scorers),
    }
