"""Ranking objectives: long lists alone, many lists against those who form all pairs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.case import Case, Contender, Inputs, Size
from lossmith.kernels.pair_sums import Surrogate

GRADES = 5
Loss = Callable[[Tensor, Tensor], Tensor]


def lists(size: Size) -> Inputs:
    """Scores near what they should be, and grades."""
    generator = torch.Generator().manual_seed(0)
    shape = (size["lists"], size["n"])
    relevance = torch.randint(size.get("grades", GRADES), shape, generator=generator)
    scores = relevance + 2.0 * torch.randn(shape, generator=generator)
    return {"scores": scores.requires_grad_(), "relevance": relevance}


def step(loss: Loss) -> Callable[[Inputs], float]:
    """Forward and backward."""

    def run(inputs: Inputs) -> float:
        inputs["scores"].grad = None
        value = loss(inputs["scores"], inputs["relevance"])
        value.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        return value.item()

    return run


def ours(name: str, **knobs: Any) -> Contender:
    """The public function of that name."""

    def loss(scores: Tensor, relevance: Tensor) -> Tensor:
        import lossmith as lm

        value: Tensor = getattr(lm, name)(scores, relevance, **knobs)
        return value

    return Contender(step(loss))


def pairwise_auc(surrogate: Surrogate) -> Contender:
    """One class, a long batch."""

    def loss(scores: Tensor, relevance: Tensor) -> Tensor:
        import lossmith as lm

        return lm.pairwise_auc(scores.T, relevance.T, surrogate=surrogate)

    return Contender(step(loss))


def all_pairs(cost: Callable[[Tensor], Tensor]) -> Contender:
    """The published sum, with every pair materialised."""

    def loss(scores: Tensor, relevance: Tensor) -> Tensor:
        pair = relevance.unsqueeze(-1) > relevance.unsqueeze(-2)
        gap = scores.unsqueeze(-1) - scores.unsqueeze(-2)
        return torch.where(pair, cost(gap), 0.0).sum() / pair.sum()

    return Contender(step(loss), fits=lambda size: size["lists"] * size["n"] ** 2 <= 2**26)


def allrank(name: str, **knobs: Any) -> Contender:
    """A loss of allRank."""

    def loss(scores: Tensor, relevance: Tensor) -> Tensor:
        from allrank.models import losses

        value: Tensor = getattr(losses, name)(scores, relevance.float(), **knobs)
        return value

    return Contender(
        step(loss), "allrank", fits=lambda size: size["lists"] * size["n"] ** 2 <= 2**26
    )


def pytorchltr(name: str) -> Contender:
    """A loss of pytorchltr."""

    def loss(scores: Tensor, relevance: Tensor) -> Tensor:
        import pytorchltr.loss

        count = torch.full((len(scores),), scores.shape[1])
        value: Tensor = getattr(pytorchltr.loss, name)()(scores, relevance, count)
        return value.mean()

    return Contender(
        step(loss), "pytorchltr", fits=lambda size: size["lists"] * size["n"] ** 2 <= 2**26
    )


LONG: tuple[Size, ...] = tuple(
    {"lists": 1, "n": n, "grades": 2} for n in (4000, 10_000, 100_000, 1_000_000)
)
MANY: tuple[Size, ...] = ({"lists": 64, "n": 100}, {"lists": 64, "n": 1000})
QUICK: tuple[Size, ...] = ({"lists": 64, "n": 300},)
AHEAD = {"allRank @ n=100": 1 / 3, "allRank @ n=1000": 1 / 50}
LONG_TARGET = "a million scores under 2 s, memory linear (40 numbers a score), exact to 1e-6"


def a_sort(inputs: Inputs) -> Tensor:
    """What the order of the scores costs."""
    return inputs["scores"].detach().sort(dim=-1).values


def _long(name: str, us: Contender, cost: Callable[[Tensor], Tensor]) -> Case:
    return Case(
        name=f"{name}, one long list",
        target=LONG_TARGET,
        inputs=lists,
        contenders={"lossmith": us, "all pairs, materialised": all_pairs(cost)},
        sizes=LONG,
        quick=LONG[1:2],
        floor=a_sort,
        at_most={
            "all pairs, materialised @ n=4000": 1.0,
            "seconds @ n=1000000": 2.0,
            "memory @ n=1000000": 400.0,
        },
    )


def _softplus(gap: Tensor) -> Tensor:
    return F.softplus(-gap)


def _hinge(gap: Tensor) -> Tensor:
    return F.relu(1.0 - gap)


def _squared(gap: Tensor) -> Tensor:
    return F.relu(1.0 - gap).square()


def _exponential(gap: Tensor) -> Tensor:
    return (-gap).exp()


CASES = (
    _long("ranknet", ours("ranknet"), _softplus),
    _long("pairwise_hinge", ours("pairwise_hinge"), _hinge),
    _long("pairwise_squared_hinge", ours("pairwise_squared_hinge"), _squared),
    _long("pairwise_exponential", ours("pairwise_exponential"), _exponential),
    _long("pairwise_auc(logistic)", pairwise_auc("logistic"), _softplus),
    _long("pairwise_auc(squared_hinge)", pairwise_auc("squared_hinge"), _squared),
    Case(
        name="ranknet, many lists",
        target="at least 50 x faster than allRank at n = 1000, 3 x at n = 100",
        inputs=lists,
        contenders={
            "lossmith": ours("ranknet"),
            "allRank": allrank("rankNet"),
            "pytorchltr": pytorchltr("PairwiseLogisticLoss"),
            "all pairs, materialised": all_pairs(_softplus),
        },
        sizes=MANY,
        quick=QUICK,
        at_most=AHEAD,
    ),
    Case(
        name="lambda_loss(k=10), many lists",
        target="at least 50 x faster than allRank at n = 1000, 3 x at n = 100",
        inputs=lists,
        contenders={
            "lossmith": ours("lambda_loss", k=10),
            "lossmith without k": ours("lambda_loss"),
            "allRank": allrank("lambdaLoss", weighing_scheme="lambdaRank_scheme", k=10),
            "pytorchltr": pytorchltr("LambdaNDCGLoss2"),
        },
        sizes=MANY,
        quick=QUICK,
        at_most=AHEAD,
    ),
    Case(
        name="approx_ndcg, many lists",
        target="at least 50 x faster than allRank at n = 1000, 3 x at n = 100",
        inputs=lists,
        contenders={"lossmith": ours("approx_ndcg"), "allRank": allrank("approxNDCGLoss")},
        sizes=MANY,
        quick=QUICK,
        at_most=AHEAD,
    ),
    Case(
        name="list_mle, many lists",
        target="no slower than allRank, which leaves ties to chance",
        inputs=lists,
        contenders={"lossmith": ours("list_mle"), "allRank": allrank("listMLE")},
        sizes=MANY,
        quick=QUICK,
        at_most={"allRank": 1.0},
    ),
)
