"""What a loss must do for training: a gradient, the right one, that leads somewhere."""

from __future__ import annotations

import itertools
import math
import time
from typing import Any

import torch
from torch import Tensor
from torch.autograd.gradcheck import GradcheckError

from lossmith.check.examples import Example
from lossmith.check.ideals import ideal
from lossmith.check.laws.base import (
    Broken,
    Failure,
    NotApplicable,
    Raised,
    Untested,
    close,
    law,
    number,
    show,
)
from lossmith.check.trial import Trial, leaf


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
        if not _exact(trial, example, {}, fast=False):
            return _compare(trial, example, {}) or Failure("gradient and finite differences differ")
        once, thrice = (_scaled(trial, example, factor) for factor in (1.0, 3.0))
        for a, b in zip(once, thrice, strict=True):
            if not close(3.0 * a, b):
                return Failure(
                    "three times the loss has not three times the gradient", show(3.0 * a), show(b)
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
    slopes = torch.autograd.grad(value, example.predictions, allow_unused=True)
    zeros = map(torch.zeros_like, example.predictions)
    return [z if g is None else g for g, z in zip(slopes, zeros, strict=True)]


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
        slopes = torch.autograd.grad(
            pick, example.predictions, allow_unused=True, retain_graph=True
        )
        for i, (p, g) in enumerate(zip(example.predictions, slopes, strict=True)):
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
    first = torch.autograd.grad(
        call(*example.predictions), example.predictions, create_graph=True, allow_unused=True
    )
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


@law(
    name="dead-knob",
    place=1,
    why="A knob that moves the reported loss and not the gradient tunes nothing.",
    how="Turn each knob between two values on five batches: where the value moves, so must the "
    "gradient on some batch.",
    hint="The term that the knob weighs does not depend on the predictions; compute it from the "
    "model's own output.",
)
def dead_knob(trial: Trial) -> str:
    knobs = trial.subject.knobs()
    if not knobs:
        raise NotApplicable("has no knob that is a number")
    quiet = []
    for name, ends in knobs.items():
        try:
            turned = [trial.subject.with_knob(name, end) for end in ends]
        except Exception as error:
            quiet.append(f"{name} (cannot be turned: {error})")
            continue
        moved, steered = False, False
        for example in trial.examples(*range(5)):
            try:
                a, b = (Trial(s, trial.seed).gradients(example) for s in turned)
            except Raised:
                break
            moved |= not torch.allclose(a[0], b[0])
            steered |= any(not torch.allclose(x, y) for x, y in zip(a[1], b[1], strict=True))
            if moved and not steered and len(knobs) < 9:
                last = (example, a, b)
        if moved and not steered:
            example, a, b = last
            failure = Failure(
                f"{name}={ends[0]!r} and {name}={ends[1]!r} give the same gradient",
                "another gradient",
                f"values {show(a[0])} and {show(b[0])}, gradient {show(a[1][0])} with both",
            )
            raise Broken(failure, trial.subject.named(example))
        if not moved and not steered:
            if trial.subject.ours:
                raise Broken(Failure(f"{name} has no effect at all between {ends}"))
            quiet.append(name)
    return f"no effect seen: {', '.join(quiet)}" if quiet else f"tried {', '.join(knobs)}"


@law(
    name="descent",
    place=1,
    why="Following the gradient must lead to what the loss is for.",
    how="Optimise free predictions with Adam (300 steps of 0.1) from three random starts; the "
    "family's metric must become perfect and the value must not rise.",
    hint="Look at where it ends: signs, sides and which pairs are pulled together; log-"
    "probabilities where they are asked for.",
)
def descent(trial: Trial) -> str:
    ends = []
    for seed in range(3):
        start = leaf(trial.example(seed))
        before = float(trial.value(start).sum())
        steps = _descend(trial, start)
        after = float(trial.value(start).sum())
        if start.solved(start.predictions) and after <= before:
            ends.append(number(after))
            continue
        if steps < STEPS:
            raise Untested(f"out of time after {steps} of {STEPS} steps")
        if after > before:
            what = f"{STEPS} steps raise the value from {number(before)} to {number(after)}"
        else:
            what = (
                f"{STEPS} steps lead from {number(before)} to {number(after)}, and not to the goal"
            )
        reached = "; ".join(show(p) for p in start.predictions)
        failure = Failure(what, "predictions that are right", reached)
        raise Broken(failure, trial.subject.named(trial.example(seed)))
    return f"ends at {', '.join(ends)}"


STEPS = 300


def _descend(trial: Trial, start: Example) -> int:
    """Optimise the predictions where they stand; how many steps were taken."""
    fused = all(p.device.type == "cpu" for p in start.predictions)
    optimizer = torch.optim.Adam(start.predictions, lr=0.1, fused=fused)
    for step in range(STEPS):
        if time.thread_time() > trial.deadline:
            return step
        optimizer.zero_grad()
        value = trial.subject(start).sum()
        if not value.requires_grad:
            return STEPS
        value.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return STEPS


@law(
    name="monotone",
    place=1,
    why="A loss that charges more for better predictions makes the model worse.",
    how="Perfect predictions cost less than perfectly wrong ones, and random ones on average "
    "neither less than the first nor more than the second.",
    hint="Check the sign, and which label means what.",
)
def monotone(trial: Trial) -> str:
    def costs(example: Example) -> tuple[float, float, float]:
        kind = trial.subject.kind
        ends = [ideal(kind, example, 8.0, right) for right in (True, False)]
        if ends[0] is None or ends[1] is None:
            raise NotApplicable(f"no perfect prediction is known for {kind}")
        right, wrong = (float(trial.value(end).sum()) for end in ends if end is not None)
        if kind in ("queries+positives", "two views", "embeddings+labels"):  # as long as the ends
            example = example.with_predictions(
                *(p / p.norm(dim=-1, keepdim=True) for p in example.predictions)
            )
        return right, float(trial.value(example).sum()), wrong

    seen = [costs(example) for example in trial.examples(*range(5))]
    right, middle, wrong = (sum(column) / len(seen) for column in zip(*seen, strict=True))
    slack = 1e-6 * (1.0 + abs(middle))
    if not (right < wrong and right <= middle + slack and middle <= wrong + slack):
        failure = Failure(
            "better predictions cost more",
            "perfect < random < perfectly wrong",
            f"perfect {number(right)}, random {number(middle)}, wrong {number(wrong)}",
        )
        trial.break_on(trial.example(), failure)
    return f"perfect {number(right)}, random {number(middle)}, wrong {number(wrong)}"


# Where a confident mistake is one entry, and where it is a row of them.
_BY_ENTRY = ("logits+binary", "logits+partial", "positive+negative", "two scores+sign")
_BY_ROW = (
    "logits+class",
    "logits+marked",
    "scores+relevance",
    "positive+draws",
    "positive+catalogue",
)


@law(
    name="saturation",
    place=1,
    why="The worst mistakes must teach most; a clamp, an eps or a second sigmoid switches them off.",
    how="The gradient of predictions that are wrong by 30 and by 90 must not fall under a "
    "thousandth of its size where they are wrong by 4.",
    hint="Compute the log of a sigmoid or softmax in one step (logsigmoid, log_softmax, softplus), "
    "without clamp and eps; feed logits, not probabilities.",
)
def saturation(trial: Trial) -> str | None:
    kind = trial.subject.kind
    if kind not in (*_BY_ENTRY, *_BY_ROW):
        raise NotApplicable(f"no confident mistake is known for {kind}")

    if trial.subject.inputs.form == "probabilities":
        raise NotApplicable("is fed with probabilities, whose sigmoid saturates by itself")

    def dead(example: Example) -> Failure | None:
        if kind == "scores+relevance":
            grades = example.labels[0]
            if bool((grades.amax(-1) == grades.amin(-1)).any()):
                return None
        pulls = {}
        for sure in (4.0, 30.0, 90.0):
            wrong = ideal(kind, example, sure, False)
            assert wrong is not None
            gradients = trial.gradients(wrong)[1]
            pulls[sure] = _strength(gradients, kind)
        for sure in (30.0, 90.0):
            weak = (pulls[sure] < 1e-3 * pulls[4.0]) & (pulls[4.0] > 0)
            if bool(weak.any()):
                at = int(weak.flatten().nonzero()[0])
                return Failure(
                    f"predictions that are wrong by {sure:.0f} have almost no gradient",
                    f"about {number(pulls[4.0].flatten()[at])} or more, as at 4",
                    number(pulls[sure].flatten()[at]),
                )
        return None

    trial.hold(dead, trial.examples(0, 1, dtype=torch.float32))
    return None


def _strength(gradients: list[Tensor], kind: str) -> Tensor:
    if kind in _BY_ENTRY:
        return torch.stack([g.abs() for g in gradients]).amax(0)
    rows = [g.abs().flatten(1).amax(-1) if g.dim() > 1 else g.abs() for g in gradients]
    return torch.stack(rows).amax(0)


@law(
    name="jumps",
    place=1,
    why="A value that leaps where its gradient is silent makes curves, early stopping and plateau "
    "schedules follow noise.",
    how="Walk from random to perfect predictions, and halve the step with the largest unexplained "
    "change forty times: a continuous loss changes ever less.",
    hint="Subtract the value at the switch, as in relu(cost - cost at the margin), instead of "
    "multiplying by a step.",
)
def jumps(trial: Trial) -> None:
    kind = trial.subject.kind

    def leap(example: Example) -> Failure | None:
        end = ideal(kind, example, 3.0, True)
        if end is None:
            raise NotApplicable(f"no perfect prediction is known for {kind}")

        def at(t: float) -> float:
            point = [
                a + t * (b - a) for a, b in zip(example.predictions, end.predictions, strict=True)
            ]
            return float(trial.value(example.with_predictions(*point)).sum())

        steps = 48
        grid = [at(i / steps) for i in range(steps + 1)]
        typical = sum(abs(b - a) for a, b in itertools.pairwise(grid)) / steps
        changes = sorted(range(steps), key=lambda i: -_bend(grid, i))
        for i in changes[:2]:
            low, high, a, b = i / steps, (i + 1) / steps, grid[i], grid[i + 1]
            for _ in range(40):
                if abs(b - a) <= 1e-4 * (typical + 1e-6 * abs(a)):
                    break
                middle = (low + high) / 2
                c = at(middle)
                if abs(c - a) > abs(b - c):
                    high, b = middle, c
                else:
                    low, a = middle, c
            if abs(b - a) > 1e-3 * (typical + 1e-3 * (abs(a) + 1e-3)) and abs(b - a) > 1e-6 * abs(
                a
            ):
                return Failure(
                    f"the value leaps by {number(b - a)} within a step of 1e-13",
                    "a change as small as the step",
                    f"{number(a)} and {number(b)}",
                )
        return None

    trial.hold(leap, trial.examples(0, 1))


def _bend(grid: list[float], i: int) -> float:
    """How much one step stands out from its neighbours."""
    here = grid[i + 1] - grid[i]
    before = grid[i] - grid[i - 1] if i else here
    after = grid[i + 2] - grid[i + 1] if i + 2 < len(grid) else here
    return min(abs(here - before), abs(here - after)) + 1e-9 * abs(here)
