"""WARP of a factorisation as it trains: one operation, and by rows where the optimizer allows."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from torch import Tensor
from torch.optim import Optimizer

from lossmith.core.module import Objective
from lossmith.kernels.factor_warp import factor_warp, warp_step
from lossmith.tasks.factorization import Factorization
from lossmith.tasks.recommendation_feeds import Batch, margin_of
from lossmith.tasks.row_steps import RowSteps

if TYPE_CHECKING:
    from lossmith.tasks.recommendation import RecommendationProblem


def is_fused(objective: Objective) -> bool:
    """Whether the fused form of WARP has every knob that was given."""
    return objective.spec.name == "warp" and objective.given.keys() <= {"margin", "weighting"}


def fused_cost(
    problem: RecommendationProblem, model: Factorization, batch: Batch, objective: Objective
) -> Tensor:
    """What the feed of draws gives to WARP, and the penalty: the same numbers."""
    return factor_warp(*_pairs(model, batch), **_knobs(problem, batch, objective))


def step_by_rows(
    problem: RecommendationProblem, model: Factorization, optimizer: Optimizer, objective: Objective
) -> Callable[[Any], Tensor] | None:
    """Steps on the rows that a batch touched; None where the optimizer moves the others too."""
    if not RowSteps.fit(optimizer):
        return None
    steps = RowSteps(optimizer)
    tables = (model.users.weight, model.items.weight, model.item_bias.weight)

    def step(batch: Batch) -> Tensor:
        made = warp_step(*_pairs(model, batch), **_knobs(problem, batch, objective))
        steps.step(tuple(zip(tables, (made.users, made.items, made.bias), strict=True)))
        return made.value

    return step


def _pairs(model: Factorization, batch: Batch) -> tuple[Tensor, ...]:
    """The tables of the model, and the rows of them that go together."""
    bias = model.item_bias.weight.squeeze(-1)
    return model.users.weight, model.items.weight, bias, batch.users, batch.items


def _knobs(problem: RecommendationProblem, batch: Batch, objective: Objective) -> dict[str, Any]:
    """The rest of what the fused form is told."""
    return {
        "margin": margin_of(objective),
        "weighting": objective.weighting,
        "max_trials": batch.settings["max_trials"],
        "known": problem.known_to(batch),
        "l2": batch.settings["l2"],
        "generator": batch.generator,
    }
