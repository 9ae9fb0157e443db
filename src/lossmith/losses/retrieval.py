"""Objectives for embeddings: what belongs together ends up close, what does not ends up apart."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from lossmith.core.numerics import Distance, full_precision, softplus, unit_vectors, upcast
from lossmith.core.numerics import distance as distance_between
from lossmith.core.reduce import Divisor, Reduction, reduce
from lossmith.core.spec import Law, Tune, objective
from lossmith.core.validate import (
    check_float,
    check_leading_shape,
    check_mask,
    check_range,
    check_same_shape,
    check_values,
    shape_text,
)

# Stands for the similarity of a candidate that is not there: exp gives 0, and unlike -inf it
# leaves no NaN in the gradient of a row without candidates.
ABSENT = -1e30

IN_BATCH: dict[Law, str] = {
    "micro-batches": "the other rows are the negatives: a split of the batch has fewer of them"
}


@objective(
    family="retrieval",
    module="Contrastive",
    inputs="pair+same",
    unit="pairs",
    serves="accuracy of a threshold on the distance",
    limit="all pairs the same, euclidean: half the squared error between the two vectors",
    tune={"margin": Tune(0.1, 4.0, log=True)},
    aliases=("Hadsell loss", "siamese loss", "pairwise contrastive loss"),
    paper="Hadsell, Chopra, LeCun 2006, Dimensionality reduction by learning an invariant mapping",
)
def contrastive(
    x1: Tensor,
    x2: Tensor,
    same: Tensor,
    *,
    margin: float = 1.0,
    distance: Distance = "euclidean",
    mask: Tensor | None = None,
    weight: Tensor | None = None,
    reduction: Reduction = "mean",
    divisor: Divisor | None = None,
) -> Tensor:
    """Pull pairs that belong together to distance 0 and push the others apart up to the margin.

    Formula: ``1/2 [ s D^2 + (1 - s) max(0, m - D)^2 ]`` with D the distance of x1 and x2, s =
    ``same`` and m = ``margin``. Nothing is added to D.

    Use when the data are pairs with a yes or a no. Not when only the order counts (``triplet``)
    or when a batch can serve as its own negatives (``info_nce``). A cosine distance ends at 2, and
    so does the euclidean distance of unit vectors: a larger margin is never met.

    Shapes: x1 and x2 ``[..., d]``; same ``[...]``, 1 (True) together and 0 apart; mask and weight
    ``[...]``.

    Mean divides by: pairs.

    Errors: shapes that do not fit, a value of ``same`` other than 0 and 1, a negative margin.

    Where two vectors coincide the distance has no direction: the gradient there is 0.

    >>> x1, x2 = torch.zeros(2, 2), torch.tensor([[0.6, 0.0], [0.0, 0.4]])
    >>> contrastive(x1, x2, torch.tensor([1, 0]))  # (0.6 ** 2 / 2 + 0.6 ** 2 / 2) / 2
    tensor(0.1800)

    Source: Hadsell, Chopra, LeCun 2006, equation 4, with the label turned round.
    """
    check_float(x1=x1, x2=x2)
    check_range("margin", margin, 0.0)
    check_same_shape(x1=x1, x2=x2)
    check_leading_shape(x1, "x1", same=same, mask=mask, weight=weight)
    check_mask("mask", mask)
    good = (same == 0) | (same == 1)
    check_values("same", same, good if mask is None else good | ~mask, "1 (together) or 0 (apart)")
    x1, x2 = _real_rows(mask, *upcast(x1, x2))
    d = distance_between(x1, x2, distance)
    cost = 0.5 * torch.where(same == 1, d, F.relu(margin - d)).square()
    return reduce(cost, valid=mask, weight=weight, reduction=reduction, divisor=divisor)


@objective(
    family="retrieval",
    module="Triplet",
    inputs="triplet",
    unit="triplets",
    serves="the order of a near and a far item",
    limit="hinge of D(a, n) - D(a, p) at margin 1",
    tune={"margin": Tune(0.05, 4.0, log=True)},
    aliases=("triplet margin loss", "FaceNet loss"),
    paper="Weinberger, Saul 2009; Schroff, Kalenichenko, Philbin 2015, FaceNet",
)
def triplet(
    anchor: Tensor,
    positive: Tensor,
    negative: Tensor,
    *,
    margin: float = 1.0,
    distance: Distance = "euclidean",
    mask: Tensor | None = None,
    weight: Tensor | None = None,
    reduction: Reduction = "mean",
    divisor: Divisor | None = None,
) -> Tensor:
    """Keep the negative farther from the anchor than the positive, by a margin.

    Formula: ``max(0, D(a, p) - D(a, n) + m)`` with m = ``margin``. Nothing is added to D (torch's
    ``TripletMarginLoss`` adds 1e-6 to each coordinate's difference).

    Use when the data are triplets and only the order counts. Not when the easy triplets are many
    (they cost nothing and teach nothing; ``info_nce`` weighs a batch of negatives by hardness).

    Shapes: anchor, positive and negative ``[..., d]``; mask and weight ``[...]``.

    Mean divides by: triplets, the satisfied ones included.

    Errors: shapes that differ, a negative margin.

    >>> anchor, positive, negative = torch.tensor([[[0.0]], [[1.0]], [[1.5]]])
    >>> triplet(anchor, positive, negative)  # 1 - 1.5 + 1
    tensor(0.5000)

    Source: Schroff, Kalenichenko, Philbin 2015 (with ``distance="squared_euclidean"``, margin 0.2).
    """
    check_float(anchor=anchor, positive=positive, negative=negative)
    check_range("margin", margin, 0.0)
    check_same_shape(anchor=anchor, positive=positive, negative=negative)
    check_leading_shape(anchor, "anchor", mask=mask, weight=weight)
    check_mask("mask", mask)
    anchor, positive, negative = _real_rows(mask, *upcast(anchor, positive, negative))
    near = distance_between(anchor, positive, distance)
    far = distance_between(anchor, negative, distance)
    cost = F.relu(near - far + margin)
    return reduce(cost, valid=mask, weight=weight, reduction=reduction, divisor=divisor)


@objective(
    family="retrieval",
    module="InfoNCE",
    inputs="queries+positives",
    unit="queries",
    serves="recall at the top",
    limit="one query with explicit negatives: cross_entropy of its similarities / temperature",
    tune={"temperature": Tune(0.01, 0.5, log=True)},
    aliases=("multiple negatives ranking loss", "in-batch softmax", "CLIP loss", "N-pairs loss"),
    paper="van den Oord, Li, Vinyals 2018, Representation learning with contrastive predictive "
    "coding",
    exempt=IN_BATCH,
)
def info_nce(
    queries: Tensor,
    positives: Tensor,
    negatives: Tensor | None = None,
    *,
    temperature: float | Tensor = 0.07,
    symmetric: bool = False,
    normalize: bool = True,
    mask: Tensor | None = None,
    weight: Tensor | None = None,
    reduction: Reduction = "mean",
    divisor: Divisor | None = None,
) -> Tensor:
    """Let each query find its positive among the positives of the whole batch.

    Formula: ``- log [ exp(q_i p_i / T) / sum_j exp(q_i c_j / T) ]``, T = ``temperature``, where
    the candidates c are the positives of all queries and the explicit negatives. ``symmetric``:
    the mean of this and of the same with queries and positives exchanged, where the explicit
    negatives play no part. ``normalize``: cosines rather than inner products.

    Use when the data are pairs that belong together and nothing else is known; a batch of B gives
    B - 1 negatives each. Not where the batch holds the same item twice: the copy counts as wrong.

    Shapes: queries and positives ``(B, d)``; negatives ``(M, d)`` for all queries or ``(B, K, d)``
    for each its own; mask and weight ``(B,)``. A masked row is neither query nor candidate.

    Mean divides by: queries.

    Errors: shapes that do not fit, a temperature that is not above 0. A tensor temperature (one
    value, learnable) is taken as it is.

    >>> q = torch.eye(2)
    >>> info_nce(q, q, temperature=1.0)  # log(1 + exp(0 - 1))
    tensor(0.3133)

    Source: van den Oord, Li, Vinyals 2018; symmetric, Radford et al. 2021 (CLIP).
    """
    check_float(queries=queries, positives=positives)
    temperature = _check_temperature(temperature)
    _check_rows(queries=queries, positives=positives)
    _check_negatives(queries, negatives)
    check_leading_shape(queries, "queries", mask=mask, weight=weight)
    check_mask("mask", mask)
    queries, positives = _real_rows(mask, *upcast(queries, positives))
    if normalize:
        queries, positives = unit_vectors(queries), unit_vectors(positives)
    with full_precision(queries):
        similarity = queries @ positives.T / temperature
        extra = None
        if negatives is not None:
            extra = _explicit(queries, negatives, mask, normalize) / temperature
    own = similarity.diagonal()
    itself = torch.eye(len(own), dtype=torch.bool, device=own.device)
    others = _only_candidates(similarity, itself, mask)
    cost = _softmax_cost(own, others if extra is None else torch.cat([others, extra], dim=-1))
    if symmetric:
        cost = 0.5 * (cost + _softmax_cost(own, _only_candidates(similarity.T, itself, mask)))
    return reduce(cost, valid=mask, weight=weight, reduction=reduction, divisor=divisor)


@objective(
    family="retrieval",
    module="NTXent",
    inputs="two views",
    unit="views",
    serves="recall at the top",
    limit="one view as query, its other view as positive, the rest as negatives: info_nce",
    tune={"temperature": Tune(0.05, 1.0, log=True)},
    aliases=("normalized temperature-scaled cross-entropy", "SimCLR loss"),
    paper="Chen, Kornblith, Norouzi, Hinton 2020, SimCLR",
    exempt=IN_BATCH,
)
def nt_xent(
    z1: Tensor,
    z2: Tensor,
    *,
    temperature: float | Tensor = 0.5,
    mask: Tensor | None = None,
    weight: Tensor | None = None,
    reduction: Reduction = "mean",
    divisor: Divisor | None = None,
) -> Tensor:
    """Let each view find the other view of the same example among all views of the batch.

    Formula: ``- log [ exp(cos(z_i, z_j) / T) / sum over k != i of exp(cos(z_i, z_k) / T) ]`` for
    each of the 2B views i, j the other view of its example, T = ``temperature``.

    Use for two augmentations of the same examples. Not where the sides play different parts
    (query and document): ``info_nce`` has candidates on the other side alone.

    Shapes: z1 and z2 ``(B, d)``; mask and weight ``(B,)``, for both views of an example. A masked
    example is neither asked nor a candidate. "none" is ``[2, B]``: the views of z1, then of z2.

    Mean divides by: views, two for each example.

    Errors: shapes that differ, a temperature that is not above 0.

    A batch of one example has no candidate but the right one and costs 0.

    >>> z = torch.eye(2)
    >>> nt_xent(z, z, temperature=1.0)  # log(1 + 2 exp(0 - 1))
    tensor(0.5514)

    Source: Chen et al. 2020.
    """
    check_float(z1=z1, z2=z2)
    temperature = _check_temperature(temperature)
    _check_rows(z1=z1, z2=z2)
    check_leading_shape(z1, "z1", mask=mask, weight=weight)
    check_mask("mask", mask)
    views = unit_vectors(torch.cat(_real_rows(mask, *upcast(z1, z2))))
    with full_precision(views):
        similarity = views @ views.T / temperature
    size = len(z1)
    itself = torch.eye(2 * size, dtype=torch.bool, device=views.device)
    partner = itself.roll(size, dims=0)
    own = torch.where(partner, similarity, 0.0).sum(dim=-1)
    both = None if mask is None else torch.cat([mask, mask])
    others = _only_candidates(similarity, itself | partner, both)
    cost = _softmax_cost(own, others).reshape(2, size)
    return reduce(
        cost,
        valid=None if mask is None else mask.expand(2, size),
        weight=None if weight is None else weight.expand(2, size),
        reduction=reduction,
        divisor=divisor,
    )


def _softmax_cost(own: Tensor, others: Tensor) -> Tensor:
    """-log softmax of the right candidate, through its odds against all others.

    Leaving the right one out of the sum keeps the digits of a cost far below 1.
    """
    return softplus(others.logsumexp(dim=-1) - own)


def _only_candidates(similarity: Tensor, excluded: Tensor, mask: Tensor | None) -> Tensor:
    """Similarities with what is no wrong candidate of a row taken out."""
    out = excluded if mask is None else excluded | ~mask
    return torch.where(out, torch.full_like(similarity, ABSENT), similarity)


def _explicit(queries: Tensor, negatives: Tensor, mask: Tensor | None, normalize: bool) -> Tensor:
    """Similarity of each query to its explicit negatives, ``(B, M)`` or ``(B, K)``."""
    queries, negatives = upcast(queries, negatives)
    if negatives.dim() == 3:
        (negatives,) = _real_rows(None if mask is None else mask.unsqueeze(-1), negatives)
    negatives = unit_vectors(negatives) if normalize else negatives
    if negatives.dim() == 2:
        return queries @ negatives.T
    return (negatives @ queries.unsqueeze(-1)).squeeze(-1)


def _real_rows(mask: Tensor | None, *rows: Tensor) -> tuple[Tensor, ...]:
    """Vectors with the masked ones at zero, so that what they held reaches nothing."""
    if mask is None:
        return rows
    return tuple(torch.where(mask.unsqueeze(-1), row, 0.0) for row in rows)


def _check_temperature(temperature: float | Tensor) -> float | Tensor:
    check_range("temperature", temperature, 0.0, low_open=True)
    if not isinstance(temperature, Tensor):
        return temperature
    if temperature.numel() != 1:
        raise ValueError(
            f"temperature {shape_text(temperature)} must hold one value. For a weight per query "
            "there is weight=."
        )
    return temperature.reshape(())


def _check_rows(**tensors: Tensor) -> None:
    check_same_shape(**tensors)
    for name, tensor in tensors.items():
        if tensor.dim() != 2:
            raise ValueError(
                f"{name} {shape_text(tensor)} must be (B, d), one vector for each row of the batch."
            )


def _check_negatives(queries: Tensor, negatives: Tensor | None) -> None:
    if negatives is None:
        return
    check_float(negatives=negatives)
    size, width = queries.shape
    shared = negatives.dim() == 2 and negatives.shape[-1] == width
    per_query = negatives.dim() == 3 and negatives.shape[::2] == (size, width)
    if not (shared or per_query):
        raise ValueError(
            f"negatives {shape_text(negatives)} must be (M, {width}), shared by all queries, or "
            f"({size}, K, {width}), its own for each query of queries {shape_text(queries)}."
        )
