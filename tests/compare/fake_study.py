"""A task without a model, and studies of it."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

from fake_run import GAINS, run_one

from lossmith.compare.plan import make_plan
from lossmith.compare.study import Study
from lossmith.core.words import did_you_mean
from lossmith.data.errors import DataError

DEFAULTS = {
    "model": "bag", "epochs": 4, "learning_rate": 0.01, "threads": 1, "metric": "",
    "delay": 0.0, "trouble": "", "log": "", "content": "0",
}  # fmt: skip
METRICS = {"accuracy": True, "log_loss": False}


class FakeTask:
    family = "classification"
    default_metric = "accuracy"
    default_losses = ("a", "b")
    trade_off = ("log_loss", "accuracy")
    settings = DEFAULTS

    def usual_losses(self, facts: Any, settings: dict[str, Any]) -> tuple[str, ...]:
        return self.default_losses

    def resolve(self, given: dict[str, Any]) -> dict[str, Any]:
        for name in given:
            if name not in DEFAULTS:
                raise ValueError(f"there is no setting {name!r}.{did_you_mean(name, DEFAULTS)}")
        values = {**DEFAULTS, **given}
        self.metrics(values)
        return values

    def metrics(self, settings: dict[str, Any]) -> tuple[Any, ...]:
        first = settings["metric"] or "accuracy"
        if first not in METRICS:
            raise ValueError(f"there is no metric {first!r}.{did_you_mean(first, METRICS)}")
        names = [first, *(name for name in METRICS if name != first)]
        return tuple(
            SimpleNamespace(name=n, higher_is_better=METRICS[n], definition="") for n in names
        )

    def is_peer(self, loss: str) -> bool:
        return False

    def check(self, loss: str, settings: dict[str, Any]) -> None:
        if loss.split("(")[0] not in GAINS:
            raise ValueError(f"there is no objective {loss!r}.{did_you_mean(loss, GAINS)}")

    def describe(self, data: str, settings: dict[str, Any]) -> Any:
        if data == "broken.csv":
            raise DataError("'maybe' is not a label", path="broken.csv", line=3, column="label")
        return SimpleNamespace(
            name=Path(data).stem,
            rows={"train": 1000, "valid": 100, "test": 250},
            notes=("The column 'review' was taken as the text.",),
            fingerprint=f"f{settings['content']}",
            split="random 80/20 s0",
            scorers=("accuracy:by hand",),
            facts={},
        )

    def usage(self, loss: str) -> str:
        return f"import lossmith as lm\n\nobjective = lm.from_text({loss!r})"


def study(folder: Path, losses: str = "a b", seeds: Any = 3, **asked: Any) -> Study:
    """A study of the fake task; what is not an argument of a plan is a setting."""
    task: Any = FakeTask()
    metric, baseline = asked.pop("metric", None), asked.pop("baseline", None)
    plan, description = make_plan(
        task, "reviews.csv", losses.split(), metric=metric, seeds=seeds, baseline=baseline,
        settings=asked,
    )  # fmt: skip
    return Study(plan, description, task, run_one, folder)


def pretend() -> dict[str, ModuleType]:
    """Modules that stand in for the real tasks and the real training."""
    registry, run = ModuleType("lossmith.tasks.registry"), ModuleType("lossmith.training.run")
    registry.load_task = lambda family: FakeTask()  # type: ignore[attr-defined]
    run.run_job = run_one  # type: ignore[attr-defined]
    return {registry.__name__: registry, run.__name__: run}


if __name__ == "__main__":  # the command line over the fake task, for tests that kill it
    sys.path.insert(0, str(Path(__file__).parent))
    import fake_study

    sys.modules.update(fake_study.pretend())
    from lossmith.cli import main

    main()
