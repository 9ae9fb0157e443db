"""Losses over a large vocabulary from hidden states, without the N x V logits.

Rows of hidden states are multiplied with the output layer block by block; each block of logits
is collapsed (see :mod:`lossmith.kernels.collapse`) and forgotten. Two forms:

- :func:`one_pass`: a cost that is known block by block gets its gradient while the block is hot:
  three matrix products, as many as the arithmetic needs.
- :func:`linear_collapse`: the short rows as differentiable outputs, for any loss on top; the
  backward pass makes the logits again: four products.

Shapes: N rows, d hidden units, V tokens, k listed columns.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from lossmith.core.numerics import full_precision, upcast
from lossmith.core.validate import check_float, shape_text
from lossmith.kernels.collapse import (
    Columns,
    collapse_directly,
    exponentiate_,
    is_traced,
    tiles,
    write_gradient_,
)

# A block's size is a matter of bytes: with fewer rows, reading the head again for every block
# costs more than the products; with more, the block is what the logits would have been.
BLOCK_BYTES = 256 << 20


class Layer(NamedTuple):
    """The output layer: logits are ``hidden @ head.T + bias``."""

    head: Tensor  # [V, d]
    bias: Tensor | None  # [V]

    def logits(self, hidden: Tensor) -> Tensor:
        """The full logits, for where they are small or a transform needs them."""
        return F.linear(hidden, self.head, self.bias)

    def logits_into(self, block: Tensor, hidden: Tensor) -> None:
        """The logits of some rows, written into a block."""
        if self.bias is None:
            torch.mm(hidden, self.head.t(), out=block)
        else:
            torch.addmm(self.bias, hidden, self.head.t(), out=block)

    def mixture(self, hidden: Tensor, share: Tensor) -> Tensor:
        """``logits @ share`` for fixed shares ``[V]``, in O(N d + V d): no pass over the logits."""
        mixed = hidden @ (share @ self.head)
        if self.bias is None:
            return mixed
        # A token with no share may be impossible.
        return mixed + (share * torch.where(share == 0, 0.0, self.bias)).sum()


def checked_layer(hidden: Tensor, head: Tensor, bias: Tensor | None) -> tuple[Tensor, Layer]:
    """Hidden states ``[..., d]`` and a layer that fits them, of one type of at least float32."""
    check_float(hidden=hidden, head=head)
    if hidden.dim() == 0 or head.dim() != 2 or head.shape[1] != hidden.shape[-1]:
        raise ValueError(
            f"head {shape_text(head)} must be [V, d], a row for each token, for hidden "
            f"{shape_text(hidden)} of [..., d]. Try head=layer.weight of your nn.Linear(d, V)."
        )
    if bias is None:
        states, matrix = upcast(hidden, head)
        return states, Layer(matrix, None)
    check_float(head_bias=bias)
    if bias.shape != head.shape[:1]:
        raise ValueError(
            f"head_bias {shape_text(bias)} must be [V], {tuple(head.shape[:1])} for head "
            f"{shape_text(head)}."
        )
    states, matrix, bias = upcast(hidden, head, bias)
    return states, Layer(matrix, bias)


# The cost of rows a to b, one number, from their short rows and their mixture.
Cost = Callable[[Tensor, "Tensor | None", int, int], Tensor]


def rows_of_blocks(rows: int, vocabulary: int, itemsize: int, unit: int = 1) -> int:
    """How many rows make a block; whole units, and as even as can be.

    >>> rows_of_blocks(4096, 32_000, 4)
    2048
    """
    limit = max(BLOCK_BYTES // max(vocabulary * itemsize, 1) // unit, 1)
    units = -(-rows // unit)
    blocks = max(-(-units // limit), 1)
    return max(-(-units // blocks), 1) * unit


def linear_collapse(hidden: Tensor, layer: Layer, columns: Columns) -> Tensor:
    """Collapsed logits ``[N, k + 1]`` of hidden states ``[N, d]``, in memory O(N + block)."""
    with full_precision(hidden):
        if is_traced(hidden, *layer):
            return collapse_directly(layer.logits(hidden), columns, None)
        apply: Any = _LinearCollapse.apply  # torch leaves it untyped
        short: Tensor = apply(hidden, *layer, *columns.tensors())
        return short


def one_pass(
    cost: Cost,
    hidden: Tensor,
    layer: Layer,
    columns: Columns,
    *,
    share: Tensor | None = None,
    unit: int = 1,
) -> Tensor:
    """The sum of the blocks' costs.

    Args:
        cost: of the rows a to b; it may be nonlinear within ``unit`` consecutive rows, and must
            add up over units. No gradient reaches what it holds itself.
        hidden: ``[N, d]``.
        layer: the output layer.
        columns: the tokens that the cost looks at.
        share: ``[V]``; the cost is then given ``logits @ share`` as well.
        unit: how many consecutive rows belong together, as those of a sequence do.
    """
    rows, vocabulary = len(hidden), len(layer.head)
    size = rows_of_blocks(rows, vocabulary, hidden.element_size(), unit)
    fits = unit == 1 or size * vocabulary * hidden.element_size() <= BLOCK_BYTES
    wanted = torch.is_grad_enabled() and any(
        t is not None and t.requires_grad for t in (hidden, *layer)
    )
    if not wanted or not fits or is_traced(hidden, *layer):
        return by_short_rows(cost, hidden, layer, columns, share=share)
    with full_precision(hidden):
        apply: Any = _OnePass.apply  # torch leaves it untyped
        total: Tensor = apply(cost, size, hidden, *layer, share, *columns.tensors())
        return total


def by_short_rows(
    cost: Cost,
    hidden: Tensor,
    layer: Layer,
    columns: Columns,
    *,
    share: Tensor | None = None,
    unit: int = 1,  # the rows are one block
) -> Tensor:
    """The same with gradient to whatever the cost holds, for one more matrix product."""
    short = linear_collapse(hidden, layer, columns)
    with full_precision(hidden):
        mixed = None if share is None else layer.mixture(hidden, share)
    return cost(short, mixed, 0, len(hidden))


class _Gradients:
    """The gradients of hidden states and layer, added up block by block; None where unwanted."""

    def __init__(self, hidden: Tensor, layer: Layer, wanted: tuple[bool, ...]) -> None:
        self.layer, self.states = layer, hidden
        self.hidden = torch.empty_like(hidden) if wanted[0] else None
        self.head = torch.zeros_like(layer.head) if wanted[1] else None
        self.bias = torch.zeros_like(layer.bias) if wanted[2] and layer.bias is not None else None

    def add(self, block: Tensor, a: int, b: int) -> None:
        """Add what the gradient of the logits of the rows a to b brings."""
        if self.hidden is not None:
            torch.mm(block, self.layer.head, out=self.hidden[a:b])
        if self.head is not None:
            self.head.addmm_(block.t(), self.states[a:b])
        if self.bias is not None:
            self.bias.add_(block.sum(dim=0))

    def add_mixture(self, above: Tensor, share: Tensor) -> None:
        """Add what the gradient of the mixtures ``[N]`` brings: one rank, no pass over V x N."""
        if self.hidden is not None:
            self.hidden.addr_(above, share @ self.layer.head)
        if self.head is not None:
            self.head.addr_(share, above @ self.states)
        if self.bias is not None:
            self.bias.add_(share * above.sum())

    def all(self) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        """In the order of the arguments."""
        return self.hidden, self.head, self.bias


def _blocks(hidden: Tensor, layer: Layer, size: int) -> Iterator[tuple[Tensor, int, int]]:
    """The logits of each block of rows, in one buffer that may be overwritten."""
    rows = len(hidden)
    buffer = hidden.new_empty(min(size, rows), len(layer.head))
    for a in range(0, rows, size):
        b = min(a + size, rows)
        block = buffer[: b - a]
        layer.logits_into(block, hidden[a:b])
        yield block, a, b


def _collapse_block_(block: Tensor, columns: Columns) -> tuple[Tensor, Tensor]:
    """Collapse a block in place, tile by tile, as :func:`exponentiate_` does."""
    short = block.new_empty(len(block), columns.ids.shape[1] + 1)
    total = block.new_empty(len(block), 1)
    for a, b in tiles(block):
        short[a:b], total[a:b] = exponentiate_(block[a:b], columns.rows(a, b))
    return short, total


class _LinearCollapse(torch.autograd.Function):
    """Short rows; the backward pass makes the logits again."""

    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, head: Tensor, bias: Tensor | None, *lists: Tensor
    ) -> Tensor:
        layer, columns = Layer(head, bias), Columns(*lists)
        short = hidden.new_empty(len(hidden), columns.ids.shape[1] + 1)
        size = rows_of_blocks(len(hidden), len(head), hidden.element_size())
        for block, a, b in _blocks(hidden, layer, size):
            short[a:b], _ = _collapse_block_(block, columns.rows(a, b))
        ctx.save_for_backward(hidden, head, bias, short, *lists)
        return short

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Any, ...]:
        hidden, head, bias, short, *lists = ctx.saved_tensors
        (above,) = upstream
        layer, columns = Layer(head, bias), Columns(*lists)
        none = (None,) * len(lists)
        with full_precision(hidden):
            if torch.is_grad_enabled():  # somebody will differentiate again
                value = collapse_directly(layer.logits(hidden), columns, None)
                return *_differentiate(value, (hidden, *layer), above, True), *none
            gradients = _Gradients(hidden, layer, ctx.needs_input_grad)
            size = rows_of_blocks(len(hidden), len(head), hidden.element_size())
            for block, a, b in _blocks(hidden, layer, size):
                _write_block_gradient_(block, short[a:b, -1:], above[a:b], columns.rows(a, b))
                gradients.add(block, a, b)
        return *gradients.all(), *none


def _write_block_gradient_(block: Tensor, rest: Tensor, above: Tensor, columns: Columns) -> None:
    """Turn logits into their gradient, given that of their short rows."""
    for a, b in tiles(block):
        tile = block[a:b].sub_(rest[a:b]).exp_()
        write_gradient_(tile, above[a:b, -1:], above[a:b], columns.rows(a, b))


class _OnePass(torch.autograd.Function):
    """The sum of the costs of all blocks, their gradient made in the forward pass."""

    @staticmethod
    def forward(
        ctx: Any,
        cost: Cost,
        size: int,
        hidden: Tensor,
        head: Tensor,
        bias: Tensor | None,
        share: Tensor | None,
        *lists: Tensor,
    ) -> Tensor:
        layer, columns = Layer(head, bias), Columns(*lists)
        gradients = _Gradients(hidden, layer, ctx.needs_input_grad[2:5])
        mixed = None if share is None else layer.mixture(hidden, share)
        mixed_above = None if mixed is None else torch.zeros_like(mixed)
        total = hidden.new_zeros(())
        for block, a, b in _blocks(hidden, layer, size):
            own = columns.rows(a, b)
            short, sums = _collapse_block_(block, own)
            leaves = [short] if mixed is None else [short, mixed[a:b]]
            value, above = _value_and_gradients(cost, leaves, a, b)
            total += value
            if mixed_above is not None:
                mixed_above[a:b] = above[1]
            _scale_to_gradient_(block, sums, above[0], own)
            gradients.add(block, a, b)
        if share is not None and mixed_above is not None:
            gradients.add_mixture(mixed_above, share)
        ctx.save_for_backward(hidden, head, bias, share, *lists)
        ctx.cost, ctx.size, ctx.made = cost, size, gradients.all()
        return total

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Any, ...]:
        hidden, head, bias, share, *lists = ctx.saved_tensors
        (above,) = upstream
        made, ctx.made = ctx.made, None
        none = (None,) * len(lists)
        if made is not None and not torch.is_grad_enabled():
            # Scaled in place and given away: the gradients are held once.
            scaled = (None if g is None else g.mul_(above) for g in made)
            return None, None, *scaled, None, *none
        inputs: tuple[Tensor | None, ...] = (hidden, head, bias)
        again = torch.is_grad_enabled()
        with torch.enable_grad():
            if again:  # somebody will differentiate again: by way of the short rows, which allow it
                layer = Layer(head, bias)
                columns = Columns(*lists)
                value = by_short_rows(ctx.cost, hidden, layer, columns, share=share)
            else:  # asked a second time: made anew, to the same bits
                inputs = tuple(map(_new_leaf, inputs))
                apply: Any = _OnePass.apply  # torch leaves it untyped
                value = apply(ctx.cost, ctx.size, *inputs, share, *lists)
        return None, None, *_differentiate(value, inputs, above, again), None, *none


def _new_leaf(tensor: Tensor | None) -> Tensor | None:
    return None if tensor is None else tensor.detach().requires_grad_(tensor.requires_grad)


def _value_and_gradients(
    cost: Cost, leaves: list[Tensor], a: int, b: int
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """The cost of a block and its derivatives by what it is computed from."""
    with torch.enable_grad():
        leaves = [leaf.detach().requires_grad_() for leaf in leaves]
        value = cost(leaves[0], leaves[1] if len(leaves) > 1 else None, a, b)
        return value.detach(), torch.autograd.grad(value, leaves)


def _scale_to_gradient_(block: Tensor, total: Tensor, above: Tensor, columns: Columns) -> None:
    """Turn the exponentials of a block, which sum to ``total``, into the gradient of its logits."""
    scale = above[:, -1:] / torch.where(total == 0, 1.0, total)
    for a, b in tiles(block):
        write_gradient_(block[a:b], scale[a:b], above[a:b], columns.rows(a, b))


def _differentiate(
    value: Tensor, inputs: tuple[Tensor | None, ...], above: Tensor, again: bool
) -> tuple[Tensor | None, ...]:
    """Gradients by each of the inputs, None where it needs none."""
    wanted = [t for t in inputs if t is not None and t.requires_grad]
    found = iter(torch.autograd.grad(value, wanted, above, create_graph=again))
    return tuple(next(found) if t is not None and t.requires_grad else None for t in inputs)
