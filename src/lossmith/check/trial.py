"""What a law is given: the loss, its examples, and how to search and shrink."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lossmith.check.examples import Example
from lossmith.check.laws.base import Broken, Failure, NotApplicable, Raised, Untested, close, show
from lossmith.check.shrink import smallest
from lossmith.check.subject import Subject

# What a law tries on one batch: what is wrong with it, or None.
Test = Callable[[Example], "Failure | None"]


@dataclass
class Trial:
    """One loss on trial, for one law."""

    subject: Subject
    seed: int = 0
    deadline: float = float("inf")  # in this thread's processor time, so that load does not count

    def example(self, seed: int = 0) -> Example:
        """A legitimate batch, as float32."""
        return self.subject.example(self.seed + seed)

    def examples(self, *seeds: int, dtype: torch.dtype = torch.float64) -> Iterator[Example]:
        """Several, in another precision."""
        for seed in seeds:
            yield self.example(seed).to(dtype)

    def value(self, example: Example, **more: Any) -> Tensor:
        """What the loss returns, outside the graph."""
        return self.subject(example, **more).detach()

    def gradients(self, example: Example, **more: Any) -> tuple[Tensor, list[Tensor]]:
        """The value, and its gradient in each prediction (zeros where there is no path)."""
        value, gradients = self.graph(example, **more)
        return value, filled(gradients, example)

    def graph(self, example: Example, **more: Any) -> tuple[Tensor, list[Tensor | None]]:
        """The value, and its gradient in each prediction, None where there is no path."""
        example = leaf(example)
        value = self.subject(example, **more)
        if not value.requires_grad:
            return value.detach(), [None] * len(example.predictions)
        try:
            return value.detach(), slopes(value, example)
        except Exception as error:
            raise Raised(error) from error

    def hold(self, test: Test, examples: Iterable[Example], hint: str = "") -> None:
        """Raise :class:`Broken` with the smallest batch for the first example that fails."""
        for example in examples:
            self.in_time()
            failure = test(example)
            if failure is not None:
                self.break_on(example, failure, test, hint)

    def break_on(
        self, example: Example, failure: Failure, test: Test | None = None, hint: str = ""
    ) -> None:
        """Raise :class:`Broken`, after shrinking where there is a test to shrink with."""
        if test is not None:
            until = min(self.deadline, time.thread_time() + 1.0)
            example, failure = smallest(example, failure, test, until)
        raise Broken(failure, self.subject.named(failure.given or example), hint)

    def same(self, a: Tensor, b: Tensor) -> bool:
        """Whether two results agree; a loss that is not ours may compute in float32 inside."""
        return close(a, b) or (not self.subject.ours and close(a, b, 1e-5, 1e-6))

    def in_time(self) -> None:
        """Raise when the time for the check is over."""
        if time.thread_time() > self.deadline:
            raise Untested("out of time")

    def need_mask(self, example: Example | None = None) -> Tensor:
        """The mask of the example, all True; a loss that takes none is out of the law's reach."""
        mask = (example or self.example()).mask
        if mask is None or not self.subject.takes("mask"):
            raise NotApplicable("takes no mask")
        return mask


def slopes(value: Tensor, example: Example, **how: Any) -> list[Tensor | None]:
    """The gradient of the sum of a value in each prediction, None where there is no path."""
    given: Any = torch.autograd.grad(value.sum(), example.predictions, allow_unused=True, **how)
    return list(given)


def filled(gradients: Iterable[Tensor | None], example: Example) -> list[Tensor]:
    """Gradients with zeros for those that are None."""
    pairs = zip(gradients, example.predictions, strict=True)
    return [torch.zeros_like(p) if g is None else g for g, p in pairs]


def leaf(example: Example) -> Example:
    """The batch with fresh predictions that collect gradient."""
    return example.with_predictions(
        *(p.detach().clone().requires_grad_() for p in example.predictions)
    )


def same(a: tuple[Tensor, list[Tensor]], b: tuple[Tensor, list[Tensor]]) -> bool:
    """Whether two values and their gradients agree."""
    return close(a[0], b[0]) and all(close(x, y) for x, y in zip(a[1], b[1], strict=True))


def showed(result: tuple[Tensor, list[Tensor]]) -> str:
    """A value and its gradients in one line."""
    value, gradients = result
    return f"{show(value)}, gradient {', '.join(show(g) for g in gradients)}"


def finite(value: Tensor, gradients: Iterable[Tensor]) -> bool:
    """Whether everything is a number."""
    return bool(value.isfinite().all()) and all(bool(g.isfinite().all()) for g in gradients)
