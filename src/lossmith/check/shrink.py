"""From a batch that breaks a law to the smallest that does: few rows, few items, few digits."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from lossmith.check.examples import Example
from lossmith.check.laws.base import Failure

Test = Callable[[Example], "Failure | None"]


def smallest(
    example: Example, failure: Failure, test: Test, until: float
) -> tuple[Example, Failure]:
    """Keep taking the first smaller batch that still fails, until none does or time is up."""
    progress = True
    while progress:
        progress = False
        for candidate in _smaller(example):
            if time.thread_time() > until:
                return example, failure
            again = _still(test, candidate)
            if again is not None:
                example, failure, progress = candidate, again, True
                break
    return example, failure


def _still(test: Test, candidate: Example) -> Failure | None:
    """A smaller batch counts when it fails as the larger one did, not when it is refused."""
    try:
        return test(candidate)
    except Exception:
        return None


def _smaller(example: Example) -> Iterator[Example]:
    rows = example.batch_size
    if rows > 2:
        yield example.rows(0, rows // 2)
        yield example.rows(rows // 2, rows)
    if rows > 1:
        for row in reversed(range(rows)):
            yield without(example, 0, row)
    for axis in range(1, max(p.dim() for p in example.predictions)):
        for place in reversed(range(_size(example, axis))):
            if _size(example, axis) > 1:
                yield without(example, axis, place)
    yield from _rounder(example)


def _size(example: Example, axis: int) -> int:
    return max(p.shape[axis] for p in example.predictions if p.dim() > axis)


def without(example: Example, axis: int, place: int) -> Example:
    """The batch less one row, item or class, in every tensor that has that many of them."""
    size = _size(example, axis) if axis else example.batch_size
    kept = [i for i in range(size) if i != place]

    def cut(value: Any) -> Any:
        if isinstance(value, Tensor):
            if value.dim() > axis and value.shape[axis] == size:
                return value.index_select(axis, torch.tensor(kept, device=value.device))
            return value
        if axis == 0 and isinstance(value, (list, tuple)) and len(value) == size:
            return [value[i] for i in kept]
        return value

    return replace(
        example,
        predictions=tuple(map(cut, example.predictions)),
        labels=tuple(map(cut, example.labels)),
        mask=cut(example.mask),
        weight=cut(example.weight),
    )


def _rounder(example: Example) -> Iterator[Example]:
    """The same batch with rounder numbers, down to those that it already has."""
    for digits in (0, 1, 2):
        rounded = [torch.round(p.detach(), decimals=digits) for p in example.predictions]
        if all(torch.equal(p, r) for p, r in zip(example.predictions, rounded, strict=True)):
            return
        yield example.with_predictions(*rounded)
