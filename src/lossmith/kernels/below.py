"""For each item of a list, the log-sum-exp of the scores of all less relevant ones."""

from __future__ import annotations

import torch
from torch import Tensor

# exp(80) sums and squares its way through float32 sums of a million terms without overflow.
LARGEST_EXPONENT = 80.0


def log_sum_below(scores: Tensor, relevance: Tensor, items: Tensor) -> tuple[Tensor, Tensor]:
    """``log sum of exp(s_j)`` over the j with y_j < y_i, and the number of pairs of each list.

    In float64 (where the device has it), as a running sum must be. -inf where nothing is less
    relevant, and for what is no item. It is a running log-sum-exp from the least relevant upwards,
    read where each grade begins.

    >>> scores = torch.tensor([0.0, 0.0, 5.0, 7.0])
    >>> log_sum_below(scores, torch.tensor([0, 0, 1, 1]), torch.ones(4).bool())
    (tensor([  -inf,   -inf, 0.6931, 0.6931], dtype=torch.float64), tensor(4))
    """
    if scores.device.type != "mps":
        scores = scores.double()
    # The logarithm of a running sum that is still 0 has no derivative.
    limit = torch.finfo(scores.dtype).max ** 0.5
    scores = scores.clamp(-limit, limit)
    if not relevance.is_floating_point():
        relevance = relevance.double()
    ordered, order = torch.where(items, relevance, torch.inf).sort(dim=-1)
    place = torch.arange(scores.shape[-1], device=scores.device).expand_as(order)
    new = torch.cat(
        [torch.ones_like(items[..., :1]), ordered[..., 1:] != ordered[..., :-1]], dim=-1
    )
    lower = torch.where(new, place, 0).cummax(dim=-1).values
    lower = torch.where(items.gather(-1, order), lower, 0)
    running = scores.gather(-1, order).logcumsumexp(dim=-1)
    below = running.gather(-1, (lower - 1).clamp(min=0))
    below = torch.where(lower > 0, below, -torch.inf)
    return torch.zeros_like(below).scatter(-1, order, below), lower.sum(dim=-1)


def bounded_exp(terms: Tensor) -> Tensor:
    """``sum of exp`` along the last dimension, held at exp(80) with the direction of its gradient.

    Past that the gradient is what it was at exp(80), shared out in the same proportions, where the
    true one would overflow.
    """
    largest = terms.detach().amax(dim=-1, keepdim=True) if terms.shape[-1] else terms.sum(-1, True)
    some = (largest > -torch.inf) | largest.isnan()
    largest = torch.where(some, largest, 0.0)
    scaled = (terms - largest).exp().sum(dim=-1)
    total = scaled.detach().log() + largest.squeeze(-1)
    factor = torch.where(
        some.squeeze(-1), total.clamp(max=LARGEST_EXPONENT) - scaled.detach().log(), 0.0
    )
    return scaled * factor.exp()
