"""Softmax costs of several prefixes of the same embeddings, for the products of the longest one.

The similarities of a prefix are those of the one before it and the product of the coordinates
between; so are the gradients, from the longest prefix down.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from lossmith.core.numerics import softplus
from lossmith.kernels.contrastive.candidates import LOG2_E, SPREAD, log_of
from lossmith.kernels.contrastive.engine import (
    ABSENT,
    Numbers,
    Optionals,
    Tensors,
    blocks,
    evaluate,
    statistic,
    tiles,
)


def prefix_costs(
    queries: Tensor,
    keys: Tensor,
    left: Tensor,
    right: Tensor,
    own: Tensor,
    bias: Tensor | None,
    ends: Sequence[int],
    hint: Tensor,
) -> Tensor:
    """-log softmax of ``own`` ``(B, P)`` among the keys of other rows, for each prefix.

    The score of a prefix is its inner product times ``left`` ``(B, P)`` of the query and ``right``
    ``(B, P)`` of the key, plus the ``bias`` of the key.
    """
    inputs = [queries, keys, left, right, own]
    (cost,) = evaluate(
        "prefix_costs",
        inputs,
        [bias],
        [float(end) for end in ends],
        entries=len(queries) * len(keys),
        hint=hint.flatten(),
    )
    return cost.view(own.shape)


def _chunks(numbers: Numbers) -> list[slice]:
    ends = [int(end) for end in numbers]
    return [slice(start, end) for start, end in zip([0, *ends], ends, strict=False)]


class _PrefixCosts:
    def direct(self, inputs: Tensors, constants: Optionals, numbers: Numbers) -> Tensors:
        queries, keys, left, right, own = inputs
        total = torch.zeros_like(queries[:, :1] * keys[:, 0])
        itself = torch.ones_like(total, dtype=torch.bool).tril().triu()
        costs = []
        for p, chunk in enumerate(_chunks(numbers)):
            total = total + queries[:, chunk] @ keys[:, chunk].T
            score = total * left[:, p, None] * right[:, p]
            score = score if constants[0] is None else score + constants[0]
            score = torch.where(itself, torch.full_like(score, ABSENT), score)
            costs.append(softplus(score.logsumexp(dim=1) - own[:, p]))
        return [torch.stack(costs, dim=1).flatten()]

    def forward(
        self, inputs: Tensors, constants: Optionals, numbers: Numbers, hint: Tensor | None
    ) -> tuple[Tensors, Tensors]:
        own = inputs[4]
        slope = None if hint is None else hint.view(own.shape)
        cost = torch.empty_like(own)
        # The keys' gradient with its coordinates first: so its products take less time.
        made = [] if hint is None else [torch.zeros_like(x) for x in inputs]
        if made:
            made[1] = inputs[1].new_zeros(inputs[1].shape[::-1])
        strips = _Strips(inputs, constants[0], _chunks(numbers))
        for start, stop in strips.spans:
            strips.begin(start, stop)
            for p in range(own.shape[1]):
                mass, top, moment = strips.exponentials(p)
                gap = top + log_of(mass) - own[start:stop, p]
                cost[start:stop, p] = softplus(gap)
                if slope is None:
                    continue
                down = slope[start:stop, p] * gap.sigmoid()
                made[4][start:stop, p] = -down
                scale = down / torch.where(mass > 0, mass, 1.0)
                by_row, by_column = strips.slopes_of_lengths(p, scale, moment)
                made[2][start:stop, p] = by_row
                made[3][:, p] += by_column
            if slope is not None:
                strips.push(made[0][start:stop], made[1])
        if made:
            made[1] = made[1].T.contiguous()
        return [cost.flatten()], made

    def backward(
        self,
        inputs: Tensors,
        constants: Optionals,
        numbers: Numbers,
        values: Tensors,
        slopes: Tensors,
    ) -> Tensors:
        return self.forward(inputs, constants, numbers, slopes[0])[1]

    def shapes(self, inputs: Tensors) -> Tensors:
        return [torch.empty_like(inputs[4]).flatten()]


class _Strips:
    """A strip of rows after another: its exponentials at each prefix, and their gradients.

    A strip is a row of tiles, each with its numbers side by side.
    """

    # A tile takes four products of few coordinates and as many times the operations on it: wider
    # ones leave the nearest cache, but narrower ones spend the time on starting operations.
    WIDE = 2

    def __init__(self, inputs: Tensors, bias: Tensor | None, chunks: list[slice]) -> None:
        self.queries, self.keys, left, right, _ = inputs
        self.chunks, self.lengths = chunks, (left, right)
        self.near = self._bounded(left, right, bias)
        # Rows of numbers for each prefix, scores as powers of 2.
        self.bias = None if bias is None else bias * LOG2_E
        self.left, right = (left * LOG2_E).T.contiguous(), right.T.contiguous()
        self.spans = blocks(len(self.queries))
        self.tiles = list(enumerate(tiles(0, len(self.keys), wide=self.WIDE)))
        self.space = left.new_empty(len(chunks) + 2, self.spans[0][1] * len(self.keys))
        # Views that every strip takes; to make one takes as long as an operation on a small tile.
        columns = [self.keys[:, chunk].contiguous() for chunk in chunks]
        self.right = [[row[low:high] for _, (low, high) in self.tiles] for row in right]
        self.columns = [[some[low:high] for _, (low, high) in self.tiles] for some in columns]
        self.rooms: list[list[Tensor]] = []
        self.scales: list[Tensor] = []

    def _bounded(self, left: Tensor, right: Tensor, bias: Tensor | None) -> bool:
        """Whether no score needs the largest of its row taken off."""
        sizes = []
        for vectors, factor in ((self.queries, left), (self.keys, right)):
            squares = [vectors[:, c].square().sum(dim=1) for c in self.chunks]
            lengths = torch.stack(squares, dim=1).cumsum(dim=1).sqrt()
            sizes.append((lengths * factor.abs()).amax(dim=0))
        largest = (sizes[0] * sizes[1]).amax()
        if bias is not None:
            largest = largest + torch.where(bias > 0.5 * ABSENT, bias.abs(), 0.0).amax()
        return bool(largest <= SPREAD)

    def begin(self, start: int, stop: int) -> None:
        """Go on to the next rows."""
        self.start, self.stop = start, stop
        self.some = self.queries[start:stop]
        self.parts = [self.some[:, chunk] for chunk in self.chunks]
        self.scales = []
        size = stop - start
        if not self.rooms or len(self.rooms[0][0]) != size:
            self.rooms = [
                [use[low * size : high * size].view(size, -1) for use in self.space]
                for _, (low, high) in self.tiles
            ]

    def exponentials(self, p: int) -> tuple[Tensor, Tensor, Tensor]:
        """Their sum over each row, the logarithm of what they were divided by, and the sum of
        their products with the scores.
        """
        left = self.left[p, self.start : self.stop, None]
        mass, moment = self.some.new_zeros(2, len(self.some))
        top = torch.zeros_like(mass) if self.near else torch.full_like(mass, ABSENT)
        for tile, (low, high) in self.tiles:
            total, score, *powers = self.rooms[tile]
            power = powers[p]
            total.addmm_(self.parts[p], self.columns[p][tile].T, beta=float(p > 0))
            torch.mul(left, self.right[p][tile], out=score).mul_(total)
            if self.bias is not None:
                score.add_(self.bias[low:high])
            if low < self.stop and high > self.start:  # a query's own key
                first, last = max(low, self.start), min(high, self.stop)
                own = score[first - self.start : last - self.start, first - low : last - low]
                own.diagonal().fill_(ABSENT)
            if self.near:
                mass += torch.exp2(score, out=power).sum(dim=1)
                self._weigh(moment, score, power, low, high)
            else:
                top = torch.maximum(top, score.amax(dim=1))
        if not self.near:
            for tile, (low, high) in self.tiles:
                score, power = self.rooms[tile][1], self.rooms[tile][2 + p]
                mass += torch.sub(score, top[:, None], out=power).exp2_().sum(dim=1)
                self._weigh(moment, score, power, low, high)
        return mass, top / LOG2_E, moment

    def _weigh(self, moment: Tensor, score: Tensor, power: Tensor, low: int, high: int) -> None:
        """The scores times their exponentials, in place, and the sums of each row."""
        if self.bias is not None:
            score.sub_(self.bias[low:high])
        moment += score.mul_(power).sum(dim=1)

    def slopes_of_lengths(self, p: int, scale: Tensor, moment: Tensor) -> tuple[Tensor, Tensor]:
        """The slopes in the factors of rows and columns, ``scale`` being that of an exponential.

        The score is a product with the factors, so its own size is their slope.
        """
        by_column = scale.new_empty(len(self.keys))
        for tile, (low, high) in self.tiles:
            torch.mv(self.rooms[tile][1].T, scale, out=by_column[low:high])
        self.scales.append(scale * self.left[p, self.start : self.stop] / LOG2_E)
        left, right = self.lengths[0][self.start : self.stop, p], self.lengths[1][:, p]
        return moment * scale / (left * LOG2_E), by_column / (right * LOG2_E)

    def push(self, queries: Tensor, keys: Tensor) -> None:
        """The gradients of the strip's queries, and what it adds to that of the keys, turned."""
        scales = [scale.unsqueeze(1) for scale in self.scales]
        targets = [(queries[:, chunk], keys[chunk]) for chunk in self.chunks]
        turned = [part.T for part in self.parts]
        for tile, (low, high) in self.tiles:
            _, factor, *powers = self.rooms[tile]
            made = None
            for p in reversed(range(len(self.chunks))):
                torch.mul(scales[p], self.right[p][tile], out=factor)
                # What a longer prefix passes on goes through the shorter ones' coordinates too.
                made = powers[p].mul_(factor) if made is None else made.addcmul_(powers[p], factor)
                targets[p][0].addmm_(made, self.columns[p][tile])
                targets[p][1][:, low:high].addmm_(turned[p], made)


statistic("prefix_costs", _PrefixCosts())
