"""Numbers at the edge: large, equal, identical, few digits."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor

from lossmith.check.examples import Example
from lossmith.check.ideals import ideal
from lossmith.check.laws.base import Failure, NotApplicable, Raised, Untested, close, law, show
from lossmith.check.trial import Trial, filled, finite, leaf, showed, slopes


@law(
    name="extremes",
    place=6,
    why="Ties, zeros, duplicates and confident answers happen in every training; one NaN gradient "
    "and the model is gone.",
    how="Scale the predictions by 0, 1e4 and -1e4, make them all the same or perfectly right or "
    "wrong, leave a row without a positive: value and gradient must be finite in float32.",
    hint="Stay in log space, guard the argument of a root or a division with torch.where before "
    "the operation, and give 0 gradient where there is no direction.",
)
def extremes(trial: Trial) -> None:
    for what, example in _edges(trial):

        def breaks(example: Example, what: str = what) -> Failure | None:
            value, gradients = trial.gradients(example)
            if finite(value, gradients):
                return None
            return Failure(
                f"{what}: not finite", "a finite value and gradient", showed((value, gradients))
            )

        trial.hold(breaks, [example])


def _edges(trial: Trial) -> Iterator[tuple[str, Example]]:
    example, kind = trial.example(6), trial.subject.kind
    for scale in (0.0, 1e4, -1e4):
        scaled = example.with_predictions(*(p * scale for p in example.predictions))
        yield f"predictions times {scale:g}", scaled
    first = example.predictions[0]
    alike = [
        first[:1].expand_as(p).clone() if p.shape == first.shape else p for p in example.predictions
    ]
    yield "every row the same", example.with_predictions(*alike)
    if len(example.predictions) > 1 and all(p.shape == first.shape for p in example.predictions):
        yield "both sides the same", example.with_predictions(*(first for _ in example.predictions))
    for sure, right in ((20.0, True), (100.0, True), (100.0, False)):
        end = ideal(kind, example, sure, right)
        if end is not None:
            yield f"perfectly {'right' if right else 'wrong'} by {sure:g}", end
    if kind == "logits+binary":
        for label in (0.0, 1.0):
            row = example.labels[0].clone()
            row[0] = label
            yield f"a row of labels {label:g}", replace(example, labels=(row,))


@law(
    name="nan-not-hidden",
    place=6,
    why="A NaN that the loss paints over leaves a broken model that looks fine.",
    how="Make one prediction NaN: the value must be NaN, or an error.",
    hint="No nan_to_num; let a NaN through so that the run stops where it broke.",
)
def nan_not_hidden(trial: Trial) -> None:
    whole = trial.example(7)

    def hides(example: Example) -> Failure | None:
        broken = example.predictions[0].clone()
        if broken.numel() == 0:
            return None
        if example is not whole and not bool(trial.gradients(example)[1][0][0].any()):
            return None  # a smaller batch whose first row says nothing would be no proof
        broken[0] = float("nan")
        try:
            value = trial.value(example.with_predictions(broken, *example.predictions[1:]))
        except Raised:
            if trial.subject.ours:
                raise
            return None
        if bool(value.isnan().any()):
            return None
        return Failure("NaN predictions in the first row cost a number", "nan", show(value))

    trial.hold(hides, [whole])


# How far a result in few digits may be from the exact one, relative to its size.
SLACK = {torch.float16: 2e-2, torch.bfloat16: 6e-2}


@law(
    name="half-precision",
    place=6,
    why="Mixed precision hands the loss float16 and bfloat16; an eps of 1e-8 is 0 there and a sum "
    "has three digits.",
    how="Compare float16 and bfloat16 predictions, random and confident ones, with the same "
    "numbers in float64: as finite, and as near as the digits allow.",
    hint="Upcast to float32 first: logits = logits.float().",
)
def half_precision(trial: Trial) -> str | None:
    refused = []
    for dtype in (torch.float16, torch.bfloat16):

        def differs(example: Example, dtype: torch.dtype = dtype) -> Failure | None:
            half = example.to(dtype)
            value = trial.value(half)
            if trial.subject.ours:
                exact = trial.value(half.to(torch.float32))
                good = value.dtype is torch.float32 and close(value, exact, 1.3e-6, 1e-5)
            else:
                exact = trial.value(half.to(torch.float64))
                slack = SLACK[dtype]
                good = not bool(exact.isfinite().all()) or close(value, exact, slack, slack)
            return (
                None
                if good
                else Failure(f"in {dtype}", show(exact), f"{show(value)} ({value.dtype})")
            )

        try:
            trial.hold(differs, _halves(trial))
        except Raised as raised:
            if trial.subject.ours:
                raise
            refused.append(f"{dtype}: {raised}")
    if len(refused) == 2:
        raise NotApplicable(f"refuses half precision: {refused[0]}")
    return "; ".join(refused)


def _halves(trial: Trial) -> Iterator[Example]:
    example = trial.example(8)
    yield example
    for sure in (14.0, 20.0):
        for right in (True, False):
            end = ideal(trial.subject.kind, example, sure, right)
            if end is not None:
                yield end


@law(
    name="autocast",
    place=6,
    why="Under autocast matrix products are bfloat16, and a softmax of them has three digits.",
    how="Compare value and gradient of float32 predictions with and without autocast to bfloat16.",
    hint="Wrap the mathematics in torch.autocast(device_type, enabled=False) and upcast.",
)
def autocast(trial: Trial) -> str | None:
    example = trial.example(9)
    plain = trial.gradients(example)
    predictions = leaf(example)
    try:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            value = trial.subject(predictions)
        # backward() belongs outside: inside, its own products would be in bfloat16.
        under = value.detach(), filled(slopes(value, predictions), example)
    except Raised as raised:
        if trial.subject.ours:
            raise
        raise Untested(f"raises under autocast: {raised}") from raised
    if trial.subject.ours:
        good = under[0].dtype is torch.float32 and close(under[0], plain[0], 1e-6, 1e-6)
        good = good and all(
            close(a, b, 1e-5, 1e-6) for a, b in zip(under[1], plain[1], strict=True)
        )
        error = 0.0
    else:
        error = max(_apart(a, b) for a, b in zip(under[1], plain[1], strict=True))
        good = error < 3e-2 and close(under[0], plain[0], 1e-2, 1e-2)
        good = good and under[0].dtype not in (torch.bfloat16, torch.float16)
    if not good:
        failure = Failure(
            f"returns {under[0].dtype}, wrong by {error:.1%} in the gradient",
            f"{showed(plain)} ({plain[0].dtype})",
            f"{showed(under)} ({under[0].dtype})",
        )
        trial.break_on(example, failure)
    return (
        f"value in {under[0].dtype}, gradient wrong by {error:.1%}"
        if not trial.subject.ours
        else None
    )


def _apart(a: Tensor, b: Tensor) -> float:
    """The largest difference, relative to the largest entry."""
    if not bool(a.isfinite().all()):
        return float("inf")
    top = float(b.abs().max()) if b.numel() else 0.0
    return float((a.double() - b.double()).abs().max()) / top if top else 0.0
