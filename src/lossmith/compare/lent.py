"""What was handed over in Python: given a name, and sent along to where the training is."""

from __future__ import annotations

import pickle
import sys
import traceback
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from lossmith.compare.execute import RunOne, Successor, Watch, nothing_follows
from lossmith.compare.plan import PlanError, Run
from lossmith.core.metric import Metric
from lossmith.core.own import code_digest, is_own, lend
from lossmith.training.job import Epoch, Job, Outcome

Losses = Sequence[Any] | Mapping[str, Any]


@dataclass
class Lent:
    """Texts for everything that was asked for, and the objects that some of them stand for."""

    losses: list[str] = field(default_factory=list)
    settings: dict[str, object] = field(default_factory=dict)
    metric: str | None = None
    objects: dict[str, Any] = field(default_factory=dict)


def name_all(
    losses: Losses | None,
    *,
    metric: Any = None,
    metrics: Any = None,
    settings: Mapping[str, Any] | None = None,
) -> Lent:
    """Give every object a name: that of its key, or its own; a text stays what it is."""
    lent = Lent(settings=dict(settings or {}))
    named = losses.items() if isinstance(losses, Mapping) else [(None, one) for one in losses or ()]
    for name, loss in named:
        lent.losses.append(_loss(lent, name, loss))
    model = lent.settings.get("model")
    if model is not None and not isinstance(model, str):
        lent.settings["model"] = _name(lent, None, model, "a model")
    if isinstance(metrics, Mapping):
        listed = [_metric(lent, name, one) for name, one in metrics.items()]
        lent.settings["metrics"] = ",".join(listed)
    elif metrics is not None:
        lent.settings["metrics"] = metrics if isinstance(metrics, str) else ",".join(metrics)
    lent.metric = (
        metric if metric is None or isinstance(metric, str) else _metric(lent, None, metric)
    )
    return lent


def _loss(lent: Lent, name: str | None, loss: Any) -> str:
    from lossmith.core.module import Objective
    from lossmith.modules import from_text

    if name is None and isinstance(loss, str):
        return loss
    if name is None and isinstance(loss, Objective):
        return loss.text
    if isinstance(loss, str):
        if loss == name or is_own(loss):
            return loss
        try:
            loss = from_text(loss)  # under the name that it was given
        except ValueError as error:
            raise PlanError(f"{name}: {error}") from error
    return _name(lent, name, loss, "a loss")


def _metric(lent: Lent, name: str | None, metric: Any) -> str:
    if isinstance(metric, str):
        return metric
    if name is None and isinstance(metric, Metric):
        function = metric.function
        name = getattr(function, "__name__", None)
    return _name(lent, name, metric, "a metric")


def _name(lent: Lent, name: str | None, value: Any, what: str) -> str:
    if not (callable(value) or isinstance(value, Metric)):
        raise PlanError(f"{value!r:.60} is not {what}: expected a function, a class or a module.")
    if name is None:
        name = getattr(value, "__name__", None) or type(value).__name__
        if name == "<lambda>":
            raise PlanError(f"{what} without a name: give it one, as in {{'mine': lambda ...}}.")
    if not str(name).isidentifier():
        raise PlanError(f"{name!r} is no name for {what}; expected letters, digits and _.")
    if lent.objects.get(name, value) is not value:
        raise PlanError(f"two things are called {name!r}: give them names, as in {{'mine': ...}}.")
    _check_free(name)
    lent.objects[name] = value
    return name


def _check_free(name: str) -> None:
    from lossmith.core.metric import metrics
    from lossmith.core.spec import objectives

    taken = {spec.name for spec in objectives()} | {one.base for one in metrics()}
    if name in taken:
        raise PlanError(f"{name!r} is already the name of one of lossmith's own: take another.")


def carrier(run_one: RunOne, objects: Mapping[str, Any], code: Mapping[str, str]) -> RunOne:
    """What trains, with the user's own things at hand."""
    if not (objects or code):
        return run_one
    return partial(_run, run_one=run_one, objects=dict(objects), code=dict(code))


def _run(
    job: Job,
    *,
    run_one: RunOne,
    objects: Mapping[str, Any],
    code: Mapping[str, str],
    report: Callable[[Epoch, int], None] | None = None,
) -> Outcome:
    with lend(objects):
        for text in (job.loss, str(job.settings.get("model"))):
            own = is_own(text) and text not in objects
            if own and text in code and code_digest(text) != code[text]:
                raise RuntimeError(
                    f"the code of {text} was changed while the comparison ran; its trainings "
                    "would not be of one loss. Start over with --fresh (in Python, fresh=True)."
                )
        return run_one(job, report=report)


def why_here(run_one: RunOne) -> str | None:
    """Why this cannot be sent to another process; None if it can."""
    objects = run_one.keywords.get("objects", {}) if isinstance(run_one, partial) else {}
    for name, value in objects.items():
        try:
            pickle.dumps(value)
        except Exception as error:  # whatever an object raises that was not made to travel
            return f"{name} cannot be sent to another process ({error})"
        inner = value.function if isinstance(value, Metric) else value
        home = getattr(inner, "__module__", "")
        if home == "__main__" and not hasattr(sys.modules["__main__"], "__file__"):
            return f"{name} was made in a session that no other process can read"
    return None


def execute_here(
    runs: Sequence[Run], run_one: RunOne, *, watch: Watch, successor: Successor = nothing_follows
) -> None:
    """Train one after the other in this process; a training that raises is reported."""
    import torch

    threads, waiting = torch.get_num_threads(), deque(runs)
    try:
        while waiting:
            run = waiting.popleft()
            watch.started(run)
            try:
                outcome = run_one(run.job, report=partial(watch.epoch, run))
            except Exception as error:
                reason = f"{type(error).__name__}: {error}".strip()
                watch.failed(run, reason, traceback.format_exc())
            else:
                watch.finished(run, outcome)
            follower = successor(run)
            waiting.extend([] if follower is None else [follower])
    finally:
        torch.set_num_threads(threads)


__all__ = ["Lent", "Losses", "carrier", "execute_here", "name_all", "why_here"]
