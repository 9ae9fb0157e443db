"""Objectives for embeddings that come in pairs: the other rows of the batch are the negatives."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from lossmith.core.numerics import softplus, unit_vectors, upcast
from lossmith.core.reduce import Divisor, Reduction, reduce
from lossmith.core.spec import Tune, objective
from lossmith.core.validate import check_choice, check_range
from lossmith.kernels.contrastive.candidates import candidate_cost, log_masses
from lossmith.kernels.contrastive.engine import ABSENT
from lossmith.kernels.contrastive.exclusion import Exclusion
from lossmith.kernels.contrastive.groups import NOBODY, group_size, group_sum, groups
from lossmith.kernels.contrastive.logistic import logistic_cost_of_others
from lossmith.kernels.contrastive.within import label_masses
from lossmith.losses.retrieval.inputs import (
    IN_BATCH,
    check_temperature,
    check_vectors,
    one_number,
    slope_of_rows,
    vectors_at,
)
from lossmith.losses.retrieval.structure import (
    Guide,
    candidate_bias,
    check_negatives,
    check_structure,
    explicit_negatives,
    guide_of,
    sorted_pairs,
)


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
    cost="n^2",
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
    same_id: Literal["ignore", "positive"] = "ignore",
    guide_margin: float = 0.0,
    ids: Tensor | None = None,
    log_q: Tensor | None = None,
    negatives_mask: Tensor | None = None,
    ignore_pairs: Tensor | None = None,
    guide: Guide | None = None,
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

    What else is known of the batch: ``ids`` of the items, where a copy of the right answer is left
    out (``same_id="ignore"``) or is right as well (``"positive"``: the mean over the right ones of
    -log their shares); ``ignore_pairs``, (query, candidate) that are no negatives; ``log_q``, the
    log of the probability that sampling puts a candidate into a batch, taken off its score;
    ``guide``, a teacher's vectors of queries and positives (compared by cosine) or its ``(B, B)``
    scores: what the teacher puts above a query's own positive less ``guide_margin`` is left out.

    Use when the data are pairs that belong together; a batch of B gives B - 1 negatives each.
    Not where the batch holds the same item twice and nothing says so: the copy counts as wrong.

    Shapes: queries and positives ``(B, d)``; negatives ``(M, d)`` for all queries or ``(B, K, d)``
    for each its own, with a ``negatives_mask`` ``(M,)`` or ``(B, K)`` where they are ragged; mask,
    weight and ids ``(B,)``; log_q ``(B,)``, or ``(B + M,)`` with shared negatives; ignore_pairs
    ``(P, 2)``. A masked row is neither query nor candidate.

    Mean divides by: queries.

    Errors: shapes that do not fit, a temperature that is not above 0. A tensor temperature (one
    value, learnable) is taken as it is.

    Large batches go by blocks of rows and never hold B x B numbers. With ``reduction="none"``, or
    ``symmetric``, the backward pass computes the similarities once more.

    >>> q = torch.eye(2)
    >>> info_nce(q, q, temperature=1.0)  # log(1 + exp(0 - 1))
    tensor(0.3133)
    >>> info_nce(q, q, temperature=1.0, ids=torch.tensor([4, 4]))  # the other one is a copy
    tensor(0.)

    Source: van den Oord, Li, Vinyals 2018; symmetric, Radford et al. 2021 (CLIP); log_q, Yi et al.
    2019; guide, Solatorio 2024 (GISTEmbed).
    """
    check_choice("same_id", same_id, ("ignore", "positive"))
    check_range("guide_margin", guide_margin)
    temperature = check_temperature(temperature)
    check_vectors(mask, weight, queries=queries, positives=positives)
    check_negatives(queries, negatives, negatives_mask)
    check_structure(queries, negatives, ids, log_q, ignore_pairs, guide)
    queries, positives = vectors_at(temperature, queries, positives, mask, normalize)
    shared = extra = None
    if negatives is not None:
        shared, extra = explicit_negatives(queries, negatives, negatives_mask, mask, normalize)
    group = None if ids is None else groups(ids, mask)
    inclusive = group is not None and same_id == "positive"
    if inclusive and not (guide is None and ignore_pairs is None):
        raise ValueError(
            "same_id='positive' takes no guide and no ignore_pairs, which may take out what the "
            "ids call right. Choose same_id='ignore', or leave them out."
        )
    exclusion = Exclusion(
        own=not inclusive,
        bias=candidate_bias(log_q, mask, positives),
        # A masked row's cost is dropped; only sums of columns would hear of it.
        rows_out=~mask if mask is not None and symmetric else None,
        ids=None if group is None or inclusive else group.to(queries.dtype),
        pairs=sorted_pairs(ignore_pairs),
        **guide_of(guide, guide_margin, mask, queries.dtype),
    )
    more = None
    if shared is not None:
        chosen = negatives_mask
        more = Exclusion(
            own=False,
            bias=candidate_bias(log_q, chosen, shared, start=len(queries)),
            rows_out=exclusion.rows_out,
        )
    own = _own_score(queries, positives, candidate_bias(log_q, None, positives), group, inclusive)
    if not symmetric:
        hint = slope_of_rows(queries, mask, weight)
        if shared is not None and more is not None:
            exclusion = exclusion.beside(more, len(queries), shared)
            positives = torch.cat([positives, shared])
        cost = candidate_cost(queries, positives, own, extra, exclusion, hint, inclusive=inclusive)
        return reduce(cost, valid=mask, weight=weight, reduction=reduction, divisor=divisor)
    rows, columns = log_masses(queries, positives, exclusion)
    if exclusion.bias is not None:  # a correction of the positives, not of the queries
        columns = columns - torch.where(exclusion.bias > 0.5 * ABSENT, exclusion.bias, 0.0)
    if shared is not None and more is not None:
        rows = torch.logaddexp(rows, log_masses(queries, shared, more)[0])
    if extra is not None and extra.shape[1]:
        rows = torch.logaddexp(rows, extra.logsumexp(dim=-1))
    back = _own_score(positives, queries, None, group, inclusive)
    if inclusive:
        cost = 0.5 * ((rows - own) + (columns - back))
    else:
        cost = 0.5 * (softplus(rows - own) + softplus(columns - back))
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
    cost="n^2",
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
    temperature = check_temperature(temperature)
    check_vectors(mask, weight, z1=z1, z2=z2)
    z1, z2 = (unit_vectors(z, mask) for z in upcast(z1, z2))
    size = len(z1)
    example = torch.arange(size, device=z1.device)
    if mask is not None:
        example = torch.where(mask, example, NOBODY)
    # Half of the temperature on either side: the similarities stay symmetric.
    views = torch.cat([z1, z2]) * temperature**-0.5
    # The other view of the example is a row's only companion.
    others, own, _ = label_masses(views, torch.cat([example, example]))
    cost = softplus(others - own).reshape(2, size)
    return reduce(
        cost,
        valid=None if mask is None else mask.expand(2, size),
        weight=None if weight is None else weight.expand(2, size),
        reduction=reduction,
        divisor=divisor,
    )


@objective(
    family="retrieval",
    module="SigmoidContrastive",
    inputs="queries+positives",
    unit="queries",
    serves="recall at the top",
    limit="one pair: binary_cross_entropy of its logit as a yes",
    tune={"temperature": Tune(0.01, 0.5, log=True), "bias": Tune(-20.0, 0.0)},
    aliases=("SigLIP loss", "sigmoid loss for language image pre-training"),
    paper="Zhai, Mustafa, Kolesnikov, Beyer 2023, Sigmoid loss for language image pre-training",
    cost="n^2",
    exempt=IN_BATCH,
)
def sigmoid_contrastive(
    queries: Tensor,
    positives: Tensor,
    *,
    temperature: float | Tensor = 0.1,
    bias: float | Tensor | None = None,
    normalize: bool = True,
    ids: Tensor | None = None,
    ignore_pairs: Tensor | None = None,
    mask: Tensor | None = None,
    weight: Tensor | None = None,
    reduction: Reduction = "mean",
    divisor: Divisor | None = None,
) -> Tensor:
    """Answer of every query and every positive of the batch whether they belong together.

    Formula: ``sum_j log(1 + exp(-y_ij (q_i p_j / T + b)))`` with y = 1 for a query's own positive
    and -1 for all others, T = ``temperature`` and b = ``bias``: without one, minus the log of the
    number of other candidates, so that a new model says yes as often as it is right. (The paper
    starts from -10, which is that of batches of 22,000.) ``ids``: pairs of the same id that are
    not each other's own are left out, and so are ``ignore_pairs``.

    Use for pairs in large batches: no row waits for the sum of another. Not with a bias far above
    that of the batch, where the many negatives are all that counts at first, or far below, where
    they count for nothing.

    Shapes: queries and positives ``(B, d)``; ids, mask and weight ``(B,)``; ignore_pairs
    ``(P, 2)``. A masked row is neither query nor candidate.

    Mean divides by: queries (each costs the sum over its candidates).

    Errors: shapes that do not fit, a temperature that is not above 0.

    >>> q = torch.eye(2)
    >>> sigmoid_contrastive(q, q, temperature=1.0)  # log(1 + exp(-1)) + log 2; bias -log 1
    tensor(1.0064)

    Source: Zhai et al. 2023, equation 1.
    """
    temperature = check_temperature(temperature)
    check_vectors(mask, weight, queries=queries, positives=positives)
    check_structure(queries, None, ids, None, ignore_pairs, None)
    queries, positives = vectors_at(temperature, queries, positives, mask, normalize)
    if bias is None:
        candidates = slope_of_rows(queries, mask, None).sum()
        bias = -(candidates - 1.0).clamp(min=1.0).log()
    bias = torch.as_tensor(one_number("bias", bias), dtype=queries.dtype, device=queries.device)
    own = (queries * positives).sum(dim=-1) + bias
    exclusion = Exclusion(
        bias=candidate_bias(None, mask, positives),
        rows_out=None if mask is None else ~mask,
        ids=None if ids is None else groups(ids, mask).to(queries.dtype),
        pairs=sorted_pairs(ignore_pairs),
    )
    wrong = logistic_cost_of_others(
        queries,
        positives,
        bias,
        exclusion,
        slope_of_rows(queries, mask, weight),
    )
    return reduce(
        softplus(-own) + wrong, valid=mask, weight=weight, reduction=reduction, divisor=divisor
    )


def _own_score(
    rows: Tensor, right: Tensor, bias: Tensor | None, group: Tensor | None, inclusive: bool
) -> Tensor:
    """The score of each row's right answer, or the mean over the right ones of its group."""
    if not inclusive or group is None:
        own = (rows * right).sum(dim=-1)
        return own if bias is None else own + bias
    size = group_size(group).clamp(min=1)
    own = (rows * group_sum(right, group)).sum(dim=-1) / size
    return own if bias is None else own + group_sum(bias.unsqueeze(-1), group).squeeze(-1) / size
