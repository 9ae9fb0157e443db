"""Where the gradient leads: to the goal, and from the worst mistakes too."""

from __future__ import annotations

import itertools
import time
from dataclasses import replace

import torch
from torch import Tensor

from lossmith.check.examples import Example
from lossmith.check.ideals import ideal
from lossmith.check.laws.base import (
    Broken,
    Failure,
    NotApplicable,
    Raised,
    Untested,
    law,
    number,
    show,
)
from lossmith.check.trial import Trial, leaf


@law(
    name="dead-knob",
    place=2,
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
    place=2,
    why="Following the gradient must lead to what the loss is for.",
    how="Optimise free predictions with Adam (300 steps of 0.1) from three random starts; the "
    "family's metric must become perfect and the value must not rise.",
    hint="Look at where it ends: signs, sides and which pairs are pulled together; log-"
    "probabilities where they are asked for.",
)
def descent(trial: Trial) -> str:
    ends = []
    for seed in range(3):
        start = leaf(trial.example(seed).to(torch.float64))
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
        value.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        optimizer.step()
    return STEPS


@law(
    name="monotone",
    place=2,
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
    place=2,
    why="The worst mistakes must teach most; a clamp, an eps or a sigmoid too many stops that.",
    how="The gradient of predictions that are wrong by 30 and by 90 must not fall under a "
    "thousandth of its size where they are wrong by 0.5 or 4.",
    hint="Compute the log of a sigmoid or softmax in one step (logsigmoid, log_softmax, softplus), "
    "without clamp and eps; feed logits, not probabilities.",
)
def saturation(trial: Trial) -> None:
    kind = trial.subject.kind
    if kind not in (*_BY_ENTRY, *_BY_ROW):
        raise NotApplicable(f"no confident mistake is known for {kind}")

    if trial.subject.inputs.form == "probabilities":
        raise NotApplicable("is fed with probabilities, whose sigmoid saturates by itself")

    def dead(example: Example) -> Failure | None:
        pulls, mistakes = {}, {}
        for sure in (0.5, 4.0, 30.0, 90.0):
            wrong = ideal(kind, example, sure, False)
            assert wrong is not None
            mistakes[sure] = wrong
            pulls[sure] = _strength(trial.gradients(wrong)[1], kind)
        usual = torch.maximum(pulls[0.5], pulls[4.0])
        for sure in (30.0, 90.0):
            weak = (pulls[sure] < 1e-3 * usual) & (usual > 0)
            if bool(weak.any()):
                at = int(weak.flatten().nonzero()[0])
                return Failure(
                    f"predictions that are wrong by {sure:.0f} have almost no gradient",
                    f"about {number(usual.flatten()[at])} or more, as at 0.5 or 4",
                    number(pulls[sure].flatten()[at]),
                    given=mistakes[sure],
                )
        return None

    examples = trial.examples(0, 1, dtype=torch.float32)
    trial.hold(dead, map(_best_and_worst, examples) if kind == "scores+relevance" else examples)


def _best_and_worst(example: Example) -> Example:
    """Each list cut to two items with grades 1 and 0, so that one pair is all there is to learn."""
    grades = example.labels[0]
    ends = torch.stack((grades.argmax(-1), grades.argmin(-1)), dim=-1)
    labels = torch.tensor([1, 0], dtype=grades.dtype).expand_as(ends).clone()
    cut = replace(example, mask=None, weight=None, labels=(labels,))
    return cut.with_predictions(*(p.gather(-1, ends) for p in example.predictions))


def _strength(gradients: list[Tensor], kind: str) -> Tensor:
    if kind in _BY_ENTRY:
        return torch.stack([g.abs() for g in gradients]).amax(0)
    rows = [g.abs().flatten(1).amax(-1) if g.dim() > 1 else g.abs() for g in gradients]
    return torch.stack(rows).amax(0)


@law(
    name="jumps",
    place=2,
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
