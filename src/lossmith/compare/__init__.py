"""The experiment: the same model trained under several losses and seeds, and an honest verdict."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lossmith.compare.report import Report

__all__ = ["compare"]


def compare(
    family: str,
    data: str,
    losses: Sequence[str] | None = None,
    *,
    metric: str | None = None,
    seeds: int | Sequence[int] = 10,
    baseline: str | None = None,
    tune: int = 0,
    out: str | None = None,
    jobs: int | None = None,
    executor: str = "local",
    address: str | None = None,
    fresh: bool = False,
    quiet: bool = False,
    **settings: Any,
) -> Report:
    """Train the same model under several losses and seeds, and say what can be said.

    Args:
        family: what kind of problem, such as "ranking" (``lossmith.tasks.TASK_FAMILIES``).
        data: a file or a folder, or "embedded" for the text that every machine has.
        losses: texts such as "bpr" or "warp(margin=0.5)"; "loss@key=value" gives one of them a
            setting of its own. Left out: the usual ones of the family.
        metric: what decides (default: the family's).
        seeds: how many, or which.
        baseline: the loss that the others are compared with (default: the first).
        tune: trials that each loss gets in a search for its learning rate and knobs, on
            validation data; 0 for none.
        out: the run folder (default: one under ``runs/``, named after what is asked for). What
            is finished there is not trained again.
        jobs: trainings at the same time (default: what the processors have room for).
        executor: "local" for worker processes here, "ray" for a Ray cluster.
        address: of the cluster; default: one on this machine.
        fresh: start the folder over.
        quiet: no progress on stderr.
        settings: the task's settings: model, epochs, batch_size, learning_rate, ...

    In a script, call it below ``if __name__ == "__main__":``, because each worker process imports
    the script.
    """
    from lossmith.compare.study import prepare

    study = prepare(
        family,
        data,
        losses,
        metric=metric,
        seeds=seeds,
        baseline=baseline,
        tune=tune,
        out=out,
        settings=settings,
    )
    return study.run(jobs=jobs, executor=executor, address=address, fresh=fresh, quiet=quiet)
