"""Embeddings whose prefixes are embeddings too."""

from __future__ import annotations

import torch
from torch import Tensor

from lossmith.core.numerics import euclidean_from_squared, unit_vectors, upcast
from lossmith.core.reduce import Divisor, Reduction, reduce
from lossmith.core.spec import Tune, objective
from lossmith.kernels.contrastive.prefixes import prefix_costs
from lossmith.losses.retrieval.inputs import (
    IN_BATCH,
    check_temperature,
    check_vectors,
    slope_of_rows,
)
from lossmith.losses.retrieval.structure import candidate_bias


@objective(
    family="retrieval",
    module="MatryoshkaInfoNCE",
    inputs="queries+positives",
    unit="queries",
    serves="recall at the top, with vectors cut short",
    limit="one prefix, the whole vector: info_nce",
    tune={"temperature": Tune(0.01, 0.5, log=True)},
    aliases=("Matryoshka representation learning",),
    paper="Kusupati et al. 2022, Matryoshka representation learning",
    cost="n^2",
    exempt={
        **IN_BATCH,
        "jumps": "where a prefix of a vector is zero it has no direction, and near it any",
        "monotone": "what is wrong for whole vectors may be right for their beginnings",
    },
)
def matryoshka_info_nce(
    queries: Tensor,
    positives: Tensor,
    *,
    temperature: float | Tensor = 0.07,
    prefixes: list[int] | tuple[int, ...] | None = None,
    mask: Tensor | None = None,
    weight: Tensor | None = None,
    reduction: Reduction = "mean",
    divisor: Divisor | None = None,
) -> Tensor:
    """Let each query find its positive by the first coordinates alone, at several lengths.

    Formula: the mean over the prefixes of ``info_nce`` of the vectors cut to that many coordinates,
    each compared by cosine. ``prefixes``: the lengths, rising; None takes the whole and its halves
    down to an eighth.

    Use to store or search vectors at several sizes with one model. Not when one size is served:
    the short prefixes take from the long ones.

    Shapes: queries and positives ``(B, d)``; mask and weight ``(B,)``. A masked row is neither
    query nor candidate.

    Mean divides by: queries.

    Errors: shapes that do not fit, prefixes that do not rise or exceed d, a temperature that is not
    above 0.

    Similarities of a prefix go on from those of the one before: all cost the matrix products of the
    longest once.

    >>> q = torch.eye(2)
    >>> matryoshka_info_nce(q, q, temperature=1.0, prefixes=[2])  # log(1 + exp(0 - 1))
    tensor(0.3133)

    Source: Kusupati et al. 2022, with the in-batch softmax at every length.
    """
    temperature = check_temperature(temperature)
    check_vectors(mask, weight, queries=queries, positives=positives)
    ends = _ends(prefixes, queries.shape[1])
    queries, positives = (unit_vectors(x, mask) for x in upcast(queries, positives))
    left = _inverse_lengths(queries, ends) / temperature
    right = _inverse_lengths(positives, ends)
    own = _at(queries * positives, ends) * left * right
    slope = slope_of_rows(queries, mask, weight).unsqueeze(1).expand_as(own)
    bias = candidate_bias(None, mask, positives)
    costs = prefix_costs(queries, positives, left, right, own, bias, ends, slope)
    return reduce(
        costs.mean(dim=1), valid=mask, weight=weight, reduction=reduction, divisor=divisor
    )


def _ends(prefixes: list[int] | tuple[int, ...] | None, width: int) -> list[int]:
    if prefixes is None:
        return sorted({max(1, width // k) for k in (1, 2, 4, 8)})
    ends = list(prefixes)
    rising = all(a < b for a, b in zip([0, *ends], ends, strict=False))
    if not ends or not rising or ends[-1] > width:
        raise ValueError(
            f"prefixes={prefixes!r} must be whole numbers that rise, from 1 to the {width} "
            "coordinates of the vectors."
        )
    return ends


def _at(products: Tensor, ends: list[int]) -> Tensor:
    """The sums over each prefix, ``(B, P)``."""
    sizes = [end - start for start, end in zip([0, *ends], [*ends, products.shape[1]], strict=True)]
    parts = products.split_with_sizes(sizes, dim=1)[: len(ends)]  # one gradient for all of them
    return torch.stack([part.sum(dim=1) for part in parts], dim=1).cumsum(dim=1)


def _inverse_lengths(rows: Tensor, ends: list[int]) -> Tensor:
    length = euclidean_from_squared(_at(rows * rows, ends))
    return 1.0 / torch.where(length > 0, length, 1.0)
