"""A fused loss whose backward does not look at the gradient it is given.

Published: Liger-Kernel (fused linear cross-entropy with reduction="none": issues 488, 872, 968;
mended in 2026): the gradient is computed in the forward for a plain mean.
Costs: weights, masks and factors applied to the loss change its value and not its gradient:
per-token weights train as if they were not there.
Mend: multiply by the incoming gradient.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from lossmith.losses.classification import cross_entropy

FAMILY = "classification"
INPUTS = "logits+class"
CAUGHT_BY = ("gradcheck",)


class _Fused(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, logits: Tensor, target: Tensor) -> Tensor:
        p = logits.softmax(-1)
        ctx.save_for_backward(p - F.one_hot(target, p.shape[-1]).to(p.dtype))
        return F.cross_entropy(logits, target, reduction="none")

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (slope,) = ctx.saved_tensors
        return slope / len(slope), None


def broken(logits: Tensor, target: Tensor, *, reduction: str = "mean") -> Tensor:
    """Cross-entropy with its gradient made in the forward."""
    cost: Tensor = _Fused.apply(logits, target)
    return cost if reduction == "none" else cost.mean() if reduction == "mean" else cost.sum()


def corrected(
    logits: Tensor,
    target: Tensor,
    *,
    reduction: str = "mean",
    divisor: float | Tensor | None = None,
) -> Tensor:
    """Cross-entropy."""
    # The words of `reduction` are checked inside.
    return cross_entropy(logits, target, reduction=reduction, divisor=divisor)  # type: ignore[arg-type]
