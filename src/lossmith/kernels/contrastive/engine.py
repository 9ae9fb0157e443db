"""Row statistics of a similarity matrix that is never held whole, and their exact gradients.

A :class:`Statistic` has two forms of the same mathematics. ``direct`` is plain differentiable
PyTorch over the whole matrix: the right one for small batches, and under ``torch.func``.
``forward`` and ``backward`` go by blocks of rows behind one opaque operator, so that eager code and
``torch.compile`` run the same passes and memory stays linear in the batch.

The operator hands out values per row, and any function of them may follow. A statistic may make
its gradient already in the forward pass, for the ``hint``: the slope of the loss in each row, up
to one common factor, which for a mean or a sum is the row's weight. Where the slopes that come
back are not a multiple of the hint, the passes are made again with the right ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from lossmith.core.numerics import full_precision
from lossmith.core.validate import under_transform

Tensors = list[Tensor]
Optionals = Sequence[Tensor | None]
Numbers = Sequence[float]

# Stands for the similarity of a candidate that is not there: exp gives 0, and unlike -inf it
# leaves no NaN in the gradient of a row without candidates.
ABSENT = -1e30


class Statistic(Protocol):
    """Statistics per row of ``inputs``, the tensors that receive gradient."""

    def direct(self, inputs: Tensors, constants: Optionals, numbers: Numbers) -> Tensors:
        """The statistics, in differentiable form and with the whole matrix in memory."""

    def forward(
        self, inputs: Tensors, constants: Optionals, numbers: Numbers, hint: Tensor | None
    ) -> tuple[Tensors, Tensors]:
        """The statistics by blocks, and the gradients of ``hint @ statistics[0]`` if it can."""

    def backward(
        self,
        inputs: Tensors,
        constants: Optionals,
        numbers: Numbers,
        values: Tensors,
        slopes: Tensors,
    ) -> Tensors:
        """The gradient of each input, given the slope of each statistic."""

    def shapes(self, inputs: Tensors) -> Tensors:
        """Empty tensors of the shapes of the statistics."""


@runtime_checkable
class Keeping(Statistic, Protocol):
    """A statistic whose forward pass leaves something to its backward pass, hint or not."""

    def keep(self, inputs: Tensors) -> Tensors:
        """Tensors of the shapes of that, with any numbers."""

    def backward_of(
        self,
        inputs: Tensors,
        constants: Optionals,
        numbers: Numbers,
        values: Tensors,
        slopes: Tensors,
        kept: Tensors,
    ) -> Tensors:
        """As ``backward``, given what was left, which stays as it is."""


@dataclass
class Switch:
    """When to go by blocks, and how large a block is."""

    # Measured on one core: at 512 x 512 the blocks win back the cost of the operator.
    entries: int = 512 * 512
    # Rows of a block: enough that a product re-reads the other side's vectors seldom, and not more,
    # because room that serves one block alone costs more in fresh pages than the arithmetic on it.
    rows: int = 256
    # Numbers up to which a block of whole rows may be twice as high: 32 MiB of float32.
    high: int = 1 << 23
    # Columns of a tile of it: what a product writes and the operations on it read stays in the
    # cache next to the core, and products so wide take a tenth less time than wider ones.
    columns: int = 512
    # Similarities that a forward pass may leave to the backward pass: 16 MiB of float32, however
    # large the batch. Up to there to read them takes less time than to make them again.
    kept: int = 2048 * 2048


SWITCH = Switch()
_statistics: dict[str, Statistic] = {}


def statistic(name: str, made: Statistic) -> Statistic:
    """Make a statistic known to the operator by its name."""
    _statistics[name] = made
    return made


def evaluate(
    name: str,
    inputs: Tensors,
    constants: Optionals = (),
    numbers: Numbers = (),
    *,
    entries: int,
    hint: Tensor | None = None,
) -> Tensors:
    """The statistics by the cheaper form; ``entries`` is the size of the matrix."""
    if entries < SWITCH.entries or under_transform(*inputs):
        with full_precision(inputs[0]):
            return _statistics[name].direct(inputs, constants, numbers)
    wanted = torch.is_grad_enabled() and any(x.requires_grad for x in inputs)
    hint = hint.detach() if wanted and hint is not None else None
    if wanted and isinstance(_statistics[name], Keeping):
        hint = inputs[0].new_empty(0)  # says only that a gradient will be asked for
    values: Tensors
    values, _ = torch.ops.lossmith.row_statistics(
        name, inputs, list(constants), list(numbers), hint
    )
    return values


def blocks(rows: int, columns: int | None = None) -> list[tuple[int, int]]:
    """The first row of each block and the row after its last.

    A block of whole rows, of so many ``columns``, is twice as high where that takes little memory:
    two threads meet half as often.
    """
    high = columns is not None and 2 * SWITCH.rows * columns <= SWITCH.high
    size = 2 * SWITCH.rows if high else SWITCH.rows
    return [(start, min(start + size, rows)) for start in range(0, rows, size)]


def tiles(start: int, stop: int, first: int = 0, wide: int = 1) -> list[tuple[int, int]]:
    """The columns start..stop in parts of like width, the first not narrower than ``first``.

    ``wide``: how many times the usual width they may have.
    """
    parts = max(1, -(-(stop - start) // (wide * SWITCH.columns)))
    edges = [start + (stop - start) * part // parts for part in range(1, parts)]
    edges = [start, *(edge for edge in edges if edge >= start + first), stop]
    return list(pairwise(edges))


# ------------------------------------------------------------------------------- the operator

_SCHEMA = "(str name, Tensor[] inputs, Tensor?[] constants, float[] numbers, "


def _forward(
    name: str, inputs: Tensors, constants: Optionals, numbers: Numbers, hint: Tensor | None
) -> tuple[Tensors, Tensors]:
    with full_precision(inputs[0]):
        return _statistics[name].forward(inputs, constants, numbers, hint)


def _backward(
    name: str,
    inputs: Tensors,
    constants: Optionals,
    numbers: Numbers,
    values: Tensors,
    made: Tensors,
    hint: Tensor | None,
    slopes: Tensors,
) -> Tensors:
    found = _statistics[name]
    if isinstance(found, Keeping):
        with full_precision(inputs[0]):
            return found.backward_of(inputs, constants, numbers, values, slopes, made)
    if hint is not None and made:
        factor = _common_factor(slopes[0], hint)
        if factor is not None:
            return [gradient * factor for gradient in made]
    with full_precision(inputs[0]):
        return found.backward(inputs, constants, numbers, values, slopes)


def _common_factor(slopes: Tensor, hint: Tensor) -> Tensor | None:
    """The number that makes the hint the slopes, if there is one."""
    largest = hint.abs().argmax()
    factor = slopes[largest] / hint[largest]
    # A few roundings apart: weights and divisor may have been multiplied in another order.
    close = (slopes - factor * hint).abs() <= 8 * torch.finfo(hint.dtype).eps * slopes.abs()
    return factor if bool(close.all()) else None


_operator = torch.library.custom_op(
    "lossmith::row_statistics",
    _forward,
    mutates_args=(),
    schema=_SCHEMA + "Tensor? hint) -> (Tensor[], Tensor[])",
)
_operator_backward = torch.library.custom_op(
    "lossmith::row_statistics_backward",
    _backward,
    mutates_args=(),
    schema=_SCHEMA + "Tensor[] values, Tensor[] made, Tensor? hint, Tensor[] slopes) -> Tensor[]",
)


@_operator.register_fake
def _(
    name: str, inputs: Tensors, constants: Optionals, numbers: Numbers, hint: Tensor | None
) -> tuple[Tensors, Tensors]:
    found = _statistics[name]
    made = [torch.empty_like(x) for x in inputs]
    made = found.keep(inputs) if isinstance(found, Keeping) else made
    return found.shapes(inputs), [] if hint is None else made


@_operator_backward.register_fake
def _(name: str, inputs: Tensors, *others: Any) -> Tensors:
    return [torch.empty_like(x) for x in inputs]


def _remember(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensors, Tensors]) -> None:
    ctx.name, tensors, constants, ctx.numbers, hint = inputs
    values, made = output
    ctx.counts = len(tensors), len(constants), len(values), len(made)
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(*tensors, *constants, *values, *made, hint)


def _slope(ctx: Any, slopes: list[Tensor | None], unused: Any) -> tuple[Any, ...]:
    saved = iter(ctx.saved_tensors)
    inputs, constants, values, made = ([next(saved) for _ in range(n)] for n in ctx.counts)
    hint = next(saved)
    # What autograd wants back for a list depends on whether it is a list of tensors alone.
    nothing = [None] * len(constants) if all(c is not None for c in constants) else None
    given = [torch.zeros_like(v) if s is None else s for v, s in zip(values, slopes, strict=True)]
    if torch.is_grad_enabled():  # a second derivative is asked for: only the direct form has it
        # Views, because one input may itself be made from another.
        inputs = [x.view_as(x) for x in inputs]
        direct = _statistics[ctx.name].direct(inputs, constants, ctx.numbers)
        pairs = [(v, s) for v, s in zip(direct, given, strict=True) if v.requires_grad]
        wanted = [x for x in inputs if x.requires_grad]
        found = iter(
            torch.autograd.grad(
                [v for v, _ in pairs], wanted, [s for _, s in pairs], create_graph=True
            )
        )
        gradients = [next(found) if x.requires_grad else None for x in inputs]
        return None, gradients, nothing, None, None
    gradients = torch.ops.lossmith.row_statistics_backward(
        ctx.name,
        inputs,
        constants,
        ctx.numbers,
        values,
        made,
        hint,
        [g.contiguous() for g in given],
    )
    return None, gradients, nothing, None, None


_operator.register_autograd(_slope, setup_context=_remember)
