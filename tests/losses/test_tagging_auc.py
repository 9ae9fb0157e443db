"""pairwise_auc against a loop over the pairs of each class."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from lossmith.losses.tagging import pairwise_auc
from lossmith.metrics.tagging import macro_auc

COSTS: dict[str, Callable[[Tensor], Tensor]] = {
    "squared_hinge": lambda d: (0.7 - d).clamp(min=0) ** 2,
    "hinge": lambda d: (0.7 - d).clamp(min=0),
    "logistic": lambda d: (1 + (-d).exp()).log(),
    "exponential": lambda d: (-d).exp(),
}
surrogates = pytest.mark.parametrize("surrogate", COSTS)


def batch(seed: int, rows: int = 9, classes: int = 4) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(rows, classes, generator=generator, dtype=torch.float64)
    labels = torch.randint(-1, 2, (rows, classes), generator=generator)
    labels[:, 3] = 1  # a class without a no
    return logits.requires_grad_(), labels, torch.rand(rows, classes, generator=generator) > 0.2


@surrogates
@pytest.mark.parametrize("seed", range(6))
def test_equals_a_loop(surrogate: str, seed: int) -> None:
    logits, labels, mask = batch(seed)
    means, some = [], 0
    for c in range(4):
        seen = [i for i in range(9) if mask[i, c] and labels[i, c] >= 0]
        terms = [
            COSTS[surrogate](logits[i, c] - logits[j, c])
            for i in seen
            for j in seen
            if labels[i, c] == 1 and labels[j, c] == 0
        ]
        means.append(sum(terms, 0 * logits[0, c]) / max(len(terms), 1))
        some += bool(terms)
    expected = torch.stack(means)
    knobs = {"surrogate": surrogate, "margin": 0.7, "mask": mask}
    ours = pairwise_auc(logits, labels, reduction="none", **knobs)
    torch.testing.assert_close(ours, expected)
    mean = pairwise_auc(logits, labels, **knobs)
    torch.testing.assert_close(mean, expected.sum() / max(some, 1))
    found, right = (
        torch.autograd.grad(value, logits, retain_graph=True)[0]
        for value in (mean, expected.sum() / max(some, 1))
    )
    torch.testing.assert_close(found, right)


@surrogates
def test_a_long_batch_costs_what_its_pairs_cost(surrogate: str) -> None:
    generator = torch.Generator().manual_seed(7)
    logits = torch.randn(3000, 2, generator=generator).requires_grad_()
    labels = torch.randint(0, 2, (3000, 2), generator=generator)
    ours = pairwise_auc(logits, labels, surrogate=surrogate, margin=0.7)
    means = []
    for c in range(2):
        yes, no = (logits[labels[:, c] == answer, c].double() for answer in (1, 0))
        means.append(COSTS[surrogate](yes.unsqueeze(1) - no).mean())
    expected = torch.stack(means).mean()
    torch.testing.assert_close(ours.double(), expected, rtol=1e-6, atol=0)
    found, right = (torch.autograd.grad(value, logits)[0] for value in (ours, expected))
    torch.testing.assert_close(found, right, rtol=1e-4, atol=1e-10)


@surrogates
def test_descent_reaches_an_auc_of_one(surrogate: str) -> None:
    start, labels, _ = batch(8)
    logits = start.detach().float().requires_grad_()
    optimizer = torch.optim.Adam([logits], lr=0.1)
    for _ in range(200):
        optimizer.zero_grad()
        pairwise_auc(logits, labels, surrogate=surrogate).backward()
        optimizer.step()
    assert macro_auc(logits.detach(), labels) == 1.0


def test_the_share_of_positives_does_not_enter() -> None:
    logits, labels, _ = batch(9)
    twice = (
        torch.cat([logits, logits[labels[:, 0] == 1]]),
        torch.cat([labels, labels[labels[:, 0] == 1]]),
    )
    once = pairwise_auc(logits, labels, reduction="none")[0]
    torch.testing.assert_close(pairwise_auc(*twice, reduction="none")[0], once)


def test_classes_without_both_answers_cost_nothing_and_are_not_counted() -> None:
    logits, labels, _ = batch(10)
    assert pairwise_auc(logits, labels, reduction="none")[3] == 0
    torch.testing.assert_close(
        pairwise_auc(logits, labels), pairwise_auc(logits[:, :3], labels[:, :3])
    )
    nothing = pairwise_auc(logits, torch.ones_like(labels))
    assert nothing == 0
    assert not torch.autograd.grad(nothing, logits)[0].any()


def test_missing_may_be_nan_and_leading_dimensions_are_examples() -> None:
    logits, labels, _ = batch(11, rows=8)
    value = pairwise_auc(logits, labels)
    marked = torch.where(labels < 0, math.nan, labels.double())
    assert pairwise_auc(logits, marked, missing=math.nan) == value
    folded = pairwise_auc(logits.reshape(2, 4, 4), labels.reshape(2, 4, 4))
    torch.testing.assert_close(folded, value)


def test_errors_say_what_is_wrong() -> None:
    logits = torch.zeros(2, 1)
    with pytest.raises(ValueError, match=r"labels\[1, 0\] is 0.5; expected 0, 1 or missing=-1"):
        pairwise_auc(logits, torch.tensor([[1.0], [0.5]]))
    with pytest.raises(ValueError, match="surrogate='square' is not a choice"):
        pairwise_auc(logits, torch.ones(2, 1), surrogate="square")
    with pytest.raises(ValueError, match="margin must lie in"):
        pairwise_auc(logits, torch.ones(2, 1), margin=-1.0)
