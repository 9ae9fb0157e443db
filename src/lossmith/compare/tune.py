"""The same search for every loss: its learning rate and its own knobs, on validation data.

Each loss gets the same number of trials. The first is the default, so that a search can only help
on validation data; Optuna proposes the others. A trial never sees the test part. Which values a
trial tries depends on the loss, the number of the trial and what the earlier ones found, so an
interrupted search goes on as if nothing had happened.
"""

from __future__ import annotations

import hashlib
import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from lossmith.compare.plan import Arm, Plan, PlanError, Run
from lossmith.compare.store import Store
from lossmith.core.call import format_call, parse_call, split_at
from lossmith.core.own import is_own
from lossmith.training.job import Job

if TYPE_CHECKING:
    from lossmith.core.spec import Tune
    from lossmith.tasks.task import Task

SEED = 1_000_003  # of every trial: none of the seeds that the comparison itself is likely to use
Values = Mapping[str, Any]


@dataclass(frozen=True)
class Found:
    """What the search of one loss found."""

    arm: str
    trials: int
    failed: int
    default: float  # the deciding metric on validation data with the default values
    best: float
    values: Values  # where the best stood; empty where nothing is searched


def first_trials(plan: Plan, task: Task, store: Store) -> list[Run]:
    """The first trial of each loss that has not been made."""
    found = [_next_trial(plan, task, store, arm) for arm in searched_arms(plan, task)]
    return [run for run in found if run is not None]


def next_trial(plan: Plan, task: Task, store: Store, run: Run) -> Run | None:
    """The trial that follows one that is filed; a trial that left nothing ends its search."""
    return None if store.outcome(run) is None else _next_trial(plan, task, store, run.arm)


def searched_arms(plan: Plan, task: Task) -> list[Arm]:
    """The losses that have something to search for; another library's learner has not."""
    return [arm for arm in plan.arms if plan.tune and space(plan, task, arm)]


def tuned(plan: Plan, task: Task, store: Store) -> tuple[Plan, tuple[Found, ...]]:
    """The plan with each loss at the best values found so far, and what was found."""
    if not plan.tune:
        return plan, ()
    arms, found = [], []
    for arm in plan.arms:
        results = _results(plan, store, arm) if space(plan, task, arm) else []
        finite = [(values, score) for values, score in results if math.isfinite(score)]
        sign = 1.0 if plan.higher_is_better else -1.0
        best, score = max(finite, key=lambda one: sign * one[1], default=({}, math.nan))
        default = results[0][1] if results else math.nan
        found.append(
            Found(arm.text, len(results), len(results) - len(finite), default, score, best)
        )
        arms.append(_at(arm, best))
    return replace(plan, arms=tuple(arms)), tuple(found)


def space(plan: Plan, task: Task, arm: Arm) -> dict[str, Tune]:
    """What is searched for an arm: all that was not fixed by whoever asked."""
    from lossmith.core.spec import Tune, parse

    if task.is_peer(arm.loss):
        return {}
    fixed = {*plan.given, *(part.partition("=")[0] for part in split_at("@", arm.text)[1:])}
    found: dict[str, Tune] = {}
    if not is_own(arm.loss):  # of a loss of the user's own no range is known
        spec, knobs = parse(arm.loss)
        found = {name: tune for name, tune in spec.tune.items() if name not in knobs}
    rate = arm.settings.get("learning_rate")
    if rate and "learning_rate" not in fixed:
        found["learning_rate"] = Tune(rate / 10, rate * 10, log=True)
    return found


def _next_trial(plan: Plan, task: Task, store: Store, arm: Arm) -> Run | None:
    results = _results(plan, store, arm)
    number = len(results)
    if number >= plan.tune:
        return None
    values: Values = {}
    if number > 0:
        values = _proposal(plan, arm, number, space(plan, task, arm), results)
    at = _at(arm, values)
    job = Job(plan.family, plan.data, at.loss, SEED, at.settings, part="valid")
    return Run(arm, job, trial=number, values=values)


def _results(plan: Plan, store: Store, arm: Arm) -> list[tuple[Values, float]]:
    """Values and score of the finished trials in their order; NaN for one that failed."""
    found: list[tuple[Values, float]] = []
    for number in range(plan.tune):
        filed = store.trial(arm, number)
        if filed is None:
            break
        values, outcome = filed
        found.append((values, outcome.scores.get(plan.metric, math.nan)))
    return found


def _proposal(
    plan: Plan,
    arm: Arm,
    number: int,
    where: Mapping[str, Tune],
    results: Sequence[tuple[Values, float]],
) -> Values:
    optuna = _optuna()
    ways = {name: _distribution(optuna, tune) for name, tune in where.items()}
    digest = hashlib.sha256(f"{arm.text} {number}".encode()).digest()
    study = optuna.create_study(
        direction="maximize" if plan.higher_is_better else "minimize",
        sampler=optuna.samplers.TPESampler(
            seed=int.from_bytes(digest[:4], "little"), n_startup_trials=max(3, plan.tune // 4)
        ),
    )
    for values, score in results[1:]:  # the default may lie outside of what is searched
        state = optuna.trial.TrialState.COMPLETE if math.isfinite(score) else None
        study.add_trial(
            optuna.trial.create_trial(
                params=dict(values),
                distributions=ways,
                value=score if state else None,
                state=state or optuna.trial.TrialState.FAIL,
            )
        )
    return dict(study.ask(ways).params)


def _distribution(optuna: Any, tune: Tune) -> Any:
    if tune.choices:
        return optuna.distributions.CategoricalDistribution(tune.choices)
    return optuna.distributions.FloatDistribution(tune.low, tune.high, log=tune.log)


def _at(arm: Arm, values: Values) -> Arm:
    """The arm with values for its knobs, and for its learning rate."""
    if not values:
        return arm
    more = {key: value for key, value in values.items() if key != "learning_rate"}
    settings = {**arm.settings}
    if "learning_rate" in values:
        settings["learning_rate"] = values["learning_rate"]
    if not more:
        return Arm(arm.text, arm.loss, settings)
    name, knobs = parse_call(arm.loss)
    return Arm(arm.text, format_call(name, {**knobs, **more}), settings)


def _optuna() -> Any:
    try:
        import optuna
    except ModuleNotFoundError:
        raise PlanError(
            'a search needs Optuna. Install it with: pip install "lossmith[tune]"'
        ) from None
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.filterwarnings("ignore", module="optuna")
    return optuna
