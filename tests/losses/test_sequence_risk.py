"""Rewards of sampled outputs: the formulas in plain loops, and the gradient they estimate."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import Tensor

import lossmith as lm


def batch(seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    log_probs = torch.randn(5, 4, generator=generator, dtype=torch.float64) - 2.0
    rewards = torch.rand(5, 4, generator=generator, dtype=torch.float64)
    mask = torch.rand(5, 4, generator=generator) < 0.8
    mask[0] = False
    mask[1] = torch.tensor([False, True, False, False])
    return log_probs.requires_grad_(), rewards, mask


def oracle(log_probs: Tensor, rewards: Tensor, mask: Tensor, baseline: str) -> Tensor:
    total, sources = torch.zeros((), dtype=torch.float64), 0
    for b in range(len(log_probs)):
        samples = [s for s in range(log_probs.shape[1]) if mask[b, s]]
        if len(samples) < (2 if baseline == "leave-one-out" else 1):
            continue
        sources += 1
        for s in samples:
            others = samples if baseline == "mean" else [o for o in samples if o != s]
            compared = sum(float(rewards[b, o]) for o in others) / max(len(others), 1)
            advantage = float(rewards[b, s]) - (0.0 if baseline == "none" else compared)
            total = total - advantage * log_probs[b, s] / len(samples)
    return total / sources


@pytest.mark.parametrize("baseline", ["mean", "leave-one-out", "none"])
def test_score_function_equals_a_plain_loop(baseline: str) -> None:
    log_probs, rewards, mask = batch()
    value = lm.sequence_risk(log_probs, rewards, baseline=baseline, mask=mask)
    want = oracle(log_probs, rewards, mask, baseline)
    torch.testing.assert_close(value, want)
    torch.testing.assert_close(
        torch.autograd.grad(value, log_probs)[0], torch.autograd.grad(want, log_probs)[0]
    )


@pytest.mark.parametrize("alpha", [0.0, 0.5, 1.0])
def test_minimum_risk_equals_a_plain_loop(alpha: float) -> None:
    log_probs, rewards, mask = batch(1)
    value = lm.sequence_risk(
        log_probs, rewards, estimator="minimum_risk", alpha=alpha, mask=mask, reduction="none"
    )
    for b in range(5):
        samples = [s for s in range(4) if mask[b, s]]
        parts = [math.exp(alpha * float(log_probs[b, s].detach())) for s in samples]
        want = -sum(p * float(rewards[b, s]) for p, s in zip(parts, samples, strict=True))
        assert value[b].item() == pytest.approx(want / (sum(parts) or 1.0))


@pytest.mark.parametrize("baseline", ["mean", "leave-one-out", "none"])
def test_the_gradient_is_that_of_the_expected_reward(baseline: str) -> None:
    # Two draws of a policy over three outputs: go through all nine pairs, weighted by chance.
    logits = torch.tensor([0.3, -0.2, 0.5], dtype=torch.float64, requires_grad=True)
    reward = torch.tensor([1.0, 0.0, 3.0], dtype=torch.float64)
    log_p = logits.log_softmax(dim=-1)
    expected = torch.zeros_like(logits)
    for i, j in itertools.product(range(3), repeat=2):
        drawn = torch.tensor([i, j])
        value = lm.sequence_risk(log_p[drawn][None], reward[drawn][None], baseline=baseline)
        (gradient,) = torch.autograd.grad(value, logits, retain_graph=True)
        expected = expected + (log_p[i] + log_p[j]).exp().detach() * gradient
    (want,) = torch.autograd.grad(-(log_p.exp() * reward).sum(), logits)
    # The sample's own reward in "mean" shrinks the estimate by 1 - 1/S, and changes nothing else.
    torch.testing.assert_close(expected, want * (0.5 if baseline == "mean" else 1.0))


def test_the_source_count_of_keywords_gets_a_gradient_through_samples() -> None:
    # The published penalty looks at drawn tokens alone; sampled, it pulls the keyword up.
    logits = torch.zeros(1, 3, 4, requires_grad=True)
    drawn = torch.tensor([[[3, 0, 1], [0, 1, 2]]])  # the first says token 3
    reward = (drawn == 3).any(dim=-1).float()
    rows = logits.log_softmax(dim=-1).unsqueeze(1).expand(1, 2, 3, 4)
    log_probs = rows.gather(-1, drawn.unsqueeze(-1)).squeeze(-1).sum(dim=-1)
    (gradient,) = torch.autograd.grad(lm.sequence_risk(log_probs, reward), logits)
    assert gradient[0, 0, 3] < 0


def test_errors_name_what_is_wrong() -> None:
    log_probs, rewards, _ = batch()
    with pytest.raises(ValueError, match="baseline='median' is not a choice"):
        lm.sequence_risk(log_probs, rewards, baseline="median")
    with pytest.raises(ValueError, match="alpha must lie in"):
        lm.sequence_risk(log_probs, rewards, estimator="minimum_risk", alpha=-1.0)
    with pytest.raises(ValueError, match=r"weight \(5, 4\)"):
        lm.sequence_risk(log_probs, rewards, weight=torch.ones(5, 4))
