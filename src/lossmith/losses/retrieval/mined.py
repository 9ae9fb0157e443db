"""Triplets that a labelled batch holds: the hardest of each anchor, the semi-hard, or all."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from lossmith.core.numerics import Distance, unit_vectors
from lossmith.core.numerics import distance as distance_between
from lossmith.core.reduce import Divisor, Reduction, reduce
from lossmith.core.spec import Law, Tune, objective
from lossmith.core.validate import check_choice, check_range
from lossmith.kernels.contrastive.groups import NOBODY, group_size
from lossmith.kernels.contrastive.triplets import (
    batch_all_cost,
    hardest,
    semi_hard_cost,
)
from lossmith.losses.retrieval.inputs import IN_BATCH, labelled, slope_of_rows

DISTANCES = ("euclidean", "squared_euclidean", "cosine")

MINED: dict[Law, str] = {
    "jumps": "another triplet is mined where two distances change places, at another cost",
    "monotone": "only the mined triplets are charged, and worse rows may hide the worst of them",
}


@objective(
    family="retrieval",
    module="BatchHardTriplet",
    inputs="embeddings+labels",
    unit="anchors with a positive and a negative",
    serves="accuracy of the nearest neighbours",
    limit="two rows of one label and one of another: triplet",
    tune={"margin": Tune(0.05, 4.0, log=True)},
    paper="Hermans, Beyer, Leibe 2017, In defense of the triplet loss for person re-identification",
    cost="n^2",
    exempt={**IN_BATCH, **MINED},
)
def batch_hard_triplet(
    embeddings: Tensor,
    labels: Tensor,
    *,
    margin: float = 1.0,
    distance: Distance = "euclidean",
    mask: Tensor | None = None,
    weight: Tensor | None = None,
    reduction: Reduction = "mean",
    divisor: Divisor | None = None,
) -> Tensor:
    """Keep the nearest other of each row farther away than its farthest companion, by a margin.

    Formula: ``max(0, max over p of D(a, p) - min over n of D(a, n) + m)`` with p the other rows of
    the label of a, n the rows of other labels and m = ``margin``.

    Use when a batch holds several rows of each label and most triplets are easy. Not where labels
    are noisy: the hardest pair is then the wrong label (``batch_all_triplet``).

    Shapes: embeddings ``(B, d)``; labels ``(B,)`` of an integer type; mask and weight ``(B,)``. A
    masked row is neither anchor nor candidate.

    Mean divides by: anchors with a positive and a negative; the others cost 0.

    Errors: shapes that do not fit, labels that are not whole numbers, a negative margin.

    >>> z = torch.tensor([[0.0], [1.0], [1.5]])
    >>> batch_hard_triplet(z, torch.tensor([4, 4, 7]))  # (1 - 1.5 + 1 + 1 - 0.5 + 1) / 2
    tensor(1.)

    Source: Hermans, Beyer, Leibe 2017, equation 5, which sums.
    """
    rows, group, valid = _anchors(embeddings, labels, mask, weight, margin, distance)
    positive, negative = hardest(rows, group)
    near = distance_between(rows, rows.index_select(0, positive), distance)
    far = distance_between(rows, rows.index_select(0, negative), distance)
    cost = F.relu(near - far + margin)
    return reduce(cost, valid=valid, weight=weight, reduction=reduction, divisor=divisor)


@objective(
    family="retrieval",
    module="BatchSemiHardTriplet",
    inputs="embeddings+labels",
    unit="pairs of an anchor and a positive",
    serves="accuracy of the nearest neighbours",
    limit="two rows of one label and one of another: triplet",
    tune={"margin": Tune(0.05, 4.0, log=True)},
    aliases=("FaceNet semi-hard loss",),
    paper="Schroff, Kalenichenko, Philbin 2015, FaceNet",
    cost="n^2",
    exempt={**IN_BATCH, **MINED},
)
def batch_semi_hard_triplet(
    embeddings: Tensor,
    labels: Tensor,
    *,
    margin: float = 1.0,
    distance: Distance = "euclidean",
    mask: Tensor | None = None,
    weight: Tensor | None = None,
    reduction: Reduction = "mean",
    divisor: Divisor | None = None,
) -> Tensor:
    """Push away, for each positive of each row, the nearest other that is not nearer than it.

    Formula: ``sum over p of max(0, D(a, p) - D(a, n) + m)`` with n the nearest row of another label
    with ``D(a, n) >= D(a, p)``, or the farthest one where none is that far; m = ``margin``.

    Use when the hardest negatives make training collapse at its start. Not when it has converged:
    what is left to learn is then nearer than the positive (``batch_hard_triplet``).

    Shapes: embeddings ``(B, d)``; labels ``(B,)`` of an integer type; mask and weight ``(B,)``. A
    masked row is neither anchor nor candidate. "none" holds a sum for each anchor.

    Mean divides by: pairs of an anchor (that has a negative) and a positive.

    Errors: shapes that do not fit, labels that are not whole numbers, a negative margin.

    Distances come of one matrix product: of points closer than some 1e-3 of their length they
    keep few digits in float32.

    >>> z = torch.tensor([[0.0], [1.0], [1.5]])
    >>> batch_semi_hard_triplet(z, torch.tensor([4, 4, 7]))  # (1 - 1.5 + 1 + 1 - 0.5 + 1) / 2
    tensor(1.)

    Source: Schroff, Kalenichenko, Philbin 2015, section 3.2.
    """
    rows, group, valid = _anchors(embeddings, labels, mask, weight, margin, distance)
    count = torch.where(valid, group_size(group) - 1, 0)
    hint = slope_of_rows(rows, valid, weight)
    cost = semi_hard_cost(_comparable(rows, distance), group, margin, _rooted(distance), hint)
    return reduce(
        cost, valid=valid, weight=weight, count=count, reduction=reduction, divisor=divisor
    )


@objective(
    family="retrieval",
    module="BatchAllTriplet",
    inputs="embeddings+labels",
    unit="triplets",
    serves="accuracy of the nearest neighbours",
    limit="two rows of one label and one of another: triplet",
    tune={"margin": Tune(0.05, 4.0, log=True)},
    paper="Hermans, Beyer, Leibe 2017, In defense of the triplet loss for person re-identification",
    cost="n^2",
    exempt=IN_BATCH,
)
def batch_all_triplet(
    embeddings: Tensor,
    labels: Tensor,
    *,
    margin: float = 1.0,
    distance: Distance = "euclidean",
    mask: Tensor | None = None,
    weight: Tensor | None = None,
    reduction: Reduction = "mean",
    divisor: Divisor | None = None,
) -> Tensor:
    """Keep every other of each row farther away than every companion, by a margin.

    Formula: ``sum over p, n of max(0, D(a, p) - D(a, n) + m)`` with p the other rows of the label
    of a, n the rows of other labels and m = ``margin``.

    Use when a batch holds several rows of each label. Not when nearly all triplets are satisfied:
    their zeros make the mean small (``batch_hard_triplet``).

    Shapes: embeddings ``(B, d)``; labels ``(B,)`` of an integer type; mask and weight ``(B,)``. A
    masked row is neither anchor nor candidate. "none" holds a sum for each anchor.

    Mean divides by: triplets, the satisfied ones included.

    Errors: shapes that do not fit, labels that are not whole numbers, a negative margin.

    Distances come of one matrix product: of points closer than some 1e-3 of their length they
    keep few digits in float32. No list of triplets is made: each negative is placed among the
    positives of its anchor, O(B^2 log P) for P positives.

    >>> z = torch.tensor([[0.0], [1.0], [1.5]])
    >>> batch_all_triplet(z, torch.tensor([4, 4, 7]))  # (1 - 1.5 + 1 + 1 - 0.5 + 1) / 2
    tensor(1.)

    Source: Hermans, Beyer, Leibe 2017, equation 6, which sums.
    """
    rows, group, valid = _anchors(embeddings, labels, mask, weight, margin, distance)
    size = group_size(group)
    count = torch.where(valid, (size - 1) * ((group != NOBODY).sum() - size), 0)
    hint = slope_of_rows(rows, valid, weight)
    cost = batch_all_cost(_comparable(rows, distance), group, margin, _rooted(distance), hint)
    return reduce(
        cost, valid=valid, weight=weight, count=count, reduction=reduction, divisor=divisor
    )


def _anchors(
    embeddings: Tensor,
    labels: Tensor,
    mask: Tensor | None,
    weight: Tensor | None,
    margin: float,
    distance: Distance,
) -> tuple[Tensor, Tensor, Tensor]:
    """Rows, their groups, and which rows have both a companion and another."""
    check_range("margin", margin, 0.0)
    check_choice("distance", distance, DISTANCES)
    rows, group = labelled(embeddings, labels, mask, weight, normalize=False)
    if distance == "cosine":
        rows = unit_vectors(rows)
    size = group_size(group)
    return rows, group, (size > 1) & (size < (group != NOBODY).sum())


def _comparable(rows: Tensor, distance: Distance) -> Tensor:
    """Rows whose squared euclidean distances are the ones asked for: 1 - cos = |u - v|^2 / 2."""
    return rows * 0.5**0.5 if distance == "cosine" else rows


def _rooted(distance: Distance) -> bool:
    return distance == "euclidean"
