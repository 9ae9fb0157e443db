"""Objectives for embeddings with labels: every other row of the batch is a companion or not."""

from __future__ import annotations

import torch
from torch import Tensor

from lossmith.core.numerics import softplus
from lossmith.core.reduce import Divisor, Reduction, reduce
from lossmith.core.spec import Tune, objective
from lossmith.core.validate import check_range
from lossmith.kernels.contrastive.groups import NOBODY, group_size
from lossmith.kernels.contrastive.transform import Transform
from lossmith.kernels.contrastive.within import label_masses
from lossmith.losses.retrieval.inputs import IN_BATCH, check_temperature, labelled

CONSTANT_WEIGHTS = "the weights of the pairs are constants to the gradient, as in the paper"


@objective(
    family="retrieval",
    module="SupCon",
    inputs="embeddings+labels",
    unit="anchors with a positive",
    serves="accuracy of the nearest neighbours",
    limit="two rows of each label: nt_xent of the two views",
    tune={"temperature": Tune(0.05, 1.0, log=True)},
    aliases=("supervised contrastive loss", "SupConOut"),
    paper="Khosla et al. 2020, Supervised contrastive learning",
    cost="n^2",
    exempt=IN_BATCH,
)
def sup_con(
    embeddings: Tensor,
    labels: Tensor,
    *,
    temperature: float | Tensor = 0.1,
    mask: Tensor | None = None,
    weight: Tensor | None = None,
    reduction: Reduction = "mean",
    divisor: Divisor | None = None,
) -> Tensor:
    """Draw each row to every row of its label, out of all rows of the batch.

    Formula: ``- 1/|P(i)| sum over p in P(i) of log [ exp(cos(z_i, z_p) / T) / sum over k != i of
    exp(cos(z_i, z_k) / T) ]`` with P(i) the other rows of the label of i, T = ``temperature``.

    Use when rows have classes and the embedding is what is kept. Not with one row per label (there
    is no positive: ``nt_xent`` makes one) or where the classes themselves are asked for
    (``cross_entropy``).

    Shapes: embeddings ``(B, d)``; labels ``(B,)`` of an integer type; mask and weight ``(B,)``. A
    masked row is neither anchor nor candidate.

    Mean divides by: anchors with a positive; the others cost 0.

    Errors: shapes that do not fit, labels that are not whole numbers, a temperature not above 0.

    >>> z = torch.eye(2)[[0, 0, 1, 1]]
    >>> sup_con(z, torch.tensor([5, 5, 8, 8]), temperature=1.0)  # log(1 + 2 exp(0 - 1))
    tensor(0.5514)

    Source: Khosla et al. 2020, equation 2 (the mean outside the logarithm), without its factor T.
    """
    temperature = check_temperature(temperature)
    rows, group = labelled(embeddings, labels, mask, weight)
    rows = rows * temperature**-0.5
    positives = group_size(group) - 1
    others, companions, total = label_masses(rows, group)
    together = total / positives.clamp(min=1)
    # Of a single positive the log-sum-exp is its score: the cost keeps its digits far below 1.
    companions = torch.where(positives == 1, together, companions)
    cost = softplus(others - companions) + (companions - together)
    return reduce(cost, valid=positives > 0, weight=weight, reduction=reduction, divisor=divisor)


@objective(
    family="retrieval",
    module="MultiSimilarity",
    inputs="embeddings+labels",
    unit="anchors",
    serves="recall at the top",
    limit="one positive, one negative, alpha = beta, base 0, no mining: two logistic costs / alpha",
    tune={
        "alpha": Tune(1.0, 10.0, log=True),
        "beta": Tune(10.0, 100.0, log=True),
        "base": Tune(0.0, 1.0),
    },
    aliases=("MS loss",),
    paper="Wang et al. 2019, Multi-similarity loss with general pair weighting",
    cost="n^2",
    exempt={
        **IN_BATCH,
        "jumps": "a pair enters or leaves with the whole of its cost where mining takes it up",
    },
)
def multi_similarity(
    embeddings: Tensor,
    labels: Tensor,
    *,
    alpha: float = 2.0,
    beta: float = 50.0,
    base: float = 0.5,
    mining_margin: float | None = 0.1,
    mask: Tensor | None = None,
    weight: Tensor | None = None,
    reduction: Reduction = "mean",
    divisor: Divisor | None = None,
) -> Tensor:
    """Pull the far companions of each row and push its near others, hard pairs most.

    Formula: ``1/a log(1 + sum over p of exp(-a (s_p - m))) + 1/b log(1 + sum over n of
    exp(b (s_n - m)))`` with s the cosine to the anchor, p the rows of its label, n the others,
    a = ``alpha``, b = ``beta``, m = ``base``. Mined first: negatives with ``s_n > min s_p - e``,
    positives with ``s_p < max s_n + e``, e = ``mining_margin``; None keeps every pair.

    Use when a batch holds several rows of each label and the easy pairs are many. Not with one row
    per label: mining then finds nothing.

    Shapes: embeddings ``(B, d)``; labels ``(B,)`` of an integer type; mask and weight ``(B,)``. A
    masked row is neither anchor nor candidate.

    Mean divides by: anchors, those without a pair included (they cost 0).

    Errors: shapes that do not fit, labels that are not whole numbers, alpha or beta not above 0.

    >>> z = torch.eye(2)[[0, 0, 1, 1]]
    >>> label = torch.tensor([5, 8, 5, 8])
    >>> multi_similarity(z, label, alpha=1.0, beta=1.0, base=0.0)  # log 2 + log(2 + e)
    tensor(2.2446)

    Source: Wang et al. 2019, equations 11 to 13.
    """
    check_range("alpha", alpha, 0.0, low_open=True)
    check_range("beta", beta, 0.0, low_open=True)
    if mining_margin is not None:
        check_range("mining_margin", mining_margin)
    rows, group = labelled(embeddings, labels, mask, weight)
    others, companions, _ = label_masses(
        rows, group, Transform(beta), Transform(-alpha), mining_margin
    )
    cost = softplus(companions + alpha * base) / alpha + softplus(others - beta * base) / beta
    return reduce(cost, valid=group != NOBODY, weight=weight, reduction=reduction, divisor=divisor)


@objective(
    family="retrieval",
    module="Circle",
    inputs="embeddings+labels",
    unit="anchors with a positive and a negative",
    serves="recall at the top",
    limit="a far positive and a near negative alone: softplus of gamma times their weighted gap",
    tune={"margin": Tune(0.1, 0.5), "gamma": Tune(16.0, 256.0, log=True)},
    paper="Sun et al. 2020, Circle loss: a unified perspective of pair similarity optimization",
    cost="n^2",
    exempt={
        **IN_BATCH,
        "gradcheck": CONSTANT_WEIGHTS,
        "double-backward": CONSTANT_WEIGHTS,
    },
)
def circle(
    embeddings: Tensor,
    labels: Tensor,
    *,
    margin: float = 0.4,
    gamma: float = 80.0,
    mask: Tensor | None = None,
    weight: Tensor | None = None,
    reduction: Reduction = "mean",
    divisor: Divisor | None = None,
) -> Tensor:
    """Separate companions from others, each pair with a weight by how far it is from its goal.

    Formula: ``log [ 1 + sum over n of exp(g w_n (s_n - m)) * sum over p of
    exp(-g w_p (s_p - (1 - m))) ]`` with s the cosine to the anchor, ``w_n = max(0, s_n + m)`` and
    ``w_p = max(0, 1 + m - s_p)`` constants to the gradient, g = ``gamma`` and m = ``margin``.

    Use when a batch holds several rows of each label and cosines are what is compared. Not where
    the scale of the loss must stay: at gamma 80 one wrong pair costs tens.

    Shapes: embeddings ``(B, d)``; labels ``(B,)`` of an integer type; mask and weight ``(B,)``. A
    masked row is neither anchor nor candidate.

    Mean divides by: anchors with a positive and a negative; the others cost 0.

    Errors: shapes that do not fit, labels that are not whole numbers, gamma not above 0.

    >>> z = torch.eye(2)[[0, 0, 1]]
    >>> circle(z, torch.tensor([5, 5, 8]), margin=0.5, gamma=1.0)  # log(1 + exp(-1/4 - 1/4))
    tensor(0.4741)

    Source: Sun et al. 2020, equations 4 to 8.
    """
    check_range("margin", margin, 0.0, 1.0)
    check_range("gamma", gamma, 0.0, low_open=True)
    rows, group = labelled(embeddings, labels, mask, weight)
    others, companions, _ = label_masses(
        rows,
        group,
        Transform(1.0, gamma, -margin, margin),
        Transform(-1.0, gamma, 1 + margin, 1 - margin),
    )
    size = group_size(group)
    valid = (size > 1) & (size < (group != NOBODY).sum())
    cost = softplus(others + companions)
    return reduce(cost, valid=valid, weight=weight, reduction=reduction, divisor=divisor)
