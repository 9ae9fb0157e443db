"""Each row's softmax over candidates: in one pass of row blocks for a row's cost, in two for both
directions of a similarity matrix.
"""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor

from lossmith.core.numerics import softplus
from lossmith.kernels.contrastive.engine import (
    ABSENT,
    Numbers,
    Optionals,
    Tensors,
    blocks,
    evaluate,
    statistic,
)
from lossmith.kernels.contrastive.exclusion import STEEP, Exclusion

# Exponents may differ by this much before a product of two of them leaves float32.
SPREAD = 60.0
LOG2_E = math.log2(math.e)


def candidate_cost(
    queries: Tensor,
    candidates: Tensor,
    own: Tensor,
    extra: Tensor | None,
    exclusion: Exclusion,
    hint: Tensor,
    *,
    inclusive: bool = False,
) -> Tensor:
    """-log softmax of ``own`` among the candidates of each row and its ``extra`` scores.

    ``own`` is the score of the right answer, which the exclusion keeps out of the candidates; their
    odds keep the digits of a cost far below 1. ``inclusive``: the candidates hold right answers,
    and ``own`` is their mean score. ``hint`` is the slope of the loss in each cost, up to a common
    factor.
    """
    inputs = [queries, candidates, own] + ([] if extra is None else [extra])
    (cost,) = evaluate(
        "candidate_cost",
        inputs,
        exclusion.constants(),
        [float(exclusion.own), float(inclusive)],
        entries=len(queries) * len(candidates),
        hint=hint,
    )
    return cost


def log_masses(queries: Tensor, keys: Tensor, exclusion: Exclusion) -> tuple[Tensor, Tensor]:
    """log-sum-exp of the similarities along each row and along each column."""
    rows, columns = evaluate(
        "log_masses",
        [queries, keys],
        exclusion.constants(),
        [float(exclusion.own)],
        entries=len(queries) * len(keys),
    )
    return rows, columns


class _CandidateCost:
    def direct(self, inputs: Tensors, constants: Optionals, numbers: Numbers) -> Tensors:
        queries, candidates, own, *extra = inputs
        others = Exclusion.of(constants, numbers[0]).whole(queries @ candidates.T)
        gap = torch.cat([others, *extra], dim=-1).logsumexp(dim=-1) - own
        return [gap if numbers[1] else softplus(gap)]

    def forward(
        self, inputs: Tensors, constants: Optionals, numbers: Numbers, hint: Tensor | None
    ) -> tuple[Tensors, Tensors]:
        queries, candidates, own, *extra = inputs
        exclusion = Exclusion.of(constants, numbers[0])
        cost = torch.empty_like(own)
        made = [] if hint is None else [torch.zeros_like(x) for x in inputs]
        spans = blocks(len(queries), len(candidates))
        space = queries.new_empty(2, spans[0][1], len(candidates))
        near = bounded(queries, candidates, exclusion.bias, *extra)
        rows, exclusion = in_base_two(queries, exclusion) if near else (queries, exclusion)
        for start, stop in spans:
            some, scratch = space[0, : stop - start], space[1, : stop - start]
            torch.mm(rows[start:stop], candidates.T, out=some)
            exclusion.apply(some, start, scratch)
            others = extra[0][start:stop] if extra else None
            if near:
                mass = some.exp2_().sum(dim=1)
                if others is not None:
                    others = others.exp()
                    mass += others.sum(dim=1)
                gap = log_of(mass) - own[start:stop]
                mass = torch.where(mass > 0, mass, 1.0)
            else:
                top = some.amax(dim=1)
                if others is not None:
                    top = torch.maximum(top, others.amax(dim=1))
                mass = some.sub_(top.unsqueeze(1)).exp_().sum(dim=1)
                if others is not None:
                    others = (others - top.unsqueeze(1)).exp_()
                    mass += others.sum(dim=1)
                gap = top + mass.log() - own[start:stop]
            cost[start:stop] = gap if numbers[1] else softplus(gap)
            if hint is None:
                continue
            share = hint[start:stop] * (1.0 if numbers[1] else gap.sigmoid())
            made[2][start:stop] = -share
            # The probabilities of a row are its exponentials times this: scaling the vectors
            # of the products instead saves a pass over the block.
            scale = (share / mass).unsqueeze(1)
            torch.mm(some, candidates, out=made[0][start:stop]).mul_(scale)
            made[1].addmm_(some.T, queries[start:stop] * scale)
            if others is not None:
                torch.mul(others, scale, out=made[3][start:stop])
        return [cost], made

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
        return [torch.empty_like(inputs[2])]


class _LogMasses:
    """One block serves both directions; the sums of a column are known only after the last
    block, so that the gradient takes a second pass over the matrix.
    """

    def direct(self, inputs: Tensors, constants: Optionals, numbers: Numbers) -> Tensors:
        exclusion = Exclusion.of(constants, numbers[0])
        similarity = inputs[0] @ inputs[1].T
        rows = exclusion.whole(similarity)
        columns = rows if exclusion.guide_limit is None else exclusion.whole(similarity, True)
        return [rows.logsumexp(dim=1), columns.logsumexp(dim=0)]

    def forward(
        self, inputs: Tensors, constants: Optionals, numbers: Numbers, hint: Tensor | None
    ) -> tuple[Tensors, Tensors]:
        queries, keys = inputs
        exclusion = Exclusion.of(constants, numbers[0])
        if exclusion.guide_limit is None and bounded(queries, keys, exclusion.bias):
            return self._near(queries, keys, exclusion), []
        rows = queries.new_empty(len(queries))
        columns = queries.new_full((len(keys),), ABSENT)
        asked = torch.ones_like(columns, dtype=torch.bool)
        if exclusion.bias is not None:
            asked = exclusion.bias > 0.5 * ABSENT
        spans = blocks(len(queries), len(keys))
        space = queries.new_empty(2, spans[0][1], len(keys))
        for start, stop in spans:
            some, scratch = space[0, : stop - start], space[1, : stop - start]
            torch.mm(queries[start:stop], keys.T, out=some)
            exclusion.apply(some, start, scratch)
            top = some.amax(dim=1)
            mass = some.sub_(top.unsqueeze(1)).exp_().sum(dim=1)
            rows[start:stop] = top + mass.log()
            share, highest = None, top.amax()
            if exclusion.guide_limit is None:
                share = some.T @ (top - highest).exp()
                share = share if bool(((share > 1e-28) | ~asked).all()) else None
            if share is None:  # too far apart for one set of exponentials, or other pairs
                torch.mm(queries[start:stop], keys.T, out=some)
                exclusion.apply(some, start, scratch, by_column=True)
                found = some.logsumexp(dim=0)
            else:
                found = highest + share.log()
            columns = torch.logaddexp(columns, found)
        return [rows, columns], []

    def _near(self, queries: Tensor, keys: Tensor, exclusion: Exclusion) -> Tensors:
        """Where the exponentials themselves can be added up."""
        rows, columns = torch.zeros_like(queries[:, 0]), torch.zeros_like(keys[:, 0])
        ones = torch.ones_like(rows)
        spans = blocks(len(queries), len(keys))
        space = queries.new_empty(2, spans[0][1], len(keys))
        scaled, exclusion = in_base_two(queries, exclusion)
        for start, stop in spans:
            some, scratch = space[0, : stop - start], space[1, : stop - start]
            torch.mm(scaled[start:stop], keys.T, out=some)
            exclusion.apply(some, start, scratch)
            rows[start:stop] = some.exp2_().sum(dim=1)
            columns += some.T @ ones[start:stop]  # faster than to sum down the columns
        return [log_of(rows), log_of(columns)]

    def _near_backward(
        self, queries: Tensor, keys: Tensor, exclusion: Exclusion, values: Tensors, slopes: Tensors
    ) -> Tensors:
        # Without candidates there is no mass to share.
        by_row, by_column = (
            slope * torch.where(v > 0.5 * ABSENT, -v, ABSENT).exp()
            for v, slope in zip(values, slopes, strict=True)
        )
        made = [torch.empty_like(queries), torch.zeros_like(keys)]
        spans = blocks(len(queries), len(keys))
        space = queries.new_empty(2, spans[0][1], len(keys))
        scaled, exclusion = in_base_two(queries, exclusion)
        for start, stop in spans:
            some, factor = space[0, : stop - start], space[1, : stop - start]
            torch.mm(scaled[start:stop], keys.T, out=some)
            exclusion.apply(some, start, factor)
            torch.add(by_row[start:stop, None], by_column, out=factor)
            some.exp2_().mul_(factor)
            torch.mm(some, keys, out=made[0][start:stop])
            made[1].addmm_(some.T, queries[start:stop])
        return made

    def backward(
        self,
        inputs: Tensors,
        constants: Optionals,
        numbers: Numbers,
        values: Tensors,
        slopes: Tensors,
    ) -> Tensors:
        queries, keys = inputs
        exclusion = Exclusion.of(constants, numbers[0])
        if exclusion.guide_limit is None and bounded(queries, keys, exclusion.bias):
            return self._near_backward(queries, keys, exclusion, values, slopes)
        # Without candidates there is no mass to share: exp(similarity - large) is 0.
        there = values[0] > 0.5 * ABSENT
        rows, columns = (torch.where(v > 0.5 * ABSENT, v, STEEP) for v in values)
        middle, together = middle_of(rows, columns)
        together = together and exclusion.guide_limit is None
        up, down = slopes[0], slopes[1] * (middle - columns).exp()
        made = [torch.empty_like(queries), torch.zeros_like(keys)]
        spans = blocks(len(queries), len(keys))
        space = queries.new_empty(2, spans[0][1], len(keys))
        for start, stop in spans:
            some, factor = space[0, : stop - start], space[1, : stop - start]
            torch.mm(queries[start:stop], keys.T, out=some)
            if together:
                exclusion.apply(some, start, factor)
                some.sub_(rows[start:stop, None]).exp_()
                lift = torch.where(there[start:stop], (rows[start:stop] - middle).exp(), 0.0)
                torch.mul(lift.unsqueeze(1), down, out=factor).add_(up[start:stop, None])
                some.mul_(factor)
            else:
                other = some.clone()
                exclusion.apply(some, start, factor)
                some.sub_(rows[start:stop, None]).exp_().mul_(up[start:stop, None])
                exclusion.apply(other, start, factor, by_column=True)
                some.add_(other.sub_(columns).exp_().mul_(slopes[1]))
            torch.mm(some, keys, out=made[0][start:stop])
            made[1].addmm_(some.T, queries[start:stop])
        return made

    def shapes(self, inputs: Tensors) -> Tensors:
        return [torch.empty_like(x[:, 0]) for x in inputs]


def middle_of(*masses: Tensor) -> tuple[Tensor, bool]:
    """The middle of the log masses, and whether all lie within :data:`SPREAD` of one another."""
    real = torch.cat([masses[0].new_full((1,), STEEP), *masses])  # of an empty batch too
    there = real < 0.5 * STEEP
    low = torch.where(there, real, torch.inf).amin()
    high = torch.where(there, real, -torch.inf).amax()
    middle = torch.where(there.any(), 0.5 * (low + high), 0.0)
    return middle, bool((high - low) <= SPREAD)


def bounded(queries: Tensor, keys: Tensor, bias: Tensor | None, *scores: Tensor) -> bool:
    """Whether exponentials of all similarities, and sums of them, stay inside float32 as they are.

    Then none needs the largest of its row taken off, which is known only after a pass.
    """
    largest = torch.linalg.vector_norm(queries, dim=1).amax()
    largest = largest * torch.linalg.vector_norm(keys, dim=1).amax()
    if bias is not None:
        largest = largest + torch.where(bias > 0.5 * ABSENT, bias.abs(), 0.0).amax()
    for more in scores:
        sizes = torch.where(more > 0.5 * ABSENT, more.abs(), 0.0)
        largest = torch.maximum(largest, sizes.amax()) if sizes.numel() else largest
    return bool(largest <= SPREAD)


def in_base_two(queries: Tensor, exclusion: Exclusion) -> tuple[Tensor, Exclusion]:
    """Queries whose similarities are powers of two: exp2 takes less time than exp."""
    bias = exclusion.bias
    return queries * LOG2_E, replace(exclusion, bias=None if bias is None else bias * LOG2_E)


def log_of(mass: Tensor) -> Tensor:
    """The logarithm, ABSENT for no mass at all."""
    return torch.where(mass > 0, mass.log(), ABSENT)


statistic("candidate_cost", _CandidateCost())
statistic("log_masses", _LogMasses())
