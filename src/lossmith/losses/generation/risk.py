"""Rewards that have no gradient, reached through the probability of what was sampled."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from lossmith.core.numerics import upcast
from lossmith.core.reduce import Divisor, Reduction, reduce
from lossmith.core.spec import objective
from lossmith.core.validate import (
    check_choice,
    check_float,
    check_mask,
    check_range,
    check_same_shape,
    shape_text,
)
from lossmith.kernels.collapse import LOG_ZERO

Baseline = Literal["mean", "leave-one-out", "none"]


@objective(
    family="generation",
    module="SequenceRisk",
    inputs="log_probs+rewards",
    unit="sources with a sample",
    serves="the reward itself",
    limit="estimator='minimum_risk', alpha=0: minus the mean reward, a constant",
    aliases=("REINFORCE", "minimum risk training", "self-critical", "RLOO", "score function"),
    paper="Williams 1992; minimum risk, Shen et al. 2016; leave-one-out, Kool et al. 2019",
)
def sequence_risk(
    log_probs: Tensor,
    rewards: Tensor,
    *,
    estimator: Literal["score_function", "minimum_risk"] = "score_function",
    baseline: Baseline = "leave-one-out",
    alpha: float = 1.0,
    mask: Tensor | None = None,
    weight: Tensor | None = None,
    reduction: Reduction = "mean",
    divisor: Divisor | None = None,
) -> Tensor:
    """Make samples with a high reward more probable, for any reward.

    Formula: ``score_function``: ``- mean_s (r_s - b_s) log p_s`` with b the mean reward of the
    source's samples ("mean"), of its other samples ("leave-one-out") or 0 ("none"); its gradient
    estimates that of minus the expected reward, its value means nothing. ``minimum_risk``:
    ``- sum_s q_s r_s`` with ``q = softmax(alpha log_probs)`` over the source's samples.

    Use where what counts is known of whole outputs alone: that a keyword is there, BLEU, a
    user's click. The samples are the model's own. Not where the reward has a gradient by itself
    (``keyword_presence``), which is far less noisy.

    Shapes: log_probs, the summed log-probability of each sample, rewards and mask
    ``[..., S]``, S samples of a source; weight ``[...]``.

    Mean divides by: sources with at least one sample (two for "leave-one-out", which compares).

    Errors: shapes that differ, an unknown estimator or baseline, a negative alpha.

    >>> log_probs = torch.tensor([[0.5, 0.5]]).log().requires_grad_()
    >>> sequence_risk(log_probs, torch.tensor([[1.0, 0.0]])).backward()
    >>> log_probs.grad  # up with the first, down with the second
    tensor([[-0.5000,  0.5000]])

    Source: Williams 1992; Shen et al. 2016; Kool, van Hoof, Welling 2019.
    """
    check_choice("estimator", estimator, ("score_function", "minimum_risk"))
    check_choice("baseline", baseline, ("mean", "leave-one-out", "none"))
    check_range("alpha", alpha, 0.0)
    check_float(log_probs=log_probs)
    if log_probs.dim() == 0:
        raise ValueError(f"log_probs {shape_text(log_probs)} must be [..., S]: S samples a source.")
    check_same_shape(log_probs=log_probs, rewards=rewards, mask=mask)
    check_mask("mask", mask)
    if weight is not None:
        check_same_shape(**{"log_probs.sum(-1)": log_probs[..., 0], "weight": weight})
    (log_probs,) = upcast(log_probs)
    real = torch.ones_like(log_probs, dtype=torch.bool) if mask is None else mask
    # A reward is a label: whatever it was computed from gets no gradient.
    rewards = torch.where(real, rewards.detach().to(log_probs.dtype), 0.0)
    samples = real.sum(dim=-1, keepdim=True)
    if estimator == "minimum_risk":
        share = torch.where(real, alpha * log_probs, LOG_ZERO).softmax(dim=-1)
        cost = -(torch.where(real, share, 0.0) * rewards).sum(dim=-1)
        compared = samples.squeeze(-1) > 0
    else:
        advantage = torch.where(real, _advantage(rewards, samples, baseline), 0.0)
        cost = -(advantage * torch.where(real, log_probs, 0.0)).sum(dim=-1)
        cost = cost / samples.squeeze(-1).clamp(min=1)
        compared = samples.squeeze(-1) > (1 if baseline == "leave-one-out" else 0)
    return reduce(cost, valid=compared, weight=weight, reduction=reduction, divisor=divisor)


def _advantage(rewards: Tensor, samples: Tensor, baseline: Baseline) -> Tensor:
    """By how much each sample did better than what it is compared with."""
    if baseline == "none":
        return rewards
    total = rewards.sum(dim=-1, keepdim=True)
    if baseline == "mean":
        return rewards - total / samples.clamp(min=1)
    return rewards - (total - rewards) / (samples - 1).clamp(min=1)
