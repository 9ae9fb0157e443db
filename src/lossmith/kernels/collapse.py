"""Rows over a large vocabulary, collapsed to the few logits that a loss looks at.

A loss of token sequences looks at the target and at a few keywords. All other tokens enter it
through their sum alone. So a row of V logits becomes k + 1: those listed, and the log-sum-exp of
the rest. The softmax of the short row is that of the long one with the rest taken together, and
any loss may be computed on it. Nothing is lost to cancellation where a listed token is nearly sure.

Shapes: N rows, V tokens, k listed columns.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from lossmith.core.numerics import softplus, upcast

# The logarithm of 0. Unlike -inf it leaves no NaN in the gradient of a sum that is empty, and it
# may be added up over a million positions before float32 ends.
LOG_ZERO = -1e30

# A pass over a tile of this size stays in the cache of one core.
TILE_BYTES = 2 << 20
# Below this many logits, plain operations are as fast as tiles.
SMALL = 1 << 18


@dataclass(frozen=True)
class Columns:
    """Which tokens each row lists; a token twice in a row, or padding, is not active."""

    ids: Tensor  # [N, k]; an inactive one repeats an active one of its row
    active: Tensor  # [N, k] bool
    some: Tensor  # [N, 1] bool: whether any is active
    first: Tensor  # [N, 1] the first active column

    @classmethod
    def of(cls, ids: Tensor, active: Tensor | None = None) -> Columns:
        """From ids that are distinct within each row where they are active."""
        if active is None:
            active = torch.ones_like(ids, dtype=torch.bool)
        some = active.any(dim=-1, keepdim=True)
        first = active.long().argmax(dim=-1, keepdim=True)
        return cls(torch.where(active, ids, ids.gather(-1, first)), active, some, first)

    def rows(self, start: int, stop: int) -> Columns:
        """Those of some rows."""
        return replace(self, **{k: v[start:stop] for k, v in self.__dict__.items()})

    def spread(self, per_column: Tensor) -> Tensor:
        """Values per column, an inactive column with the value of the one it repeats."""
        return torch.where(self.active, per_column, per_column.gather(-1, self.first))

    def tensors(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """What an autograd function saves."""
        return self.ids, self.active, self.some, self.first


def collapse(logits: Tensor, columns: Columns, valid: Tensor | None = None) -> Tensor:
    """Collapse ``[N, V]`` to ``[N, k + 1]``: the listed logits and, last, the rest.

    The result is at least float32. Rows that are not valid reach neither value nor gradient.

    >>> columns = Columns.of(torch.tensor([[2]]))
    >>> collapse(torch.tensor([[0.0, 0.0, 1.0]]), columns)  # 1, and log 2 of the two others
    tensor([[1.0000, 0.6931]])
    """
    if logits.numel() <= SMALL or is_traced(logits):
        return collapse_directly(logits, columns, valid)
    apply: Any = _Collapse.apply  # torch leaves it untyped
    collapsed: Tensor = apply(logits, valid, *columns.tensors())
    return collapsed


def target_log_p(logits: Tensor, target: Tensor, valid: Tensor) -> Tensor:
    """log p of the target ``[...]`` of each row ``[..., V]``; rows that do not count give 0.

    >>> target_log_p(torch.zeros(1, 4), torch.tensor([3]), torch.tensor([True])).exp()
    tensor([0.2500])
    """
    if torch.compiler.is_compiling():  # which fuses a comparison, and no scatter
        (logits,) = upcast(logits)
        logits = torch.where(valid.unsqueeze(-1), logits, 0.0)
        places = torch.arange(logits.shape[-1], device=logits.device)
        own = places == target.unsqueeze(-1)
        lead = torch.where(own, LOG_ZERO, logits).logsumexp(dim=-1)
        lead = lead - torch.where(own, logits, 0.0).sum(dim=-1)
        return torch.where(valid, -softplus(lead), 0.0)
    rows = logits.reshape(-1, logits.shape[-1])
    columns = Columns.of(target.reshape(-1, 1))
    short = collapse(rows, columns, valid.reshape(-1)).log_softmax(dim=-1)
    return torch.where(valid, short[:, 0].reshape(target.shape), 0.0)


def is_traced(*tensors: Tensor | None) -> bool:
    """Whether a compiler or a transform of ``torch.func`` looks on, which want plain operations."""
    if torch.compiler.is_compiling():
        return True
    wrapped = torch._C._functorch.is_functorch_wrapped_tensor
    return any(tensor is not None and wrapped(tensor) for tensor in tensors)


def collapse_directly(logits: Tensor, columns: Columns, valid: Tensor | None) -> Tensor:
    """The same by plain operations: any transform of autograd applies, in memory of N x V."""
    (logits,) = upcast(logits)
    if valid is not None:
        logits = torch.where(valid.unsqueeze(-1), logits, 0.0)
    own = logits.gather(-1, columns.ids)
    others = torch.where(columns.some, logits.scatter(-1, columns.ids, LOG_ZERO), logits)
    rest = others.logsumexp(dim=-1, keepdim=True)
    return torch.cat([torch.where(columns.active, own, LOG_ZERO), rest], dim=-1)


class _Collapse(torch.autograd.Function):
    """Reads the logits once forward, and once backward to write their gradient."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, valid: Tensor | None, *lists: Tensor) -> Tensor:
        columns = Columns(*lists)
        dtype = torch.promote_types(logits.dtype, torch.float32)
        short = logits.new_empty(len(logits), columns.ids.shape[1] + 1, dtype=dtype)
        scratch = logits.new_empty(tile_rows(logits), logits.shape[1], dtype=dtype)
        for a, b in tiles(logits):
            tile = scratch[: b - a].copy_(logits[a:b])
            _mute(tile, None if valid is None else valid[a:b])
            short[a:b], _ = exponentiate_(tile, columns.rows(a, b))
        ctx.save_for_backward(logits, valid, short, *lists)
        return short

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Any, ...]:
        logits, valid, short, *lists = ctx.saved_tensors
        (above,) = upstream
        columns = Columns(*lists)
        none = (None,) * (1 + len(lists))
        if torch.is_grad_enabled():  # somebody will differentiate again
            value = collapse_directly(logits, columns, valid)
            return *torch.autograd.grad(value, logits, above, create_graph=True), *none
        gradient = torch.empty_like(logits)
        scratch = None
        if logits.dtype != short.dtype:
            scratch = short.new_empty(tile_rows(logits), logits.shape[1])
        for a, b in tiles(logits):
            tile = gradient[a:b] if scratch is None else scratch[: b - a]
            real = None if valid is None else valid[a:b]
            torch.sub(logits[a:b], short[a:b, -1:], out=tile)
            write_gradient_(tile.exp_(), above[a:b, -1:], above[a:b], columns.rows(a, b))
            _mute(tile, real)
            if scratch is not None:
                gradient[a:b] = tile
        return gradient, *none


def exponentiate_(tile: Tensor, columns: Columns) -> tuple[Tensor, Tensor]:
    """Collapse a tile ``[n, V]``; what is left in it are the exponentials of the rest.

    They are scaled by the largest of the rest, 0 at the listed tokens, and their sums are returned
    beside the short rows.
    """
    own = tile.gather(1, columns.ids)
    tile.scatter_(1, columns.ids, torch.where(columns.some, LOG_ZERO, own))
    top = tile.amax(dim=1, keepdim=True).clamp_(min=LOG_ZERO)
    total = tile.sub_(top).exp_().sum(dim=1, keepdim=True)
    rest = (total.log() + top).clamp_(min=LOG_ZERO)
    return torch.cat([torch.where(columns.active, own, LOG_ZERO), rest], dim=1), total


def write_gradient_(tile: Tensor, scale: Tensor, above: Tensor, columns: Columns) -> None:
    """Turn exponentials of the rest into the gradient of the logits.

    ``above [n, k + 1]`` is the gradient of the short rows; ``scale [n, 1]`` brings the
    exponentials to the gradient of the rest.
    """
    tile.mul_(scale)
    listed = columns.spread(above[:, :-1])
    # Without any active column the entries are part of the rest, and stay what they are.
    tile.scatter_(1, columns.ids, torch.where(columns.some, listed, tile.gather(1, columns.ids)))


def tile_rows(matrix: Tensor) -> int:
    """How many rows of it make a tile."""
    width = max(matrix.shape[1], 1) * max(matrix.element_size(), 4)
    return max(1, min(TILE_BYTES // width, len(matrix)))


def tiles(matrix: Tensor) -> Iterator[tuple[int, int]]:
    """The tiles of a matrix, as ranges of rows."""
    step = tile_rows(matrix)
    for start in range(0, len(matrix), step):
        yield start, min(start + step, len(matrix))


def _mute(tile: Tensor, valid: Tensor | None) -> None:
    """Set the rows that do not count to 0."""
    if valid is None:
        return
    if valid.device.type == "cpu":  # asking which rows makes nobody wait, and is faster
        tile.index_fill_(0, (~valid).nonzero().squeeze(-1), 0.0)
    else:
        tile.masked_fill_(~valid.unsqueeze(-1), 0.0)
