"""The similarities of each query and its own negatives, without a table of unit vectors.

The one table as large as the negatives is their gradient. By blocks of rows whatever else there is
stays in the cache: a fresh table of that size costs more than all the arithmetic on it.
"""

from __future__ import annotations

import torch
from torch import Tensor

from lossmith.core.numerics import full_precision, unit_vectors
from lossmith.core.validate import under_transform
from lossmith.kernels.contrastive.engine import (
    ABSENT,
    Numbers,
    Optionals,
    Tensors,
    evaluate,
    statistic,
)

# Numbers of a block. Smaller ones stay in a nearer cache and cost more than that saves to start.
PIECE = 1 << 18
# Vectors up to this length, and down to its inverse, need no scaling before they are squared, and
# a small slope divided by the square keeps its digits.
LONG = 1e6


def own_negative_scores(
    queries: Tensor, negatives: Tensor, real: Tensor | None, normalize: bool
) -> Tensor:
    """The score ``(B, K)`` of each query ``(B, d)`` and its own negatives ``(B, K, d)``.

    ``normalize``: the negatives count as unit vectors. ABSENT where one is not ``real``; what that
    one holds reaches nothing. The scores are of the queries' type; the negatives may have another.
    """
    inputs = [queries, negatives]
    numbers = [float(normalize), float(negatives.requires_grad)]
    hidden = real is not None and under_transform(real)
    # Blocks are for a cache, and to look at lengths is a wait on other devices.
    if queries.device.type != "cpu" or hidden:
        with full_precision(queries):
            return _OWN_NEGATIVES.direct(inputs, [real], numbers)[0]
    (scores,) = evaluate("own_negatives", inputs, [real], numbers, entries=negatives.numel())
    return scores


class _OwnNegatives:
    def direct(self, inputs: Tensors, constants: Optionals, numbers: Numbers) -> Tensors:
        queries, negatives = inputs
        real = constants[0]
        negatives = negatives.to(queries.dtype)
        if numbers[0]:
            negatives = unit_vectors(negatives, real)
        elif real is not None:
            negatives = torch.where(real.unsqueeze(-1), negatives, 0.0)
        scores = (negatives @ queries.unsqueeze(-1)).squeeze(-1)
        return [scores if real is None else torch.where(real, scores, ABSENT)]

    def forward(
        self, inputs: Tensors, constants: Optionals, numbers: Numbers, hint: Tensor | None
    ) -> tuple[Tensors, Tensors]:
        queries, negatives = inputs
        (scores,) = self.shapes(inputs)
        blocks = _Blocks(queries, negatives, constants[0], bool(numbers[0]))
        for start, stop in blocks.spans:
            vectors, length, _ = blocks.vectors(start, stop)
            room = blocks.space[: stop - start]
            torch.mul(vectors, queries[start:stop].unsqueeze(1), out=room)
            torch.sum(room, dim=-1, out=scores[start:stop])
            if length is not None:
                scores[start:stop].div_(length)
        if constants[0] is not None:
            scores.masked_fill_(~constants[0], ABSENT)
        return [scores], []

    def backward(
        self,
        inputs: Tensors,
        constants: Optionals,
        numbers: Numbers,
        values: Tensors,
        slopes: Tensors,
    ) -> Tensors:
        queries, negatives = inputs
        real, wanted = constants[0], bool(numbers[1])
        of_queries = torch.empty_like(queries)
        nothing = negatives.new_zeros(()).expand_as(negatives)
        made = torch.empty_like(negatives) if wanted else nothing
        (slope,), (scores,) = slopes, values
        if real is not None:
            slope, scores = (torch.where(real, x, 0.0) for x in (slope, scores))
        blocks = _Blocks(queries, negatives, real, bool(numbers[0]))
        for start, stop in blocks.spans:
            vectors, length, scale = blocks.vectors(start, stop)
            share = slope[start:stop]
            share = share if length is None else share / length
            torch.bmm(share.unsqueeze(1), vectors, out=of_queries[start:stop].unsqueeze(1))
            if not wanted:
                continue
            same = made.dtype is queries.dtype
            room = made[start:stop] if same else blocks.space[: stop - start]
            torch.mul(share.unsqueeze(-1), queries[start:stop].unsqueeze(1), out=room)
            if length is not None:  # a longer vector has the same direction
                along = scores[start:stop] * share / length
                room.addcmul_(vectors, along.unsqueeze(-1), value=-1.0)
            if scale is not None:
                room.div_(scale)
            if not same:
                made[start:stop].copy_(room)
        return [of_queries, made]

    def shapes(self, inputs: Tensors) -> Tensors:
        queries, negatives = inputs
        return [queries.new_empty(negatives.shape[:2])]


class _Blocks:
    """The negatives by blocks of rows, and room for what is made of one."""

    def __init__(
        self, queries: Tensor, negatives: Tensor, real: Tensor | None, normalize: bool
    ) -> None:
        self.negatives, self.real, self.normalize = negatives, real, normalize
        self.dtype = queries.dtype
        rows, *shape = negatives.shape
        size = min(rows, max(1, PIECE // (shape[0] * shape[1])))
        self.spans = [(start, min(start + size, rows)) for start in range(0, rows, size)]
        self.space = queries.new_empty(size, *shape)

    def vectors(self, start: int, stop: int) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """The vectors of a block, all finite; their lengths; what they were divided by, if at all.

        Of a masked one it says only that 0 times it is 0. No lengths where they do not count.
        """
        block = self.negatives[start:stop].to(self.dtype)
        real = None if self.real is None else self.real[start:stop]
        if real is None and not self.normalize:
            return block, None, None
        length = torch.linalg.vector_norm(block, dim=-1)
        if real is not None:
            if not bool(length.amax() <= LONG):  # so of a NaN too
                block = torch.where(real.unsqueeze(-1), block, 0.0)
                length = torch.linalg.vector_norm(block, dim=-1)
            length.masked_fill_(~real, 1.0)
        if not self.normalize:
            return block, None, None
        low, high = torch.aminmax(length)
        if bool((low >= 1.0 / LONG) & (high <= LONG)):
            return block, length, None
        largest = block.abs().amax(dim=-1)
        usual = (length >= 1.0 / LONG) & (length <= LONG) | (largest == 0)
        scale = torch.where(usual, 1.0, largest).unsqueeze(-1)
        block = block / scale
        length = torch.linalg.vector_norm(block, dim=-1)
        return block, torch.where(length > 0, length, 1.0), scale


_OWN_NEGATIVES = _OwnNegatives()
statistic("own_negatives", _OWN_NEGATIVES)
