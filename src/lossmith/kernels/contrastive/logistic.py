"""The logistic cost of all wrong pairs of a row, in one pass of row blocks."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from lossmith.core.numerics import softplus
from lossmith.kernels.contrastive.candidates import bounded, in_base_two
from lossmith.kernels.contrastive.engine import (
    Numbers,
    Optionals,
    Tensors,
    blocks,
    evaluate,
    statistic,
)
from lossmith.kernels.contrastive.exclusion import Exclusion

# exp of it and its sums stay in float32.
LARGEST_EXPONENT = 60.0


def logistic_cost_of_others(
    queries: Tensor, keys: Tensor, bias: Tensor, exclusion: Exclusion, hint: Tensor
) -> Tensor:
    """The sum over a row's wrong candidates of log(1 + exp(similarity + bias)); bias is scalar."""
    (cost,) = evaluate(
        "logistic_cost",
        [queries, keys, bias],
        exclusion.constants(),
        [float(exclusion.own)],
        entries=len(queries) * len(keys),
        hint=hint,
    )
    return cost


class _LogisticCost:
    def direct(self, inputs: Tensors, constants: Optionals, numbers: Numbers) -> Tensors:
        exclusion = Exclusion.of(constants, numbers[0])
        similarity = inputs[0] @ inputs[1].T + inputs[2]
        return [softplus(exclusion.whole(similarity)).sum(dim=1)]

    def forward(
        self, inputs: Tensors, constants: Optionals, numbers: Numbers, hint: Tensor | None
    ) -> tuple[Tensors, Tensors]:
        queries, keys, bias = inputs
        exclusion = Exclusion.of(constants, numbers[0])
        cost = torch.empty_like(queries[:, 0])
        made = (
            [] if hint is None else [torch.empty_like(queries), *map(torch.zeros_like, inputs[1:])]
        )
        spans = blocks(len(queries))
        space = queries.new_empty(2, spans[0][1], len(keys))
        shift = bias.expand(len(keys))
        if exclusion.bias is not None:
            shift = shift + exclusion.bias
        near = bounded(queries, keys, shift)
        exclusion = replace(exclusion, bias=shift)
        rows, exclusion = in_base_two(queries, exclusion) if near else (queries, exclusion)
        for start, stop in spans:
            some, scratch = space[0, : stop - start], space[1, : stop - start]
            torch.mm(rows[start:stop], keys.T, out=some)
            exclusion.apply(some, start, scratch)
            # One exponential serves the value and the slope; past the limit both are linear.
            beyond = None
            if not near and bool(some.amax() > LARGEST_EXPONENT):
                beyond = (some - LARGEST_EXPONENT).clamp_(min=0.0).sum(dim=1)
                some.clamp_(max=LARGEST_EXPONENT)
            some = some.exp2_() if near else some.exp_()
            cost[start:stop] = torch.log1p(some, out=scratch).sum(dim=1)
            if beyond is not None:
                cost[start:stop] += beyond
            if hint is None:
                continue
            some.div_(torch.add(some, 1.0, out=scratch))
            slope = hint[start:stop, None]
            torch.mm(some, keys, out=made[0][start:stop]).mul_(slope)
            made[1].addmm_(some.T, queries[start:stop] * slope)
            made[2] += hint[start:stop] @ some.sum(dim=1)
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
        return [torch.empty_like(inputs[0][:, 0])]


statistic("logistic_cost", _LogisticCost())
