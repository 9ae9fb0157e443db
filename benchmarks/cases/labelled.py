"""Objectives over the similarities of labelled rows: time against their products, and memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.case import Case, Contender, Inputs, Size
from benchmarks.in_batch import (
    LINEAR,
    against,
    ours,
    peer,
    products,
    sentence_transformers,
    sizes,
    step,
    vectors,
)


def _labelled(size: Size) -> Inputs:
    """Unit vectors, four of each label in no order."""
    batch, d = size["B"], size["d"]
    order = torch.randperm(batch, generator=torch.Generator().manual_seed(5))
    labels = (torch.arange(batch) // 4)[order]
    centres = vectors(batch // 4 + 1, d, 6)[labels]
    rows = F.normalize(centres + vectors(batch, d, 7), dim=1)
    return {"rows": rows.requires_grad_(), "labels": labels}


def _row_step(loss: Callable[[Inputs], Tensor]) -> Callable[[Inputs], Tensor]:
    return step(loss, "rows")


def _row_floor(inputs: Inputs) -> None:
    rows = inputs["rows"].detach()
    products(rows, rows, both=False)


def _naive_sup_con(inputs: Inputs) -> Tensor:
    rows, labels = F.normalize(inputs["rows"], dim=1), inputs["labels"]
    scores = (rows @ rows.T / 0.1).fill_diagonal_(-torch.inf)
    same = (labels.unsqueeze(1) == labels).fill_diagonal_(False)
    logs = scores.log_softmax(dim=1).masked_fill(~same, 0.0)
    return -(logs.sum(dim=1) / same.sum(dim=1)).mean()


def _metric_learning(
    name: str, miner: str | None = None, **knobs: Any
) -> Callable[[Inputs], Tensor]:
    def loss(inputs: Inputs) -> Tensor:
        from pytorch_metric_learning import losses, miners

        made = getattr(losses, name)(**knobs)
        mined = (
            None if miner is None else getattr(miners, miner)()(inputs["rows"], inputs["labels"])
        )
        value: Tensor = made(inputs["rows"], inputs["labels"], mined)
        return value

    return loss


def _labelled_case(
    name: str, target: str, contenders: dict[str, Contender], **at_most: float
) -> Case:
    return Case(
        name=name,
        target=target,
        inputs=_labelled,
        contenders=contenders,
        sizes=sizes(1024, 4096, 8192),
        quick=sizes(2048),
        floor=_row_floor,
        at_most={**at_most, "memory @ B=8192": LINEAR},
    )


CASES = (
    _labelled_case(
        "sup_con",
        "at most 1.5 x the matrix products",
        {
            "lossmith": Contender(_row_step(ours("sup_con"))),
            **against(_naive_sup_con, _row_step),
            "pytorch-metric-learning": peer(
                "pml", _metric_learning("SupConLoss", temperature=0.1), _row_step
            ),
        },
        floor=1.5,
    ),
    _labelled_case(
        "multi_similarity",
        "at most 1.5 x the matrix products",
        {
            "lossmith": Contender(_row_step(ours("multi_similarity"))),
            "pytorch-metric-learning": peer(
                "pml", _metric_learning("MultiSimilarityLoss", "MultiSimilarityMiner"), _row_step
            ),
        },
        floor=1.5,
    ),
    _labelled_case(
        "circle",
        "at most 1.5 x the matrix products",
        {
            "lossmith": Contender(_row_step(ours("circle"))),
            "pytorch-metric-learning": peer("pml", _metric_learning("CircleLoss"), _row_step),
        },
        floor=1.5,
    ),
    _labelled_case(
        "batch_all_triplet",
        "at least 10 x faster than the peers",
        {
            "lossmith": Contender(_row_step(ours("batch_all_triplet", margin=0.05))),
            "pytorch-metric-learning": peer(
                "pml", _metric_learning("TripletMarginLoss", margin=0.05), _row_step
            ),
            "sentence-transformers": peer(
                "sentence-transformers",
                sentence_transformers("BatchAllTripletLoss", margin=0.05),
                _row_step,
            ),
        },
        **{"pytorch-metric-learning": 0.1, "sentence-transformers": 0.1},
    ),
    _labelled_case(
        "batch_hard_triplet",
        "at most 2 x the matrix products",
        {
            "lossmith": Contender(_row_step(ours("batch_hard_triplet", margin=0.05))),
            "pytorch-metric-learning": peer(
                "pml",
                _metric_learning("TripletMarginLoss", "BatchHardMiner", margin=0.05),
                _row_step,
            ),
            "sentence-transformers": peer(
                "sentence-transformers",
                sentence_transformers("BatchHardTripletLoss", margin=0.05),
                _row_step,
            ),
        },
        floor=2.0,
    ),
    _labelled_case(
        "batch_semi_hard_triplet",
        "at most 2 x the matrix products",
        {
            "lossmith": Contender(_row_step(ours("batch_semi_hard_triplet", margin=0.05))),
            "sentence-transformers": peer(
                "sentence-transformers",
                sentence_transformers("BatchSemiHardTripletLoss", margin=0.05),
                _row_step,
            ),
        },
        floor=2.0,
    ),
)
