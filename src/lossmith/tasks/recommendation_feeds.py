"""How the scores of users and items meet each kind of objective."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from lossmith.core.module import Objective
from lossmith.kernels.violators import sample_violators
from lossmith.tasks.recommender import Recommender

if TYPE_CHECKING:
    from lossmith.tasks.recommendation import RecommendationProblem


@dataclass(frozen=True)
class Batch:
    """Positive pairs, with the settings and the random state that draw negatives for them."""

    users: Tensor
    items: Tensor
    settings: Mapping[str, Any]
    generator: torch.Generator  # on the processor, wherever the pairs are


# The value of the objective, and the penalty of each pair of the batch.
Fed = tuple[Tensor, Tensor]


def _pairwise(
    problem: RecommendationProblem, model: Recommender, batch: Batch, objective: Objective
) -> Fed:
    """Each positive against uniform true negatives."""
    items, real = problem.negatives(batch, batch.settings["negatives"])
    scores, penalty = model(batch.users, torch.cat([batch.items.unsqueeze(-1), items], dim=-1))
    negative = scores[:, 1:]
    return objective(scores[:, :1].expand_as(negative), negative, mask=real), penalty


def _pointwise(
    problem: RecommendationProblem, model: Recommender, batch: Batch, objective: Objective
) -> Fed:
    """Positives are yes; uniform true negatives are no."""
    items, real = problem.negatives(batch, batch.settings["negatives"])
    scores, penalty = model(batch.users, torch.cat([batch.items.unsqueeze(-1), items], dim=-1))
    mask = torch.cat([torch.ones_like(real[:, :1]), real], dim=-1)
    target = torch.zeros_like(scores)
    target[:, 0] = 1
    return objective(scores, target, mask=mask), penalty


def _draws(
    problem: RecommendationProblem, model: Recommender, batch: Batch, objective: Objective
) -> Fed:
    """WARP's sampler: the first violator of each positive, and the trials it took."""
    margin = margin_of(objective)
    read = model.read(batch.users)
    with torch.no_grad():
        score = model.scorer(read)
    drawn = sample_violators(
        score,
        batch.items,
        num_items=problem.items,
        margin=margin,
        max_trials=batch.settings["max_trials"],
        known=problem.known_to(batch).rows(batch.users),
        generator=batch.generator,
    )
    scores, penalty = model.score(read, torch.stack([batch.items, drawn.item], dim=-1))
    # Where no violator was found item 0 stands in, which costs nothing and must not shrink either.
    stand_in = model.item_penalty(torch.zeros_like(batch.items[:1])).sum()
    penalty = penalty - torch.where(drawn.found, 0.0, stand_in)
    value = objective(
        scores[:, 0],
        scores[:, 1:],
        num_items=problem.items,
        trials=drawn.trials.unsqueeze(-1),
        mask=drawn.found.unsqueeze(-1),
    )
    return value, penalty


def margin_of(objective: Objective) -> float:
    """The margin of a WARP objective, a number."""
    margin = objective.given.get("margin", objective.spec.knobs["margin"].default)
    if not isinstance(margin, (int, float)):
        raise ValueError(f"{objective.text}: margin={margin!r} is not a number.")
    return margin


def _catalogue(
    problem: RecommendationProblem, model: Recommender, batch: Batch, objective: Objective
) -> Fed:
    """Each positive against every item that its user has not taken."""
    free = ~problem.known_to(batch).dense(batch.users)
    scores, penalty = _all_scores(model, batch)
    positive = scores.gather(-1, batch.items.unsqueeze(-1)).squeeze(-1)
    return objective(positive, scores, mask=free), penalty


def _softmax(
    problem: RecommendationProblem, model: Recommender, batch: Batch, objective: Objective
) -> Fed:
    """The item taken as a class among all items, or among ``softmax`` uniform ones beside it."""
    count = batch.settings["softmax"]
    if count == 0:
        scores, penalty = _all_scores(model, batch)
        return objective(scores, batch.items), penalty
    items, real = problem.negatives(batch, count)
    scores, penalty = model(batch.users, torch.cat([batch.items.unsqueeze(-1), items], dim=-1))
    # Far below any score, and still a number that a smoothed target can be multiplied by.
    known = torch.cat([torch.zeros_like(real[:, :1]), ~real], dim=-1)
    return objective(scores.masked_fill(known, -1e4), torch.zeros_like(batch.items)), penalty


def _all_scores(model: Recommender, batch: Batch) -> Fed:
    """The scores ``[B, N]``, and the penalty of each user with the item taken."""
    read = model.read(batch.users)
    penalty = model.user_penalty(read) + model.item_penalty(batch.items)
    return model.catalogue(read), penalty


def _lists(problem: RecommendationProblem, model: Recommender, batch: Batch) -> tuple[Tensor, ...]:
    """A row for each user of the batch: all scores, what is taken (1) or not (0), the penalty."""
    users = torch.unique(batch.users)
    read, taken = model.read(users), problem.known_to(batch).dense(users).float()
    penalty = model.user_penalty(read) + taken @ model.item_penalty()
    return model.catalogue(read), taken, penalty


def _relevance(
    problem: RecommendationProblem, model: Recommender, batch: Batch, objective: Objective
) -> Fed:
    """All items as the list of each user: those taken are relevant, every other one is not."""
    scores, taken, penalty = _lists(problem, model, batch)
    return objective(scores, taken), penalty


def _distribution(
    problem: RecommendationProblem, model: Recommender, batch: Batch, objective: Objective
) -> Fed:
    """All items as classes: those that a user has taken share the probability."""
    scores, taken, penalty = _lists(problem, model, batch)
    return objective(scores, taken / taken.sum(dim=-1, keepdim=True)), penalty


FEEDS = {
    "positive+draws": _draws,
    "positive+negative": _pairwise,
    "positive+catalogue": _catalogue,
    "logits+binary": _pointwise,
    "logits+class": _softmax,
    "scores+relevance": _relevance,
    "logits+partial": _relevance,
    "logits+distribution": _distribution,
}
