"""The experiment: the same model trained under several losses and seeds, and an honest verdict."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from lossmith.core.metric import Metric, judged

if TYPE_CHECKING:
    from torch import nn

    from lossmith.compare.report import Report

__all__ = ["compare", "judged"]

# A text, or something of one's own: a function, a class, a module.
Loss = str | Callable[..., Any]


def compare(
    family: str,
    data: str,
    losses: Sequence[Loss] | Mapping[str, Loss] | None = None,
    *,
    model: str | Callable[..., nn.Module] | None = None,
    metric: str | Metric | None = None,
    metrics: str | Sequence[str] | Mapping[str, str | Metric | Callable[..., Any]] | None = None,
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
            setting of its own. Or losses of your own, as functions, classes or modules, in a
            mapping from names if they have none; ``"my_losses.py:MyLoss(margin=0.5)"`` names one
            in a file. It is called as the family's losses are (``inputs="logits+class"``, or its
            attribute ``inputs``, says which of them). Left out: the usual ones of the family.
        model: one of the family's models, or a function or class that builds one of your own; it
            is called for each training, after the seed was set, with those of the family's facts
            (``vocabulary``, ``outputs``, ``features``, ...; ``settings``) that it has arguments
            for. What any module is called with, family by family, and what has to come out, is in
            docs/your-own.md; one that does not fit says so.
        metric: what decides (default: the family's, or the first of ``metrics``).
        metrics: what is reported; your own as ``{"gain": judged(f, higher_is_better=True)}``.
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
        settings: the task's settings: epochs, batch_size, learning_rate, ...

    In a script, call it below ``if __name__ == "__main__":``, because each worker process imports
    the script. What cannot be sent to another process (a lambda, a class inside a function, what
    a notebook defines) trains in this one with ``jobs=1``.
    """
    from lossmith.compare.study import prepare

    if model is not None:
        settings["model"] = model
    study = prepare(
        family,
        data,
        losses,
        metric=metric,
        metrics=metrics,
        seeds=seeds,
        baseline=baseline,
        tune=tune,
        out=out,
        settings=settings,
    )
    return study.run(jobs=jobs, executor=executor, address=address, fresh=fresh, quiet=quiet)
