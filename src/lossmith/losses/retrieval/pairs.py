"""Objectives for given pairs and given triplets of embeddings."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from lossmith.core.numerics import Distance, upcast
from lossmith.core.numerics import distance as distance_between
from lossmith.core.reduce import Divisor, Reduction, reduce
from lossmith.core.spec import Tune, objective
from lossmith.core.validate import (
    check_float,
    check_leading_shape,
    check_mask,
    check_range,
    check_same_shape,
    check_values,
)
from lossmith.losses.retrieval.inputs import real_rows


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
    x1, x2 = real_rows(mask, *upcast(x1, x2))
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
    anchor, positive, negative = real_rows(mask, *upcast(anchor, positive, negative))
    near = distance_between(anchor, positive, distance)
    far = distance_between(anchor, negative, distance)
    cost = F.relu(near - far + margin)
    return reduce(cost, valid=mask, weight=weight, reduction=reduction, divisor=divisor)
