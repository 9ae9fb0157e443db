"""What a law is, what it may answer, and the numbers it compares."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from lossmith.core.words import FAMILIES

if TYPE_CHECKING:
    from lossmith.check.examples import Example
    from lossmith.check.trial import Trial


@dataclass(frozen=True)
class Failure:
    """How one batch breaks a law."""

    detail: str
    expected: str = ""
    got: str = ""
    # What the loss was given when it failed, where the law makes that out of the batch it tries.
    given: Example | None = None


class Broken(Exception):  # noqa: N818 - an answer of a law, no error of the check
    """The law does not hold; carries the smallest failing example."""

    def __init__(
        self, failure: Failure, example: Mapping[str, str] | None = None, hint: str = ""
    ) -> None:
        super().__init__(failure.detail)
        self.failure = failure
        self.example = dict(example or {})
        self.hint = hint


class NotApplicable(Exception):  # noqa: N818 - an answer of a law too
    """The law says nothing about this loss; the message is the reason."""


class Untested(Exception):  # noqa: N818 - an answer of a law too
    """The law could not be tried; the message is the reason."""


class Raised(Exception):  # noqa: N818 - an answer of a law too
    """The loss itself raised; ``error`` is what."""

    def __init__(self, error: Exception) -> None:
        super().__init__(error_text(error))
        self.error = error


def error_text(error: BaseException) -> str:
    """One line: the type and the first sentence or so of the message."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0][:200]}" if lines else type(error).__name__


# A law answers with a sentence about what was seen ("" for nothing to say), or raises one of the
# exceptions above.
Run = Callable[["Trial"], "str | None"]


@dataclass(frozen=True)
class Law:
    """One law and what to say about it."""

    name: str
    why: str
    how: str
    hint: str
    run: Run = field(repr=False)
    place: tuple[int, int]
    families: tuple[str, ...] = FAMILIES
    # A convention of this library: a loss from elsewhere that differs is not wrong.
    ours: bool = False


registry: dict[str, Law] = {}


def law(
    *,
    name: str,
    why: str,
    how: str,
    hint: str,
    place: int,
    families: tuple[str, ...] = FAMILIES,
    ours: bool = False,
) -> Callable[[Run], Run]:
    """Register a function as a law.

    Args:
        name: kebab-case.
        why: why it matters for training, one sentence.
        how: how it is tried, one sentence.
        hint: how a loss that breaks it is mended.
        place: the group, for the order in reports; within a group the order of the file counts.
        families: where it applies.
        ours: whether it is a convention of this library.
    """

    def register(run: Run) -> Run:
        registry[name] = Law(name, why, how, hint, run, (place, len(registry)), families, ours)
        return run

    return register


# How close two computations of one number must be: (relative, absolute) by what it is held in.
TOLERANCE = {
    torch.float64: (1e-9, 1e-12),
    torch.float32: (1e-4, 1e-5),
    torch.float16: (2e-2, 1e-3),
    torch.bfloat16: (6e-2, 1e-2),
}


def close(a: Tensor, b: Tensor, rtol: float | None = None, atol: float | None = None) -> bool:
    """Whether two results agree, to the precision of the coarser one."""
    if a.shape != b.shape:
        return False
    pairs = [TOLERANCE.get(t.dtype, (0.0, 0.0)) for t in (a, b)]
    rtol = max(p[0] for p in pairs) if rtol is None else rtol
    atol = max(p[1] for p in pairs) if atol is None else atol
    return torch.allclose(a.double(), b.double(), rtol=rtol, atol=atol, equal_nan=True)


def show(value: object, limit: int = 24) -> str:
    """A value as one would type it; a large tensor by its shape and ends."""
    if isinstance(value, Tensor):
        value = value.detach()
        if value.numel() > limit:
            flat = value.flatten()
            ends = f"{number(flat[0])} ... {number(flat[-1])}"
            return f"tensor of shape {tuple(value.shape)}: {ends}"
        return _nested(value)
    if isinstance(value, (list, tuple)) and any(isinstance(v, Tensor) for v in value):
        return f"[{', '.join(show(v, limit) for v in value)}]"
    return repr(value)


def _nested(value: Tensor) -> str:
    if value.dim() == 0:
        return number(value)
    return f"[{', '.join(_nested(part) for part in value)}]"


def number(value: Tensor | float) -> str:
    """A number in few digits."""
    item = value.item() if isinstance(value, Tensor) else value
    if isinstance(item, float):
        return f"{item:.5g}" if item != int_or_none(item) else f"{item:.1f}"
    return str(item)


def int_or_none(item: float) -> int | None:
    """The whole number that it is, if small enough to print in full."""
    return int(item) if abs(item) < 1e5 and item == int(item) else None
