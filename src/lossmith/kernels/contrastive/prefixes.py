"""Softmax costs of several prefixes of the same embeddings, for the products of the longest one.

The similarities of a prefix are those of the one before it and the product of the coordinates
between; so are the gradients, from the longest prefix down.
"""

from __future__ import annotations

from collections.abc import Sequence

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
        queries, keys, left, right, own = inputs
        slope = None if hint is None else hint.view(own.shape)
        cost = torch.empty_like(own)
        made = [] if hint is None else [torch.zeros_like(x) for x in inputs]
        chunks = _chunks(numbers)
        spans = blocks(len(queries))
        space = queries.new_empty(len(chunks) + 2, spans[0][1], len(keys))
        for start, stop in spans:
            total, room, *kept = (s[: stop - start] for s in space)
            total.zero_()
            some = queries[start:stop]
            for p, (chunk, share) in enumerate(zip(chunks, kept, strict=True)):
                total.addmm_(some[:, chunk], keys[:, chunk].T)
                torch.mul(total, left[start:stop, p, None], out=share).mul_(right[:, p])
                if constants[0] is not None:
                    share.add_(constants[0])
                share.diagonal(offset=start).fill_(ABSENT)
                top = share.amax(dim=1)
                room.copy_(share)
                mass = share.sub_(top.unsqueeze(1)).exp_().sum(dim=1)
                gap = top + mass.log() - own[start:stop, p]
                cost[start:stop, p] = softplus(gap)
                if slope is None:
                    continue
                down = slope[start:stop, p] * gap.sigmoid()
                made[4][start:stop, p] = -down
                scale = down / mass
                # The score is a product with the factors, so its own size is their slope.
                if constants[0] is not None:
                    room.sub_(constants[0])
                room.mul_(share)
                made[2][start:stop, p] = room.sum(dim=1) * scale / left[start:stop, p]
                made[3][:, p] += (room.T @ scale) / right[:, p]
                share.mul_((scale * left[start:stop, p]).unsqueeze(1)).mul_(right[:, p])
            if slope is None:
                continue
            for p in reversed(range(len(chunks))):
                if p + 1 < len(chunks):
                    kept[p].add_(kept[p + 1])
                made[0][start:stop, chunks[p]] = kept[p] @ keys[:, chunks[p]]
                made[1][:, chunks[p]].addmm_(kept[p].T, some[:, chunks[p]])
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


statistic("prefix_costs", _PrefixCosts())
