"""The gradient: that there is one, and that it is the slope of the value."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.autograd.gradcheck import GradcheckError

from lossmith.check.examples import Example
from lossmith.check.laws.base import (
    Broken,
    Failure,
    Raised,
    Untested,
    close,
    law,
    number,
    show,
)
from lossmith.check.trial import Trial, filled, leaf, slopes


@law(
    name="runs",
    place=1,
    why="A loss that raises on a legitimate batch trains nothing.",
    how="Call it on one small legitimate batch of its kind.",
    hint="Say which argument is what with inputs=..., or mend the error.",
)
def runs(trial: Trial) -> str:
    example = trial.example()
    try:
        value = trial.value(example)
    except Raised as raised:
        failure = Failure(f"raises {raised}", "a value", str(raised))
        raise Broken(failure, trial.subject.named(example)) from raised
    if not bool(value.isfinite().all()):
        trial.break_on(example, Failure("is not a number", "a finite value", show(value)))
    return f"a legitimate batch costs {show(value)}"


@law(
    name="gradient",
    place=1,
    why="Predictions without a gradient are never learnt from: the curve moves, not the model.",
    how="On five batches, each prediction must have a gradient other than 0 in at least one.",
    hint="Compute the loss from the predictions with differentiable operations: no argmax, sort "
    "position, .item(), .data, detach or torch.tensor(...) on the way.",
)
def gradient(trial: Trial) -> None:
    first = trial.example()
    reached = [False] * len(first.predictions)
    for example in trial.examples(*range(5)):
        _, gradients = trial.graph(example)
        for i, g in enumerate(gradients):
            reached[i] |= g is not None and bool((g != 0).any())
    for i, moved in enumerate(reached):
        if not moved:
            name = list(trial.subject.named(first))[i]

            def dead(example: Example, i: int = i, name: str = name) -> Failure | None:
                value, gradients = trial.graph(example)
                g = gradients[i]
                if g is not None and bool((g != 0).any()):
                    return None
                what = "no path in the graph" if g is None else "gradient 0"
                return Failure(
                    f"{name} has {what}", "a gradient other than 0", f"value {show(value)}, {what}"
                )

            trial.hold(dead, [first.to(torch.float64)])


@law(
    name="gradcheck",
    place=1,
    why="A gradient that is not the derivative of the value descends something else.",
    how="Compare the gradient with finite differences in float64, for each reduction and for three "
    "times the loss.",
    hint="In a hand-written backward, multiply by the incoming gradient and check the formula with "
    "torch.autograd.gradcheck.",
)
def gradcheck(trial: Trial) -> None:
    def wrong(example: Example) -> Failure | None:
        example = leaf(example)
        once, thrice = (_scaled(trial, example, factor) for factor in (1.0, 3.0))
        for a, b in zip(once, thrice, strict=True):
            if not close(3.0 * a, b):
                return Failure(
                    "three times the loss has not three times the gradient", show(3.0 * a), show(b)
                )
        if not _exact(trial, example, {}, fast=False):
            return _compare(trial, example, {}) or Failure(
                "gradient and finite differences differ", "the same to 1e-6", "a difference"
            )
        none = {"reduction": "none"}
        if not trial.subject.takes("reduction") or _exact(trial, example, none, fast=True):
            return None
        return _compare(trial, example, none)

    if trial.value(trial.example().to(torch.float64)).dtype is not torch.float64:
        raise Untested("the loss does not compute in float64, which finite differences need")
    trial.hold(wrong, trial.examples(1))


def _scaled(trial: Trial, example: Example, factor: float) -> list[Tensor]:
    """The gradient of a multiple of the loss."""
    value = (factor * trial.subject(example)).sum()
    if not value.requires_grad:
        return [torch.zeros_like(p) for p in example.predictions]
    return filled(slopes(value, example), example)


def _exact(trial: Trial, example: Example, more: dict[str, Any], fast: bool) -> bool:
    def call(*predictions: Tensor) -> Tensor:
        return trial.subject(example.with_predictions(*predictions), **more)

    return torch.autograd.gradcheck(
        call, example.predictions, raise_exception=False, fast_mode=fast
    )


def _compare(trial: Trial, example: Example, more: dict[str, Any]) -> Failure | None:
    """The first entry whose slope and gradient differ, with the two numbers."""
    step = 1e-6
    value = trial.subject(example, **more)
    for place in range(value.numel()):
        pick = value.flatten()[place]
        if not pick.requires_grad:
            continue
        found = slopes(pick, example, retain_graph=True)
        for i, (p, g) in enumerate(zip(example.predictions, found, strict=True)):
            for at in range(p.numel()):
                ends = []
                for side in (step, -step):
                    moved = p.detach().clone()
                    moved.view(-1)[at] += side
                    others = [moved if j == i else q for j, q in enumerate(example.predictions)]
                    got = trial.value(example.with_predictions(*others), **more)
                    ends.append(float(got.flatten()[place]))
                slope = (ends[0] - ends[1]) / (2 * step)
                claimed = 0.0 if g is None else float(g.flatten()[at])
                if not math.isclose(slope, claimed, rel_tol=1e-3, abs_tol=1e-5):
                    return Failure(
                        f"the gradient at entry {at} of prediction {i} is not the slope there",
                        f"slope {number(slope)}",
                        f"gradient {number(claimed)}",
                    )
    return None


@law(
    name="double-backward",
    place=1,
    why="Gradient penalties, meta-learning and Hessian products differentiate the gradient again.",
    how="Compare the second derivative with finite differences; an error that says it is not "
    "implemented is an answer too.",
    hint="Write the backward in differentiable operations, or mark it once_differentiable so that "
    "it says so.",
)
def double_backward(trial: Trial) -> str | None:
    example = leaf(next(trial.examples(1)))

    def call(*predictions: Tensor) -> Tensor:
        return trial.subject(example.with_predictions(*predictions)).sum()

    if call(*example.predictions).dtype is not torch.float64:
        raise Untested("the loss does not compute in float64, which finite differences need")
    first = slopes(call(*example.predictions), example, create_graph=True)
    if not any(g is not None and g.requires_grad for g in first):
        moved = example.with_predictions(*(p.detach() * 1.01 for p in example.predictions))
        if all(
            close(a, b) for a, b in zip(_slopes(trial, example), _slopes(trial, moved), strict=True)
        ):
            return "the gradient is constant here"
        failure = Failure(
            "the gradient moves with the predictions but has no graph of its own",
            "a second derivative, or an error",
            "a constant",
        )
        raise Broken(failure, trial.subject.named(example))
    try:
        torch.autograd.gradgradcheck(call, example.predictions, fast_mode=True)
    except GradcheckError as error:
        failure = Failure(
            "the second derivative is wrong", "the slope of the gradient", str(error)[:200]
        )
        raise Broken(failure, trial.subject.named(example)) from error
    except (RuntimeError, Raised) as error:
        return f"says that it has none: {str(error)[:120]}"
    return None


def _slopes(trial: Trial, example: Example) -> list[Tensor]:
    return trial.gradients(example)[1]
