"""What a loss promises in its metadata, or by being one: invariances and cost."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from lossmith.check.examples import Example
from lossmith.check.laws.base import Broken, Failure, NotApplicable, close, law, show
from lossmith.check.laws.batch import TOGETHER
from lossmith.check.trial import Trial, leaf, slopes


@law(
    name="invariances",
    place=8,
    why="A promise in the metadata is what people build on.",
    how="Shift all predictions by 3.25, scale them by 1.75, reverse the items of each list: what "
    "is promised to stay must stay.",
    hint="Mend the formula, or take the promise back.",
)
def invariances(trial: Trial) -> str:
    spec = trial.subject.spec
    if spec is None or not spec.invariances:
        raise NotApplicable("promises none")
    changes: dict[str, Callable[[Tensor], Tensor]] = {
        "shift": lambda p: p + 3.25,
        "scale": lambda p: p * 1.75,
        "item permutation": lambda p: p.flip(-1) if p.dim() > 1 else p,
    }
    for name in spec.invariances:
        change = changes[name]

        def moves(example: Example, name: str = name, change: Any = change) -> Failure | None:
            moved = example.with_predictions(*map(change, example.predictions))
            if name == "item permutation":
                moved = moved.with_labels(*map(change, example.labels))
            a, b = trial.value(example), trial.value(moved)
            tolerance = 1e-7 if name == "item permutation" else 1e-9
            return (
                None if close(a, b, tolerance) else Failure(f"moves under {name}", show(a), show(b))
            )

        trial.hold(moves, trial.examples(14, 3))
    return f"holds: {', '.join(sorted(spec.invariances))}"


class Counter(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch leaves it untyped
    """Counts operations and the elements that they write."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.calls = 0
        self.elements = 0
        self.largest = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run the operation and count its output."""
        out = func(*args, **(kwargs or {}))
        self.calls += 1
        for value in out if isinstance(out, (tuple, list)) else (out,):
            if isinstance(value, Tensor):
                self.elements += value.numel()
                self.largest = max(self.largest, value.numel())
        return out


GROWTH = {"n": 1.0, "n log n": 1.0, "n^2": 2.0, "n^3": 3.0}


@law(
    name="cost",
    place=8,
    why="A Python loop over rows, or a tensor of rows^3 numbers, decides how large a batch can be.",
    how="Count operations, written numbers and the largest tensor of forward and backward for 2 "
    "to 16 times the rows, and fit the exponents.",
    hint="Vectorise over the batch; compare rows by a matrix product, not every pair of pairs.",
)
def cost(trial: Trial) -> str:
    subject = trial.subject
    factors = (2, 4, 8, 16)
    counts, rows = [], []
    for factor in factors:
        trial.in_time()
        example = _times(trial, factor)
        counts.append(_count(trial, example))
        rows.append(example.batch_size)
    calls = _exponent(rows, [c.calls for c in counts])
    written = _exponent(rows, [c.elements for c in counts])
    largest = _exponent(rows, [c.largest for c in counts])
    seen = f"operations n^{calls:.2f}, numbers n^{written:.2f}, largest tensor n^{largest:.2f}"
    declared = subject.spec.cost if subject.spec else ""
    allowed = GROWTH.get(declared, 2.0 if subject.kind in TOGETHER else 1.0)
    counted = {
        f"{n} rows": f"{c.calls} operations, {c.elements} numbers"
        for n, c in zip(rows, counts, strict=True)
    }
    if calls > 0.5 and counts[-1].calls > 2 * counts[0].calls:
        failure = Failure(f"a Python loop: {seen}", "as many operations for any batch", seen)
        raise Broken(failure, counted, "Replace the loop over rows by operations on whole tensors.")
    if max(written, largest) > allowed + 0.35:
        promise = f"{declared!r} (declared)" if declared else f"n^{allowed:.0f} at most"
        raise Broken(Failure(f"grows faster: {seen}", promise, seen), counted)
    return seen


def _count(trial: Trial, example: Example) -> Counter:
    example = leaf(example)
    counter = Counter()
    with counter:
        value = trial.subject(example).sum()
        if value.requires_grad:
            slopes(value, example)
    return counter


def _exponent(rows: list[int], counts: list[int]) -> float:
    """The growth over the last doubling, where what is constant weighs least."""
    if counts[-2] <= 0 or counts[-1] <= 0:
        return 0.0
    return math.log(counts[-1] / counts[-2]) / math.log(rows[-1] / rows[-2])


def _times(trial: Trial, factor: int) -> Example:
    """That many batches as one."""
    parts = [trial.example(20 + i) for i in range(factor)]

    def joined(values: tuple[Any, ...]) -> Any:
        if isinstance(values[0], Tensor):
            return torch.cat(values)
        return [row for value in values for row in value]

    first = parts[0]
    return replace(
        first,
        predictions=tuple(
            values[0] if i in first.shared else joined(values)
            for i, values in enumerate(zip(*(p.predictions for p in parts), strict=True))
        ),
        labels=tuple(joined(v) for v in zip(*(p.labels for p in parts), strict=True)),
        mask=None
        if first.mask is None
        else torch.cat([p.mask for p in parts if p.mask is not None]),
        weight=None,
    )
