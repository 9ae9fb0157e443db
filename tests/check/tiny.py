"""Tiny losses, each of which breaks one law in the plainest way, or holds it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

STATE = {"sum": 0.0}


def bce(logits: Tensor, target: Tensor) -> Tensor:
    return F.binary_cross_entropy_with_logits(logits, target)


def checked_bce(logits: Tensor, target: Tensor) -> Tensor:
    if logits.shape != target.shape:
        raise ValueError(f"{tuple(logits.shape)} against {tuple(target.shape)}")
    if not bool(((target == 0) | (target == 1)).all()):
        raise ValueError("labels are 0 or 1")
    return F.binary_cross_entropy_with_logits(
        logits.float(), target.float(), reduction="sum"
    ) / max(len(logits), 1)


def mse(prediction: Tensor, target: Tensor) -> Tensor:
    return (prediction - target).square().mean()


def checked_mse(prediction: Tensor, target: Tensor) -> Tensor:
    if prediction.shape != target.shape:
        raise ValueError("shapes differ")
    return (prediction - target).square().sum() / max(len(prediction), 1)


def raises(logits: Tensor, target: Tensor) -> Tensor:
    raise RuntimeError("always")


def detached(logits: Tensor, target: Tensor) -> Tensor:
    return bce(logits.detach(), target)


class _HalfGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x.square()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:  # type: ignore[override]
        return grad * ctx.saved_tensors[0]


class _OnceOnly(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x.square()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:  # type: ignore[override]
        (x,) = ctx.saved_tensors
        return grad * torch.tensor(2 * x.detach().numpy())


def half_gradient(prediction: Tensor, target: Tensor) -> Tensor:
    return _HalfGradient.apply(prediction - target).mean()


def once_only(prediction: Tensor, target: Tensor) -> Tensor:
    return _OnceOnly.apply(prediction - target).mean()


def dead_knob(logits: Tensor, target: Tensor, *, factor: float = 0.5) -> Tensor:
    return bce(logits, target) + factor * target.mean()


def live_knob(logits: Tensor, target: Tensor, *, factor: float = 0.5) -> Tensor:
    return bce(logits, target) + factor * logits.square().mean()


def ascends(logits: Tensor, target: Tensor) -> Tensor:
    return bce(logits, 1 - target)


def with_eps(positive: Tensor, negative: Tensor) -> Tensor:
    return -(1e-10 + (positive - negative).sigmoid()).log().mean()


def logistic(positive: Tensor, negative: Tensor) -> Tensor:
    return -F.logsigmoid(positive - negative).mean()


def steps(logits: Tensor, target: Tensor) -> Tensor:
    side = logits * (2 * target - 1)
    return (F.softplus(-side) * (side < 0.4)).mean()


def first_row_twice(logits: Tensor, target: Tensor) -> Tensor:
    cost = F.cross_entropy(logits, target, reduction="none")
    return cost.mean() + cost[0]


def by_position(scores: Tensor, relevance: Tensor) -> Tensor:
    ranked = scores.gather(-1, relevance.argsort(dim=-1, descending=True, stable=True))
    return (ranked.flip(-1).logcumsumexp(-1).flip(-1) - ranked).sum(-1).mean()


def listnet(scores: Tensor, relevance: Tensor) -> Tensor:
    return -(relevance.float().softmax(-1) * scores.log_softmax(-1)).sum(-1).mean()


def mask_times(logits: Tensor, target: Tensor, *, mask: Tensor | None = None) -> Tensor:
    cost = F.cross_entropy(logits, target.clamp(max=logits.shape[-1] - 1), reduction="none")
    return cost.mean() if mask is None else (cost * mask).sum() / mask.sum()


def mask_where(logits: Tensor, target: Tensor, *, mask: Tensor | None = None) -> Tensor:
    if mask is None:
        return F.cross_entropy(logits, target)
    logits = torch.where(mask.unsqueeze(-1), logits, 0.0)
    cost = F.cross_entropy(logits, torch.where(mask, target, 0), reduction="none")
    return torch.where(mask, cost, 0.0).sum() / mask.sum().clamp(min=1)


def one_is_none(x1: Tensor, x2: Tensor, same: Tensor) -> Tensor:
    if len(x1) <= 2:
        return (x1.sum() + x2.sum()) * 0
    return contrastive(x1, x2, same)


def contrastive(x1: Tensor, x2: Tensor, same: Tensor) -> Tensor:
    squared = (x1 - x2).square().sum(-1)
    return (same * squared + (1 - same) * F.relu(1.0 - squared)).mean()


def deaf_reduction(logits: Tensor, target: Tensor, *, reduction: str = "mean") -> Tensor:
    return bce(logits, target)


def reduced(logits: Tensor, target: Tensor, *, reduction: str = "mean") -> Tensor:
    return F.binary_cross_entropy_with_logits(logits, target, reduction=reduction)


def over_the_batch(logits: Tensor, target: Tensor) -> Tensor:
    return -logits.log_softmax(0).gather(-1, target.unsqueeze(-1)).mean()


def cross_entropy(logits: Tensor, target: Tensor) -> Tensor:
    return F.cross_entropy(logits, target)


def log_of_sigmoid(positive: Tensor, negative: Tensor) -> Tensor:
    return -(positive - negative).sigmoid().log().mean()


def painted(logits: Tensor, target: Tensor) -> Tensor:
    return F.cross_entropy(logits.nan_to_num(), target)


def eps_in_half(logits: Tensor, target: Tensor) -> Tensor:
    p = logits.sigmoid()
    yes, no = p.clamp(min=1e-8).log(), (1 - p).clamp(min=1e-8).log()
    return -(target * yes + (1 - target) * no).mean()


def autocast_product(queries: Tensor, positives: Tensor) -> Tensor:
    similarity = queries @ positives.T * 20
    return (similarity.logsumexp(-1) - similarity.diagonal()).mean()


def full_product(queries: Tensor, positives: Tensor) -> Tensor:
    with torch.autocast("cpu", enabled=False):
        return autocast_product(queries, positives)


def writes(logits: Tensor, target: Tensor) -> Tensor:
    logits.data += 0.1
    return bce(logits, target)


def draws(logits: Tensor, target: Tensor) -> Tensor:
    return bce(logits + 0.01 * torch.randn_like(logits), target)


def no_grad_left(logits: Tensor, target: Tensor) -> Tensor:
    value = bce(logits, target)
    torch.set_grad_enabled(False)
    return value


def needs_graph(logits: Tensor, target: Tensor) -> Tensor:
    return bce(logits, target) * (1.0 if logits.requires_grad else 2.0)


def views(logits: Tensor, target: Tensor) -> Tensor:
    return bce(logits.view(-1), target.reshape(-1))


def branches(logits: Tensor, target: Tensor) -> Tensor:
    cost = bce(logits, target)
    return cost if cost.item() > 0 else logits.sum() * 0


class WithLambda(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.distance = lambda a, b: (a - b).square().sum(-1)

    def forward(self, anchor: Tensor, positive: Tensor, negative: Tensor) -> Tensor:
        return F.relu(self.distance(anchor, positive) - self.distance(anchor, negative) + 1).mean()


def triplet(anchor: Tensor, positive: Tensor, negative: Tensor) -> Tensor:
    return F.triplet_margin_loss(anchor, positive, negative)


def on_the_cpu(logits: Tensor, target: Tensor) -> Tensor:
    return bce(logits, target) + (logits * torch.ones(3)).mean()


def loops(logits: Tensor, target: Tensor) -> Tensor:
    return torch.stack(
        [F.cross_entropy(row, label) for row, label in zip(logits, target, strict=True)]
    ).mean()


def pairs_of_pairs(queries: Tensor, positives: Tensor) -> Tensor:
    s = queries @ positives.T
    return F.relu(s.reshape(-1, 1) - s.reshape(1, -1)).mean()


Loss = Callable[..., Tensor]
# law, inputs, a loss that breaks it, a loss that holds it
TABLE: list[tuple[str, str, Any, Any]] = [
    ("runs", "logits+binary", raises, bce),
    ("gradient", "logits+binary", detached, bce),
    ("gradcheck", "prediction+number", half_gradient, mse),
    ("double-backward", "prediction+number", once_only, mse),
    ("dead-knob", "logits+binary", dead_knob, live_knob),
    ("descent", "logits+binary", ascends, bce),
    ("monotone", "logits+binary", ascends, bce),
    ("saturation", "positive+negative", with_eps, logistic),
    ("jumps", "logits+binary", steps, bce),
    ("order", "logits+class", first_row_twice, cross_entropy),
    ("item-order", "scores+relevance", by_position, listnet),
    ("padding", "logits+class", mask_times, mask_where),
    ("nothing-valid", "logits+class", mask_times, mask_where),
    ("empty-batch", "prediction+number", mse, checked_mse),
    ("single", "pair+same", one_is_none, contrastive),
    ("reductions", "logits+binary", deaf_reduction, reduced),
    ("micro-batches", "logits+class", over_the_batch, cross_entropy),
    ("shapes", "prediction+number", mse, checked_mse),
    ("sentinels", "logits+binary", bce, checked_bce),
    ("extremes", "positive+negative", log_of_sigmoid, logistic),
    ("nan-not-hidden", "logits+class", painted, cross_entropy),
    ("half-precision", "logits+binary", eps_in_half, checked_bce),
    ("autocast", "queries+positives", autocast_product, full_product),
    ("mutation", "logits+binary", writes, bce),
    ("side-effects", "logits+binary", no_grad_left, bce),
    ("side-effects", "logits+binary", draws, bce),
    ("determinism", "logits+binary", draws, bce),
    ("evaluation", "logits+binary", needs_graph, bce),
    ("strides", "logits+binary", views, bce),
    ("compile", "logits+binary", branches, bce),
    ("vmap", "logits+binary", branches, bce),
    ("pickle", "triplet", WithLambda(), triplet),
    ("device", "logits+binary", on_the_cpu, bce),
    ("cost", "logits+class", loops, cross_entropy),
    ("cost", "queries+positives", pairs_of_pairs, autocast_product),
]
# Laws that only objectives of this library are held to; the contract runs them.
OURS = {"weights", "value-checks", "invariances"}
