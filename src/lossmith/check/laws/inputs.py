"""What a loss must refuse: shapes that broadcast, labels that are none."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from torch import Tensor

from lossmith.check.examples import Example
from lossmith.check.laws.base import Broken, Failure, NotApplicable, Raised, close, law, show
from lossmith.check.trial import Trial


@law(
    name="weights",
    place=5,
    why="A weight that changes the count as well as the cost cancels itself in the mean.",
    how="Weights of 2 must double the cost, and weights of another shape must raise.",
    hint="Multiply the cost by the weight and divide by the count of rows.",
    ours=True,
)
def weights(trial: Trial) -> None:
    example = next(trial.examples(5))
    if example.weight is None:
        raise NotApplicable("takes no weight")
    double = 2.0 * example.weight.double()
    got, wanted = trial.value(example, weight=double), 2.0 * trial.value(example)
    if not close(got, wanted):
        trial.break_on(example, Failure("weight=2 does not double", show(wanted), show(got)))
    try:
        trial.value(example, weight=double.unsqueeze(-1))
    except Raised as raised:
        if isinstance(raised.error, ValueError) and "weight" in str(raised.error):
            return
    raise Broken(
        Failure("a weight of another shape passes", "a ValueError about weight", "a value")
    )


@law(
    name="shapes",
    place=5,
    why="(N,) against (N, 1) broadcasts to N x N terms: every prediction learns from every label.",
    how="Give each tensor after the first a last dimension of 1: an error, or the same value.",
    hint="Compare shapes and raise: if a.shape != b.shape: raise ValueError(...).",
)
def shapes(trial: Trial) -> None:
    first = trial.example()
    tensors = [*first.predictions, *first.labels]
    for i in range(1, len(tensors)):
        if isinstance(tensors[i], Tensor):
            # mypy does not infer a lambda whose default binds the loop variable.
            trial.hold(lambda example, i=i: _broadcasts(trial, example, i), [first])  # type: ignore[misc]


def _broadcasts(trial: Trial, example: Example, i: int) -> Failure | None:
    tensors = [*example.predictions, *example.labels]
    bad = [t.unsqueeze(-1) if j == i else t for j, t in enumerate(tensors)]
    count = len(example.predictions)
    changed = replace(example, predictions=tuple(bad[:count]), labels=tuple(bad[count:]))
    name = list(trial.subject.named(example))[i]
    what = f"{name} of shape {tuple(bad[i].shape)} instead of {tuple(tensors[i].shape)}"
    try:
        got = trial.value(changed)
    except Raised as raised:
        if trial.subject.ours and not (
            isinstance(raised.error, ValueError) and "(" in str(raised.error)
        ):
            return Failure(
                f"{what}: the error does not teach", "a ValueError with shapes", str(raised)
            )
        return None
    wanted = trial.value(example)
    if (
        not trial.subject.ours
        and got.numel() == wanted.numel()
        and close(got.flatten(), wanted.flatten())
    ):
        return None  # harmless: it was read as meant
    if not trial.subject.ours and example.batch_size == 1:
        return None  # one row has nothing to broadcast against
    return Failure(f"{what} passes", f"an error (or {show(wanted)})", show(got))


@law(
    name="sentinels",
    place=5,
    why="A label that is none (-1 for missing, a class out of range) trains towards a lie.",
    how="Put one impossible label into a batch: an error, or NaN, but no number.",
    hint="Check the values and say which is wrong, or mask them out.",
)
def sentinels(trial: Trial) -> str:
    tried = []
    for bad in _impossible(trial):
        tried.append(f"{bad:g}")

        def used(example: Example, bad: float = bad) -> Failure | None:
            label = example.labels[0]
            if label.numel() == 0:
                return None
            wrong = label.clone()
            wrong.view(-1)[0] = bad
            changed = replace(example, labels=(wrong, *example.labels[1:]))
            try:
                value = trial.value(changed)
            except Raised:
                return None
            if not bool(value.isfinite().all()):
                return None
            return Failure(
                f"a first label of {bad:g} is used as if it were one", "an error", f"{show(value)}"
            )

        trial.hold(used, [trial.example()])
    if not tried:
        raise NotApplicable("no label is impossible here")
    return f"tried {', '.join(tried)}"


def _impossible(trial: Trial) -> Iterator[float]:
    kind, subject = trial.subject.kind, trial.subject
    label = trial.example().labels[0] if trial.example().labels else None
    if not isinstance(label, Tensor):
        return
    if kind in ("logits+class", "logits+marked"):
        classes = trial.example().predictions[0].shape[-1]
        yield from (bad for bad in (-1, classes) if bad != subject.ignore_index)
    elif kind == "logits+binary" and (subject.plan is None or subject.ours):
        yield from (-1.0, 2.0)
    elif kind == "logits+binary":
        yield -1.0
    elif kind == "logits+partial":
        yield 2.0
    elif kind == "pair+same":
        yield -1.0
    elif kind in ("pair+sign", "distance+sign", "two scores+sign"):
        yield 0.0
    elif kind == "logits+distribution":
        yield -1.0
    elif kind == "scores+relevance" and subject.ours and label.is_floating_point():
        yield float("nan")


@law(
    name="value-checks",
    place=5,
    why="A mask of floats is one sign away from its opposite.",
    how="A mask that is not bool must raise a TypeError.",
    hint="Call check_mask.",
    ours=True,
)
def value_checks(trial: Trial) -> None:
    mask = trial.need_mask()
    try:
        trial.value(trial.example(), mask=mask.float())
    except Raised as raised:
        if isinstance(raised.error, TypeError) and "mask must be bool" in str(raised.error):
            return
        raise Broken(
            Failure("another error", "TypeError: mask must be bool", str(raised))
        ) from raised
    raise Broken(Failure("a float mask passes", "TypeError: mask must be bool", "a value"))
