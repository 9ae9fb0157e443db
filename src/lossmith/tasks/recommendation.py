"""Interactions to a ranking of all items for each user."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn

from lossmith.core.metric import Metric
from lossmith.core.module import Objective
from lossmith.core.spec import Inputs
from lossmith.data.embedded import embedded
from lossmith.data.interactions import InteractionData, read_interactions, split_interactions
from lossmith.kernels.factor_warp import factor_warp
from lossmith.kernels.known_items import KnownItems
from lossmith.kernels.violators import dot_scores, sample_violators
from lossmith.metrics.recommendation import top_k_metrics
from lossmith.tasks.factorization import Factorization
from lossmith.tasks.reader import Reader
from lossmith.tasks.settings import COMMON, Setting
from lossmith.tasks.task import Description, Learner, Problem, Task, describe_split
from lossmith.tasks.text import shuffled_batches

USERS_AT_ONCE = 256


class Batch:
    """Positive pairs, with the settings and the random state that draw negatives for them."""

    def __init__(
        self, users: Tensor, items: Tensor, settings: Mapping[str, Any], generator: torch.Generator
    ) -> None:
        self.users, self.items = users, items
        self.settings, self.generator = settings, generator


class RecommendationProblem(Problem):
    """Pairs (user, item) that happened; everything else is unknown, mostly no."""

    def __init__(self, data: InteractionData, description: Description) -> None:
        self.data = data
        self.users, self.items = data.users, data.items
        self.description = description
        self.pairs = {
            name: (torch.from_numpy(part.users), torch.from_numpy(part.items))
            for name, part in data.parts.items()
        }
        self.taken = {
            name: KnownItems(*pairs, num_items=data.items) for name, pairs in self.pairs.items()
        }
        self.known = self.taken["train"]

    def model(self, settings: Mapping[str, Any]) -> nn.Module:
        """Matrix factorisation."""
        return Factorization(self.users, self.items, dimension=settings["dimension"])

    def batches(self, settings: Mapping[str, Any], seed: int, epoch: int) -> Iterable[Batch]:
        """Positive pairs; negatives are drawn with a generator of their own, also by seed."""
        users, items = self.pairs["train"]
        generator = torch.Generator().manual_seed(seed * 100_003 + epoch + 50_000)
        for rows in shuffled_batches(len(users), settings["batch_size"], seed, epoch):
            yield Batch(users[rows], items[rows], settings, generator)

    def generator(self, batch: Batch) -> torch.Generator:
        """The one that draws negatives."""
        return batch.generator

    def reader(self) -> Reader:
        """The names of users and items, and who has taken what."""
        from lossmith.tasks.recommendation_reader import RecommendationReader

        return RecommendationReader(self.data)

    def cost(self, model: nn.Module, batch: Batch, objective: Objective, feed: Inputs) -> Tensor:
        """The objective on one batch, and the penalty on the vectors that the batch used."""
        assert isinstance(model, Factorization)
        if _is_fused(objective):
            return self.fused_warp(model, batch, objective)
        value, penalty = _FEEDS[feed](self, model, batch, objective)
        l2 = batch.settings["l2"]
        return value + l2 * penalty.mean() if l2 > 0 else value

    def fused_warp(self, model: Factorization, batch: Batch, objective: Objective) -> Tensor:
        """What :func:`_draws` feeds to WARP and the penalty, as one operation: the same numbers."""
        return factor_warp(
            model.users.weight,
            model.items.weight,
            model.item_bias.weight.squeeze(-1),
            batch.users,
            batch.items,
            margin=_margin(objective),
            weighting=objective.weighting,
            max_trials=batch.settings["max_trials"],
            known=self.known,
            l2=batch.settings["l2"],
            generator=batch.generator,
        )

    def negatives(self, batch: Batch, count: int) -> tuple[Tensor, Tensor]:
        """Uniform items ``[B, count]`` for each pair, and which of them are true negatives."""
        items = torch.randint(self.items, (len(batch.users), count), generator=batch.generator)
        return items, ~self.known.contains(batch.users, items)

    @torch.no_grad()
    def evaluate(self, model: Any, part: str, metrics: Sequence[Metric]) -> dict[str, float]:
        """Each metric over all items, the user's training items left out, mean over users."""
        sums = {metric.name: 0.0 for metric in metrics}
        counts = dict.fromkeys(sums, 0)
        users, _ = self.pairs[part]
        for some in torch.split(torch.unique(users), USERS_AT_ONCE):
            relevant = self.taken[part].dense(some)
            excluded = self.known.dense(some)
            if part == "test" and "valid" in self.taken:
                excluded |= self.taken["valid"].dense(some)
            for name, values in top_k_metrics(
                model.all_scores(some), relevant, excluded, metrics
            ).items():
                real = ~values.isnan()
                sums[name] += float(values[real].sum())
                counts[name] += int(real.sum())
        return {name: sums[name] / counts[name] if counts[name] else math.nan for name in sums}


# The value of the objective, and the penalty of each pair of the batch.
Fed = tuple[Tensor, Tensor]


def _pairwise(
    problem: RecommendationProblem, model: Factorization, batch: Batch, objective: Objective
) -> Fed:
    """Each positive against uniform true negatives."""
    items, real = problem.negatives(batch, batch.settings["negatives"])
    scores, penalty = model(batch.users, torch.cat([batch.items.unsqueeze(-1), items], dim=-1))
    negative = scores[:, 1:]
    return objective(scores[:, :1].expand_as(negative), negative, mask=real), penalty


def _pointwise(
    problem: RecommendationProblem, model: Factorization, batch: Batch, objective: Objective
) -> Fed:
    """Positives are yes; uniform true negatives are no."""
    items, real = problem.negatives(batch, batch.settings["negatives"])
    scores, penalty = model(batch.users, torch.cat([batch.items.unsqueeze(-1), items], dim=-1))
    mask = torch.cat([torch.ones_like(real[:, :1]), real], dim=-1)
    target = torch.zeros_like(scores)
    target[:, 0] = 1
    return objective(scores, target, mask=mask), penalty


def _draws(
    problem: RecommendationProblem, model: Factorization, batch: Batch, objective: Objective
) -> Fed:
    """WARP's sampler: the first violator of each positive, and the trials it took."""
    margin = _margin(objective)
    with torch.no_grad():
        score = dot_scores(
            model.users(batch.users), model.items.weight, model.item_bias.weight.squeeze(-1)
        )
    drawn = sample_violators(
        score,
        batch.items,
        num_items=problem.items,
        margin=margin,
        max_trials=batch.settings["max_trials"],
        known=problem.known.rows(batch.users),
        generator=batch.generator,
    )
    scores, penalty = model(batch.users, torch.stack([batch.items, drawn.item], dim=-1))
    # Where no violator was found item 0 stands in, which costs nothing and must not shrink either.
    stand_in = model.items.weight[0].square().sum()
    penalty = penalty - torch.where(drawn.found, 0.0, stand_in)
    value = objective(
        scores[:, 0],
        scores[:, 1:],
        num_items=problem.items,
        trials=drawn.trials.unsqueeze(-1),
        mask=drawn.found.unsqueeze(-1),
    )
    return value, penalty


def _is_fused(objective: Objective) -> bool:
    """Whether the fused form of WARP has every knob that was given."""
    return objective.spec.name == "warp" and objective.given.keys() <= {"margin", "weighting"}


def _margin(objective: Objective) -> float:
    margin = objective.given.get("margin", objective.spec.knobs["margin"].default)
    if not isinstance(margin, (int, float)):
        raise ValueError(f"{objective.text}: margin={margin!r} is not a number.")
    return margin


def _catalogue(
    problem: RecommendationProblem, model: Factorization, batch: Batch, objective: Objective
) -> Fed:
    """Each positive against every item that its user has not taken."""
    free = ~problem.known.dense(batch.users)
    scores, penalty = model(batch.users, batch.items.unsqueeze(-1))
    return objective(scores.squeeze(-1), model.all_scores(batch.users), mask=free), penalty


def _softmax(
    problem: RecommendationProblem, model: Factorization, batch: Batch, objective: Objective
) -> Fed:
    """The item taken as a class among all items."""
    _, penalty = model(batch.users, batch.items.unsqueeze(-1))
    return objective(model.all_scores(batch.users), batch.items), penalty


_FEEDS = {
    "positive+draws": _draws,
    "positive+negative": _pairwise,
    "positive+catalogue": _catalogue,
    "logits+binary": _pointwise,
    "logits+class": _softmax,
}

RECOMMENDATION_SETTINGS: Mapping[str, Setting] = {
    "user": Setting(str, "", "name of the user column; empty: guessed"),
    "item": Setting(str, "", "name of the item column; empty: guessed"),
    "value": Setting(str, "", "name of the rating or count column; empty: guessed"),
    "minimum": Setting(float, None, "smallest rating that counts as an interaction; empty: any"),
    "dimension": Setting(int, 64, "size of the user and item vectors", low=1),
    "negatives": Setting(
        int, 1, "uniform negatives per positive, for the losses that take them", low=1
    ),
    "max_trials": Setting(int, 50, "draws in search of a violator, for WARP", low=1),
    "l2": Setting(float, 0.0, "penalty on the squared vectors that a batch used", low=0.0),
}


class RecommendationTask(Task):
    """Interactions to a ranking of all items."""

    family = "recommendation"
    default_losses = ("binary_cross_entropy", "bpr", "warp")
    own_inputs = "positive+negative"
    metric_names = ("precision@10", "recall@10", "ndcg@10", "auc")
    peers = ("lightfm(loss='warp')",)
    filled_in = frozenset({"num_items"})
    presets = {"factorization": {"epochs": 30, "batch_size": 1024, "learning_rate": 3e-3}}
    settings = {
        "model": Setting(str, "factorization", "reference model", choices=("factorization",)),
        **COMMON,
        **RECOMMENDATION_SETTINGS,
    }
    feeds = {
        "positive+draws": (
            "objective(positive, negatives, num_items=N, mask=true_negative)"
            "  # [B], [B, T] draws in order; see lm.sample_violators"
        ),
        "positive+negative": "objective(positive, negative, mask=true_negative)  # all [B, K]",
        "positive+catalogue": "objective(positive, scores, mask=true_negative)  # [B], [B, N]",
        "logits+binary": "objective(scores, target)  # both [B, K]; target 1 = taken, 0 = drawn",
        "logits+class": "objective(scores, item)  # [B, N] over all items, [B] the item taken",
    }

    def check(self, loss: str, settings: Mapping[str, Any]) -> None:
        """Raise unless the loss reads, has these knobs, and fits this task or is LightFM's."""
        if self.is_peer(loss):
            from lossmith.tasks.lightfm import check_knobs

            check_knobs(loss)
        else:
            super().check(loss, settings)

    def problem(self, data: str, settings: Mapping[str, Any]) -> RecommendationProblem:
        """The data in tensors."""
        return _load(
            data,
            (settings["user"], settings["item"], settings["value"], settings["minimum"]),
            (settings["test"], settings["valid"], settings["split_seed"]),
        )

    def restore(self, files: Mapping[str, bytes]) -> Reader:
        """The names of users and items, and who has taken what."""
        from lossmith.tasks.recommendation_reader import RecommendationReader

        return RecommendationReader.restore(files)

    def learner(
        self, problem: Problem, loss: str, settings: Mapping[str, Any], seed: int
    ) -> Learner:
        """Our model under an objective, or LightFM as the anchor."""
        if self.is_peer(loss):
            from lossmith.tasks.lightfm import LightFMLearner

            assert isinstance(problem, RecommendationProblem)
            return LightFMLearner(problem, loss, settings, seed)
        return super().learner(problem, loss, settings, seed)


@lru_cache(maxsize=2)
def _load(
    data: str, roles: tuple[str, str, str, float | None], split: tuple[float, float, int]
) -> RecommendationProblem:
    user, item, value, minimum = roles
    test, valid, seed = split
    if data == "embedded":
        found = embedded("recommendation")
        assert isinstance(found, InteractionData)
        source = found
    else:
        source = read_interactions(
            data, user=user or None, item=item or None, value=value or None, minimum=minimum
        )
    whole = split_interactions(source, test=test, valid=valid, seed=seed)
    description = Description(
        name=whole.name,
        rows={name: len(part.users) for name, part in whole.parts.items()},
        notes=whole.notes,
        fingerprint=whole.fingerprint,
        split=describe_split(source.parts, whole.parts, seed),
        facts={"users": whole.users, "items": whole.items},
    )
    return RecommendationProblem(whole, description)


TASK = RecommendationTask()
