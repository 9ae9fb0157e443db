"""What the benchmarks of in-batch objectives share: steps, floors, textbook forms, peers.

Every contender does one forward and one backward pass. A floor is the products that must be done,
by blocks of rows, and nothing else: 6 B^2 d flops for two sets of vectors, 4 B^2 d for one, whose
similarities are symmetric.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.case import Contender, Inputs, Size

TEMPERATURE = 0.05
BLOCK = 512
ONE_GB = 1024.0
# MiB at B = 8192, where one B x B block of float32 is 256: what a form that holds none may take.
LINEAR = 192.0


def fits(most: int) -> Callable[[Size], bool]:
    """Whether a batch is at most that large."""
    return lambda size: size["B"] <= most


def sizes(*batches: int, d: int = 256) -> tuple[Size, ...]:
    """Sizes of a batch of vectors."""
    return tuple({"B": batch, "d": d} for batch in batches)


def vectors(batch: int, d: int, seed: int) -> Tensor:
    """Random vectors of length 1."""
    generator = torch.Generator().manual_seed(seed)
    return F.normalize(torch.randn(batch, d, generator=generator), dim=1)


def step(loss: Callable[[Inputs], Tensor], *names: str) -> Callable[[Inputs], Tensor]:
    """A forward and a backward pass, with the gradients let go at once."""

    def run(inputs: Inputs) -> Tensor:
        value = loss(inputs)
        torch.autograd.grad(value, [inputs[name] for name in names])
        return value.detach()

    return run


def products(left: Tensor, right: Tensor, both: bool) -> None:
    """S, then dQ = G K, and with ``both`` dK = G^T Q."""
    space = left.new_empty(min(BLOCK, len(left)), len(right))
    first, second = torch.empty_like(left), torch.zeros_like(right)
    for start in range(0, len(left), BLOCK):
        rows = left[start : start + BLOCK]
        block = torch.mm(rows, right.T, out=space[: len(rows)])
        torch.mm(block, right, out=first[start : start + BLOCK])
        if both:
            second.addmm_(block.T, rows)


def ours(name: str, **knobs: Any) -> Callable[[Inputs], Tensor]:
    """An objective of this library on pairs or on labelled rows."""

    def loss(inputs: Inputs) -> Tensor:
        import lossmith as lm

        if "rows" in inputs:
            value: Tensor = getattr(lm, name)(inputs["rows"], inputs["labels"], **knobs)
            return value
        value = getattr(lm, name)(inputs["queries"], inputs["positives"], **knobs)
        return value

    return loss


def targets(rows: Tensor) -> Tensor:
    """The positive of each row stands in its own place."""
    return torch.arange(len(rows), device=rows.device)


_compiled: dict[Callable[[Inputs], Tensor], Callable[[Inputs], Tensor]] = {}


def compiled_form(loss: Callable[[Inputs], Tensor]) -> Callable[[Inputs], Tensor]:
    """The same through torch.compile, compiled once."""

    def run(inputs: Inputs) -> Tensor:
        if loss not in _compiled:
            _compiled[loss] = torch.compile(loss)
        return _compiled[loss](inputs)

    return run


def against(
    naive: Callable[[Inputs], Tensor], step: Callable[..., Any], most: int = 8192
) -> dict[str, Contender]:
    """The textbook form, eagerly and compiled."""
    return {
        "torch": Contender(step(naive), fits=fits(most)),
        "torch.compile": Contender(step(compiled_form(naive)), fits=fits(most), quick=False),
    }


def sentence_transformers(name: str, **knobs: Any) -> Callable[[Inputs], Tensor]:
    """A loss of sentence-transformers on embeddings."""

    def loss(inputs: Inputs) -> Tensor:
        from sentence_transformers import losses

        made = getattr(losses, name)(model=None, **knobs)
        if "rows" in inputs:
            value: Tensor = made.compute_loss_from_embeddings([inputs["rows"]], inputs["labels"])
            return value
        value = made.compute_loss_from_embeddings([inputs["queries"], inputs["positives"]], None)
        return value

    return loss


def peer(
    environment: str, loss: Callable[[Inputs], Tensor], step: Callable[..., Any], most: int = 8192
) -> Contender:
    """A loss of another library, in its environment."""
    return Contender(step(loss), environment=environment, fits=fits(most))
