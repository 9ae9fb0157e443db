"""The objectives that stand in for nDCG, against loops written from the papers."""

from __future__ import annotations

import itertools
from math import log2

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from lossmith.losses.ranking import approx_ndcg, lambda_loss, ranknet

SEEDS = range(8)
WEIGHTINGS = ("ndcg", "ndcg_loss2", "ndcg_loss2pp")


def batch(seed: int, rows: int = 3, n: int = 7) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    scores = torch.randn(rows, n, generator=generator, dtype=torch.float64).requires_grad_()
    relevance = torch.randint(0, 4, (rows, n), generator=generator)
    mask = torch.rand(rows, n, generator=generator) > 0.25
    return scores, relevance, mask, torch.rand(rows, generator=generator, dtype=torch.float64)


def loop_gains(y: list[int], gain: str, k: int | None) -> list[float]:
    gains = [2.0**v - 1 if gain == "exponential" else float(v) for v in y]
    best = sorted(gains, reverse=True)[:k]
    ideal = sum(g / log2(2 + p) for p, g in enumerate(best))
    return [g / ideal if ideal > 0 else 0.0 for g in gains]


def pair_weight(p: int, q: int, weighting: str, mu: float) -> float:
    swap = abs(1 / log2(1 + p) - 1 / log2(1 + q))
    d = abs(p - q)
    near = 1 / log2(1 + d) - 1 / log2(2 + d)
    return {"ndcg": swap, "ndcg_loss2": near, "ndcg_loss2pp": swap + mu * near}[weighting]


def loop_lambda(
    s: Tensor, y: list[int], weighting: str, k: int | None, gain: str, mu: float
) -> tuple[Tensor, bool]:
    """One list without ties in score."""
    gains = loop_gains(y, gain, k)
    order = sorted(range(len(y)), key=lambda i: -float(s[i].detach()))
    place = {i: p for p, i in enumerate(order, start=1)}
    total, pairs = 0 * s.sum(), 0
    for i, j in itertools.product(range(len(y)), repeat=2):
        if y[i] <= y[j]:
            continue
        pairs += 1
        if k is not None and min(place[i], place[j]) > k:
            continue
        weight = pair_weight(place[i], place[j], weighting, mu) * (gains[i] - gains[j])
        total = total + weight * (1 + (s[j] - s[i]).exp()).log()
    return total, pairs > 0


def assert_same(ours: Tensor, theirs: Tensor, x: Tensor) -> None:
    torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-12)
    direction = torch.arange(1.0, ours.numel() + 1, dtype=ours.dtype).reshape(ours.shape)
    mine, right = (
        torch.autograd.grad((value * direction).sum(), x, retain_graph=True)[0]
        for value in (ours, theirs)
    )
    torch.testing.assert_close(mine, right, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("gain", ["exponential", "linear"])
@pytest.mark.parametrize("k", [None, 1, 3, 50])
@pytest.mark.parametrize("weighting", WEIGHTINGS)
def test_lambda_loss_equals_a_loop(weighting: str, k: int | None, gain: str) -> None:
    for seed in SEEDS:
        scores, relevance, mask, weight = batch(seed)
        costs, some = [], 0
        for s, y, real, w in zip(scores, relevance, mask, weight, strict=True):
            cost, counts = loop_lambda(s[real], y[real].tolist(), weighting, k, gain, 5.0)
            costs.append(w * cost)
            some += counts
        expected = torch.stack(costs)
        knobs = {"weighting": weighting, "k": k, "gain": gain, "mu": 5.0}
        kept = {"mask": mask, "weight": weight}
        ours = lambda_loss(scores, relevance, reduction="none", **knobs, **kept)
        assert_same(ours, expected, scores)
        mean = lambda_loss(scores, relevance, **knobs, **kept)
        assert_same(mean, expected.sum() / max(some, 1), scores)


@pytest.mark.parametrize("gain", ["exponential", "linear"])
@pytest.mark.parametrize("temperature", [0.2, 1.0])
def test_approx_ndcg_equals_a_loop(temperature: float, gain: str) -> None:
    for seed in SEEDS:
        scores, relevance, mask, weight = batch(seed)
        mask[1] = False
        costs, some = [], 0
        for s, y, real, w in zip(scores, relevance, mask, weight, strict=True):
            s, gains = s[real], loop_gains(y[real].tolist(), gain, None)
            ndcg = 0 * s.sum()
            for i, g in enumerate(gains):
                others = [((s[j] - s[i]) / temperature) for j in range(len(s)) if j != i]
                rank = 1 + sum(1 / (1 + (-x).exp()) for x in others)
                ndcg = ndcg + g / (torch.as_tensor(1.0 + rank, dtype=s.dtype)).log2()
            some += any(gains)
            costs.append(w * (1 - ndcg) if any(gains) else ndcg)
        expected = torch.stack(costs)
        knobs = {"temperature": temperature, "gain": gain}
        kept = {"mask": mask, "weight": weight}
        ours = approx_ndcg(scores, relevance, reduction="none", **knobs, **kept)
        assert_same(ours, expected, scores)
        mean = approx_ndcg(scores, relevance, **knobs, **kept)
        assert_same(mean, expected.sum() / some, scores)


def test_two_items_tie_lambda_loss_to_ranknet() -> None:
    scores = batch(1, 20, 2)[0]
    relevance = torch.tensor([[1, 0]]).expand(20, 2)
    for weighting in ("ndcg", "ndcg_loss2"):
        ours = lambda_loss(scores, relevance, weighting=weighting)
        assert_same(ours, (1 - 1 / log2(3)) * ranknet(scores, relevance), scores)


def test_approx_ndcg_without_temperature_is_one_less_ndcg() -> None:
    scores, relevance, _, _ = batch(2)
    ours = approx_ndcg(scores, relevance, temperature=1e-4, reduction="none")
    for s, y, value in zip(scores, relevance, ours, strict=True):
        gains = loop_gains(y.tolist(), "exponential", None)
        order = s.argsort(descending=True).tolist()
        ndcg = sum(gains[i] / log2(2 + p) for p, i in enumerate(order))
        assert value.item() == pytest.approx(1 - ndcg, abs=1e-9)


@pytest.mark.parametrize("k", [None, 2])
@pytest.mark.parametrize("weighting", WEIGHTINGS)
def test_tied_scores_are_pulled_apart_whatever_the_order_of_the_input(
    weighting: str, k: int | None
) -> None:
    relevance = torch.tensor([0, 2, 1, 0, 2, 1, 0, 0])
    found = {}
    for seed in range(10):
        order = torch.randperm(8, generator=torch.Generator().manual_seed(seed))
        scores = torch.zeros(1, 8, dtype=torch.float64, requires_grad=True)
        value = lambda_loss(scores, relevance[order].unsqueeze(0), weighting=weighting, k=k)
        (slope,) = torch.autograd.grad(value, scores)
        for grade in range(3):
            own = slope[0, relevance[order] == grade]
            torch.testing.assert_close(own, own.mean().expand_as(own))
            assert found.setdefault(grade, own[0].item()) == pytest.approx(own[0].item())
        assert found.setdefault("value", value.item()) == pytest.approx(value.item())
    assert found[2] < 0 < found[0]


def test_equal_items_share_the_mean_gradient_over_their_orders() -> None:
    """Scores nudged into each order of two equal items, against the two left equal."""
    relevance = torch.tensor([[1, 1, 0, 3]])
    even = torch.tensor([[0.5, 0.5, 0.7, 0.1]], dtype=torch.float64)
    slopes = []
    for nudge in (1e-12, -1e-12, 0.0):
        scores = (even + torch.tensor([nudge, 0.0, 0.0, 0.0])).requires_grad_()
        slopes.append(torch.autograd.grad(lambda_loss(scores, relevance), scores)[0])
    torch.testing.assert_close(slopes[2], (slopes[0] + slopes[1]) / 2, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("loss", [lambda_loss, approx_ndcg])
def test_grades_of_any_height_give_finite_values(loss) -> None:
    scores = batch(3, 2, 4)[0]
    high = loss(scores, torch.tensor([[1000, 0, 999, 0], [5000, 4999, 0, 1]]))
    assert high.isfinite() and torch.autograd.grad(high, scores)[0].isfinite().all()
    # A thousand grades up, only the ratio of the gains is left.
    near = loss(scores, torch.tensor([[60, 0, 59, 0], [50, 49, 0, 1]]))
    torch.testing.assert_close(high, near, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("loss", [lambda_loss, approx_ndcg])
def test_lists_without_gain_cost_nothing_and_are_not_counted(loss) -> None:
    scores, relevance, _, _ = batch(4, 2, 5)
    relevance = torch.stack([torch.zeros(5, dtype=torch.long), torch.tensor([0, 2, 1, 0, 3])])
    assert_same(loss(scores, relevance), loss(scores[1:], relevance[1:]), scores)
    mask = torch.tensor([[True] * 5, [False] * 5])
    nothing = loss(scores, relevance, mask=mask)
    assert nothing == 0
    assert not torch.autograd.grad(nothing, scores)[0].any()


@pytest.mark.parametrize("loss", [lambda_loss, approx_ndcg])
def test_errors(loss) -> None:
    with pytest.raises(ValueError, match=r"relevance\[0, 1\] is -1; expected a grade of at least"):
        loss(torch.zeros(1, 2), torch.tensor([[0, -1]]))
    with pytest.raises(ValueError, match="gain='log' is not a choice"):
        loss(torch.zeros(1, 2), torch.tensor([[0, 1]]), gain="log")
    with pytest.raises(ValueError, match="k must be at least 1"):
        lambda_loss(torch.zeros(1, 2), torch.tensor([[0, 1]]), k=0)
    with pytest.raises(ValueError, match="temperature must lie in"):
        approx_ndcg(torch.zeros(1, 2), torch.tensor([[0, 1]]), temperature=0)


def test_approx_ndcg_descends_from_a_small_start() -> None:
    relevance = torch.tensor([[0, 3, 1, 2], [2, 0, 1, 0]])
    scores = (0.1 * batch(5, 2, 4)[0]).detach().requires_grad_()
    optimizer = torch.optim.Adam([scores], lr=0.05)
    for _ in range(400):
        optimizer.zero_grad()
        approx_ndcg(scores, relevance).backward()
        optimizer.step()
    assert torch.equal(scores.argmax(-1), relevance.argmax(-1))
    assert F.relu(approx_ndcg(scores, relevance)) < 0.03
