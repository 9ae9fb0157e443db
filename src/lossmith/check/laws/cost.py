"""How work and memory grow with the rows of a batch, and with what is inside a row."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from lossmith.check.examples import Example
from lossmith.check.laws.base import Broken, Failure, Raised, law
from lossmith.check.laws.batch import TOGETHER
from lossmith.check.subject import Subject
from lossmith.check.trial import Trial, leaf, slopes

GROWTH = {"n": 1.0, "n log n": 1.0, "n^2": 2.0}
SLACK = 0.35  # of an exponent: what is constant still weighs in at sizes that can be tried
FACTORS = tuple(2**i for i in range(1, 9))  # times the size of an example
FEW = 16  # enough, unless more growth is seen than allowed
MOST_NUMBERS = 2**27  # in one forward and backward, some seconds
INSIDE = torch._C.DispatchKeySet(torch._C.DispatchKey.CPU)


@dataclass(frozen=True)
class Axis:
    """What can grow: the dimension of each tensor along which it does, None for one that stays."""

    name: str
    predictions: tuple[int | None, ...]
    labels: tuple[int | None, ...] = ()
    mask: int | None = None
    weight: int | None = None
    shares: bool = False  # labels that add up to 1 along it
    in_turn: bool = False  # one after the other is how a recurrence goes, and no fault


_ITEMS = Axis("items of a list", (1,), (1,), mask=1)
_FEATURES = Axis("features", (-1, -1, -1))
# Beside its rows, which every kind has. A mask or weight of another shape stays as it is.
AXES: Mapping[str, tuple[Axis, ...]] = {
    "logits+class": (Axis("classes", (1,)),),
    "logits+distribution": (Axis("classes", (1,), (1,), shares=True),),
    "logits+binary": (Axis("classes", (1,), (1,), mask=1, weight=1),),
    "logits+partial": (Axis("classes", (1,), (1,), mask=1, weight=1),),
    "pair+same": (_FEATURES,),
    "pair+sign": (_FEATURES,),
    "triplet": (_FEATURES,),
    "queries+positives": (_FEATURES,),
    "two views": (_FEATURES,),
    "embeddings+labels": (_FEATURES,),
    "scores+relevance": (_ITEMS,),
    "log_probs+rewards": (replace(_ITEMS, name="samples"),),
    "positive+draws": (Axis("draws", (None, 1), mask=1),),
    "positive+catalogue": (Axis("items", (None, 1), mask=1),),
    "logits+keywords": (Axis("vocabulary", (2,)), Axis("positions", (1,), mask=1, in_turn=True)),
    "logits+marked": (
        Axis("vocabulary", (2,)),
        Axis("positions", (1,), (1, 1), mask=1, weight=1, in_turn=True),
    ),
    "logits+keywords+marked": (
        Axis("vocabulary", (2,)),
        Axis("positions", (1,), (1, None, 1), mask=1, in_turn=True),
    ),
    "hidden+head+class": (Axis("classes", (None, 0)), Axis("features", (1, 1))),
}


class Counter(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch leaves it untyped
    """Counts operations, and the numbers that they write or multiply."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # as above
        self.calls = 0
        self.numbers = 0
        self.largest = 0
        self.inside = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run the operation and count it; an operator written in Python counts by its inside."""
        kwargs = kwargs or {}
        self.calls += self.inside == 0
        if func.namespace != "aten":
            return self._opened(func, args, kwargs)
        out = func(*args, **kwargs)
        sizes = [value.numel() for value in _tensors(out)]
        self.largest = max([self.largest, *sizes])
        formula = flop_registry.get(func.overloadpacket)
        self.numbers += formula(*args, **kwargs, out_val=out) // 2 if formula else sum(sizes)
        return out

    def _opened(self, func: Any, args: Any, kwargs: Any) -> Any:
        self.inside += 1
        try:
            with self:
                return func.redispatch(INSIDE, *args, **kwargs)
        finally:
            self.inside -= 1


def _tensors(out: Any) -> Iterable[Tensor]:
    values = out if isinstance(out, (tuple, list)) else (out,)
    return (value for value in values if isinstance(value, Tensor))


@law(
    name="cost",
    place=8,
    why="A Python loop over rows, or a tensor of rows^3 numbers, decides how large a batch can be.",
    how="Count operations, the numbers they write or multiply and the largest tensor of forward "
    "and backward, at 2 to 16 times the rows and, apart, what is in a row (items, classes, "
    "features, positions); where more growth is seen than allowed, or n log n is promised, up to "
    "256 times; and fit the exponents.",
    hint="Vectorise over the batch; compare rows by a matrix product, not every pair of pairs.",
)
def cost(trial: Trial) -> str:
    seen = [_grow(trial, None)]
    for axis in AXES.get(trial.subject.kind, ()):
        if _takes(trial, axis):
            seen.append(_grow(trial, axis))
    return "; ".join(seen)


def _takes(trial: Trial, axis: Axis) -> bool:
    """Whether it can be asked at all: weights of a loss from elsewhere may fix its sizes."""
    try:
        trial.value(_times(trial, axis, 2))
    except Raised:
        return trial.subject.ours
    return True


def _grow(trial: Trial, axis: Axis | None) -> str:
    """What growth was seen along an axis; the rows for None."""
    name = axis.name if axis else "rows"
    promise, allowed = _promise(trial.subject, axis)
    growth = _Growth(name)
    for factor in FACTORS:
        trial.in_time()
        example = _times(trial, axis, factor)
        growth.sizes.append(_size(example, axis))
        growth.counts.append(_count(trial, example))
        if factor < FEW:
            continue
        if factor == FEW and not (axis and axis.in_turn):
            growth.judge_calls()
        settled = growth.most <= allowed + SLACK and growth.least >= -SLACK  # no switch between
        if (settled and promise != "n log n") or 4 * growth.counts[-1].numbers > MOST_NUMBERS:
            break
    if growth.most > allowed + SLACK:
        said = f"{promise}, as declared" if promise else f"n^{allowed:.0f} at most"
        raise Broken(Failure(f"grows faster: {growth}", said, str(growth)), growth.shown("numbers"))
    return str(growth)


def _promise(subject: Subject, axis: Axis | None) -> tuple[str, float]:
    """What the metadata says, and the exponent allowed; a loss without any may compare freely."""
    if subject.spec is not None:
        return subject.spec.cost, GROWTH[subject.spec.cost]
    return "", 1.0 if axis is None and subject.kind not in TOGETHER else 2.0


@dataclass
class _Growth:
    """What was counted at each size of one axis."""

    name: str
    sizes: list[int] = field(default_factory=list)
    counts: list[Counter] = field(default_factory=list)

    def exponent(self, what: str) -> float:
        """The growth over the last doubling, where what is constant weighs least."""
        before, after = (getattr(count, what) for count in self.counts[-2:])
        if before <= 0 or after <= 0:
            return 0.0
        return math.log(after / before) / math.log(self.sizes[-1] / self.sizes[-2])

    @property
    def most(self) -> float:
        return max(self.exponent("numbers"), self.exponent("largest"))

    @property
    def least(self) -> float:
        return min(self.exponent("numbers"), self.exponent("largest"))

    def judge_calls(self) -> None:
        """A loop in Python shows in the number of operations."""
        seen = f"operations n^{self.exponent('calls'):.2f} in {self.name}"
        if self.exponent("calls") > 0.5 and self.counts[-1].calls > 2 * self.counts[0].calls:
            raise Broken(
                Failure(f"a Python loop: {seen}", "as many operations for any size", seen),
                self.shown("calls"),
                f"Replace the loop over {self.name} by operations on whole tensors.",
            )

    def shown(self, what: str) -> dict[str, str]:
        """The counts as the example of a failure."""
        unit = "operations" if what == "calls" else what
        pairs = zip(self.sizes, self.counts, strict=True)
        return {f"{n} {self.name}": f"{getattr(count, what)} {unit}" for n, count in pairs}

    def __str__(self) -> str:
        numbers, largest = self.exponent("numbers"), self.exponent("largest")
        return (
            f"{self.name} up to {self.sizes[-1]}: numbers n^{numbers:.2f}, "
            f"largest tensor n^{largest:.2f}"
        )


def _count(trial: Trial, example: Example) -> Counter:
    example = leaf(example)
    counter = Counter()
    with counter:
        value = trial.subject(example).sum()
        if value.requires_grad:
            slopes(value, example)
    return counter


def _size(example: Example, axis: Axis | None) -> int:
    if axis is None:
        return example.batch_size
    grown = zip(example.predictions, axis.predictions, strict=False)
    return next(tensor.shape[dim] for tensor, dim in grown if dim is not None)


def _times(trial: Trial, axis: Axis | None, factor: int) -> Example:
    """That many batches as one: more rows, or longer ones."""
    parts = [trial.example(20 + i) for i in range(factor)]
    return _more_rows(parts) if axis is None else _longer_rows(parts, axis)


def _more_rows(parts: list[Example]) -> Example:
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


def _longer_rows(parts: list[Example], axis: Axis) -> Example:
    def joined(values: Iterable[Any], dim: int | None) -> Any:
        first, *rest = values
        return first if dim is None or first is None else torch.cat([first, *rest], dim)

    def each(columns: Iterable[tuple[Any, ...]], dims: tuple[int | None, ...]) -> tuple[Any, ...]:
        columns = list(columns)
        dims = (*dims, *[None] * (len(columns) - len(dims)))
        return tuple(map(joined, columns, dims[: len(columns)]))

    labels = each(zip(*(p.labels for p in parts), strict=True), axis.labels)
    return replace(
        parts[0],
        predictions=each(zip(*(p.predictions for p in parts), strict=True), axis.predictions),
        labels=tuple(label / len(parts) for label in labels) if axis.shares else labels,
        mask=joined((p.mask for p in parts), axis.mask),
        weight=None,
    )
