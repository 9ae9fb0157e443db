"""Objectives over the similarities of a batch: time against their matrix products, and memory.

Every contender does one forward and one backward pass. A floor is the products that must be done,
by blocks of rows, and nothing else: 6 B^2 d flops for two sets of vectors, 4 B^2 d for one, whose
similarities are symmetric.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.case import Case, Contender, Inputs, Size

TEMPERATURE = 0.05
BLOCK = 512
ONE_GB = 1024.0


def _fits(most: int) -> Callable[[Size], bool]:
    return lambda size: size["B"] <= most


def _sizes(*batches: int, d: int = 256) -> tuple[Size, ...]:
    return tuple({"B": batch, "d": d} for batch in batches)


def _vectors(batch: int, d: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return F.normalize(torch.randn(batch, d, generator=generator), dim=1)


def _pairs(size: Size) -> Inputs:
    """Unit vectors, a positive near each query, and what may be known of a batch."""
    batch, d = size["B"], size["d"]
    generator = torch.Generator().manual_seed(2)
    queries = _vectors(batch, d, 0)
    positives = F.normalize(queries + _vectors(batch, d, 1), dim=1)
    return {
        "queries": queries.requires_grad_(),
        "positives": positives.requires_grad_(),
        "ids": torch.randint(batch, (batch,), generator=generator),
        "log_q": -10.0 * torch.rand(batch, generator=generator),
        "weight": torch.rand(batch, generator=generator),
        "teacher": _vectors(batch, d, 3),
        "teacher_positives": F.normalize(_vectors(batch, d, 3) + _vectors(batch, d, 4), dim=1),
    }


def _labelled(size: Size) -> Inputs:
    """Unit vectors, four of each label in no order."""
    batch, d = size["B"], size["d"]
    order = torch.randperm(batch, generator=torch.Generator().manual_seed(5))
    labels = (torch.arange(batch) // 4)[order]
    centres = _vectors(batch // 4 + 1, d, 6)[labels]
    rows = F.normalize(centres + _vectors(batch, d, 7), dim=1)
    return {"rows": rows.requires_grad_(), "labels": labels}


def _step(loss: Callable[[Inputs], Tensor], *names: str) -> Callable[[Inputs], Tensor]:
    """A forward and a backward pass, with the gradients let go at once."""

    def run(inputs: Inputs) -> Tensor:
        value = loss(inputs)
        torch.autograd.grad(value, [inputs[name] for name in names])
        return value.detach()

    return run


def _pair_step(loss: Callable[[Inputs], Tensor]) -> Callable[[Inputs], Tensor]:
    return _step(loss, "queries", "positives")


def _row_step(loss: Callable[[Inputs], Tensor]) -> Callable[[Inputs], Tensor]:
    return _step(loss, "rows")


# ------------------------------------------------------------------------------------- floors


def _products(left: Tensor, right: Tensor, both: bool) -> None:
    """S, then dQ = G K, and with ``both`` dK = G^T Q."""
    space = left.new_empty(min(BLOCK, len(left)), len(right))
    first, second = torch.empty_like(left), torch.zeros_like(right)
    for start in range(0, len(left), BLOCK):
        rows = left[start : start + BLOCK]
        block = torch.mm(rows, right.T, out=space[: len(rows)])
        torch.mm(block, right, out=first[start : start + BLOCK])
        if both:
            second.addmm_(block.T, rows)


def _pair_floor(inputs: Inputs) -> None:
    _products(inputs["queries"].detach(), inputs["positives"].detach(), both=True)


def _teacher_floor(inputs: Inputs) -> None:
    """The teacher's product comes to those of the pairs."""
    _pair_floor(inputs)
    teacher, other = inputs["teacher"], inputs["teacher_positives"]
    space = teacher.new_empty(min(BLOCK, len(teacher)), len(other))
    for start in range(0, len(teacher), BLOCK):
        rows = teacher[start : start + BLOCK]
        torch.mm(rows, other.T, out=space[: len(rows)])


def _views_floor(inputs: Inputs) -> None:
    views = torch.cat([inputs["queries"], inputs["positives"]]).detach()
    _products(views, views, both=False)


def _row_floor(inputs: Inputs) -> None:
    rows = inputs["rows"].detach()
    _products(rows, rows, both=False)


# --------------------------------------------------------------------------------------- ours


def _ours(name: str, **knobs: Any) -> Callable[[Inputs], Tensor]:
    def loss(inputs: Inputs) -> Tensor:
        import lossmith as lm

        if "rows" in inputs:
            value: Tensor = getattr(lm, name)(inputs["rows"], inputs["labels"], **knobs)
            return value
        value = getattr(lm, name)(inputs["queries"], inputs["positives"], **knobs)
        return value

    return loss


def _ours_with_structure(inputs: Inputs) -> Tensor:
    import lossmith as lm

    return lm.info_nce(
        inputs["queries"],
        inputs["positives"],
        temperature=TEMPERATURE,
        ids=inputs["ids"],
        log_q=inputs["log_q"],
        weight=inputs["weight"],
    )


def _ours_with_teacher(inputs: Inputs) -> Tensor:
    import lossmith as lm

    guide = (inputs["teacher"], inputs["teacher_positives"])
    return lm.info_nce(inputs["queries"], inputs["positives"], temperature=TEMPERATURE, guide=guide)


# ------------------------------------------------------------------------------------- naive


def _targets(rows: Tensor) -> Tensor:
    return torch.arange(len(rows), device=rows.device)


def _naive_info_nce(inputs: Inputs) -> Tensor:
    queries, positives = (F.normalize(inputs[n], dim=1) for n in ("queries", "positives"))
    return F.cross_entropy(queries @ positives.T / TEMPERATURE, _targets(queries))


def _naive_symmetric(inputs: Inputs) -> Tensor:
    queries, positives = (F.normalize(inputs[n], dim=1) for n in ("queries", "positives"))
    scores, target = queries @ positives.T / TEMPERATURE, _targets(queries)
    return 0.5 * (F.cross_entropy(scores, target) + F.cross_entropy(scores.T, target))


def _naive_structured(inputs: Inputs) -> Tensor:
    queries, positives = (F.normalize(inputs[n], dim=1) for n in ("queries", "positives"))
    scores = queries @ positives.T / TEMPERATURE - inputs["log_q"]
    copy = inputs["ids"].unsqueeze(1) == inputs["ids"]
    copy.fill_diagonal_(False)
    scores = scores.masked_fill(copy, -torch.inf)
    cost = F.cross_entropy(scores, _targets(queries), reduction="none")
    return (cost * inputs["weight"]).mean()


def _naive_teacher(inputs: Inputs) -> Tensor:
    queries, positives = (F.normalize(inputs[n], dim=1) for n in ("queries", "positives"))
    teacher = inputs["teacher"] @ inputs["teacher_positives"].T
    out = teacher > teacher.diagonal().unsqueeze(1)
    scores = (queries @ positives.T / TEMPERATURE).masked_fill(out, -torch.inf)
    return F.cross_entropy(scores, _targets(queries))


def _naive_nt_xent(inputs: Inputs) -> Tensor:
    views = torch.cat([F.normalize(inputs[n], dim=1) for n in ("queries", "positives")])
    scores = (views @ views.T / TEMPERATURE).fill_diagonal_(-torch.inf)
    return F.cross_entropy(scores, _targets(views).roll(len(views) // 2))


def _naive_siglip(inputs: Inputs) -> Tensor:
    queries, positives = (F.normalize(inputs[n], dim=1) for n in ("queries", "positives"))
    logits = 10.0 * queries @ positives.T - 10.0
    signs = 2.0 * torch.eye(len(logits)) - 1.0
    return -F.logsigmoid(signs * logits).sum() / len(logits)


def _naive_sup_con(inputs: Inputs) -> Tensor:
    rows, labels = F.normalize(inputs["rows"], dim=1), inputs["labels"]
    scores = (rows @ rows.T / 0.1).fill_diagonal_(-torch.inf)
    same = (labels.unsqueeze(1) == labels).fill_diagonal_(False)
    logs = scores.log_softmax(dim=1).masked_fill(~same, 0.0)
    return -(logs.sum(dim=1) / same.sum(dim=1)).mean()


def _linear_cross_entropy(inputs: Inputs) -> Tensor:
    queries, positives = (F.normalize(inputs[n], dim=1) for n in ("queries", "positives"))
    options = torch.nn.LinearCrossEntropyOptions()
    value: Tensor = F.linear_cross_entropy(
        queries / TEMPERATURE, positives, _targets(queries), options=options
    )
    return value


_compiled: dict[Callable[[Inputs], Tensor], Callable[[Inputs], Tensor]] = {}


def _compiled_form(loss: Callable[[Inputs], Tensor]) -> Callable[[Inputs], Tensor]:
    def run(inputs: Inputs) -> Tensor:
        if loss not in _compiled:
            _compiled[loss] = torch.compile(loss)
        return _compiled[loss](inputs)

    return run


def _against(
    naive: Callable[[Inputs], Tensor], step: Callable[..., Any], most: int = 8192
) -> dict[str, Contender]:
    """The textbook form, eagerly and compiled."""
    return {
        "torch": Contender(step(naive), fits=_fits(most)),
        "torch.compile": Contender(step(_compiled_form(naive)), fits=_fits(most)),
    }


# --------------------------------------------------------------------------------------- peers


def _sentence_transformers(name: str, **knobs: Any) -> Callable[[Inputs], Tensor]:
    def loss(inputs: Inputs) -> Tensor:
        from sentence_transformers import losses

        made = getattr(losses, name)(model=None, **knobs)
        if "rows" in inputs:
            value: Tensor = made.compute_loss_from_embeddings([inputs["rows"]], inputs["labels"])
            return value
        value = made.compute_loss_from_embeddings([inputs["queries"], inputs["positives"]], None)
        return value

    return loss


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


def _open_clip(name: str) -> Callable[[Inputs], Tensor]:
    def loss(inputs: Inputs) -> Tensor:
        import open_clip.loss

        made = getattr(open_clip.loss, name)()
        if name == "SigLipLoss":
            scale, bias = torch.tensor(10.0), torch.tensor(-10.0)
            value: Tensor = made(inputs["queries"], inputs["positives"], scale, bias)
            return value
        value = made(inputs["queries"], inputs["positives"], torch.tensor(1 / TEMPERATURE))
        return value

    return loss


def _lightly_nt_xent(inputs: Inputs) -> Tensor:
    from lightly.loss import NTXentLoss

    value: Tensor = NTXentLoss(temperature=TEMPERATURE)(inputs["queries"], inputs["positives"])
    return value


def _peer(
    environment: str, loss: Callable[[Inputs], Tensor], step: Callable[..., Any], most: int = 8192
) -> Contender:
    return Contender(step(loss), environment=environment, fits=_fits(most))


def _labelled_case(
    name: str, target: str, contenders: dict[str, Contender], **at_most: float
) -> Case:
    return Case(
        name=name,
        target=target,
        inputs=_labelled,
        contenders=contenders,
        sizes=_sizes(1024, 4096, 8192),
        quick=_sizes(1024, 2048),
        floor=_row_floor,
        at_most=at_most,
    )


CASES = (
    Case(
        name="info_nce",
        target="at most 1.1 x its matrix products, B = 65,536 under 1 GB",
        inputs=_pairs,
        contenders={
            "lossmith": Contender(_pair_step(_ours("info_nce", temperature=TEMPERATURE))),
            **_against(_naive_info_nce, _pair_step, most=16384),
            "torch linear_cross_entropy": Contender(
                _pair_step(_linear_cross_entropy), fits=_fits(32768)
            ),
            "sentence-transformers": _peer(
                "sentence-transformers",
                _sentence_transformers("MultipleNegativesRankingLoss"),
                _pair_step,
                most=16384,
            ),
        },
        sizes=_sizes(1024, 2048, 4096, 8192, 16384, 32768, 65536),
        quick=_sizes(1024, 2048, 4096),
        floor=_pair_floor,
        at_most={"floor": 1.1, "memory": ONE_GB},
    ),
    Case(
        name="info_nce, structured",
        target="ids, logQ and weights at most 1.25 x the matrix products",
        inputs=_pairs,
        contenders={
            "lossmith": Contender(_pair_step(_ours_with_structure)),
            **_against(_naive_structured, _pair_step),
        },
        sizes=_sizes(1024, 4096, 8192, 16384),
        quick=_sizes(1024, 2048),
        floor=_pair_floor,
        at_most={"floor": 1.25},
    ),
    Case(
        name="info_nce, guided by a teacher",
        target="inside the pass over blocks, where the peer holds B x B x d numbers",
        inputs=_pairs,
        contenders={
            "lossmith": Contender(_pair_step(_ours_with_teacher)),
            **_against(_naive_teacher, _pair_step),
        },
        sizes=_sizes(1024, 4096, 8192),
        quick=_sizes(1024, 2048),
        floor=_teacher_floor,
        at_most={"floor": 1.5},
    ),
    Case(
        name="info_nce, symmetric",
        target="one similarity block serves both directions, at most 1.5 x the matrix products",
        inputs=_pairs,
        contenders={
            "lossmith": Contender(
                _pair_step(_ours("info_nce", temperature=TEMPERATURE, symmetric=True))
            ),
            **_against(_naive_symmetric, _pair_step),
            "open_clip": _peer("open_clip", _open_clip("ClipLoss"), _pair_step),
        },
        sizes=_sizes(1024, 4096, 8192),
        quick=_sizes(1024, 2048),
        floor=_pair_floor,
        at_most={"floor": 1.5},
    ),
    Case(
        name="nt_xent",
        target="the upper triangle alone, at most 1.5 x the matrix products of its 2B views",
        inputs=_pairs,
        contenders={
            "lossmith": Contender(_pair_step(_ours("nt_xent", temperature=TEMPERATURE))),
            **_against(_naive_nt_xent, _pair_step, most=4096),
            "lightly": _peer("lightly", _lightly_nt_xent, _pair_step, most=4096),
        },
        sizes=_sizes(1024, 4096, 8192),
        quick=_sizes(1024, 2048),
        floor=_views_floor,
        at_most={"floor": 1.5},
    ),
    Case(
        name="sigmoid_contrastive",
        target="at most 1.5 x the matrix products",
        inputs=_pairs,
        contenders={
            "lossmith": Contender(_pair_step(_ours("sigmoid_contrastive"))),
            **_against(_naive_siglip, _pair_step),
            "open_clip": _peer("open_clip", _open_clip("SigLipLoss"), _pair_step),
        },
        sizes=_sizes(1024, 4096, 8192),
        quick=_sizes(1024, 2048),
        floor=_pair_floor,
        at_most={"floor": 1.5},
    ),
    _labelled_case(
        "sup_con",
        "at most 1.5 x the matrix products",
        {
            "lossmith": Contender(_row_step(_ours("sup_con"))),
            **_against(_naive_sup_con, _row_step),
            "pytorch-metric-learning": _peer(
                "pml", _metric_learning("SupConLoss", temperature=0.1), _row_step
            ),
        },
        floor=1.5,
    ),
    _labelled_case(
        "multi_similarity",
        "at most 1.5 x the matrix products",
        {
            "lossmith": Contender(_row_step(_ours("multi_similarity"))),
            "pytorch-metric-learning": _peer(
                "pml", _metric_learning("MultiSimilarityLoss", "MultiSimilarityMiner"), _row_step
            ),
        },
        floor=1.5,
    ),
    _labelled_case(
        "circle",
        "at most 1.5 x the matrix products",
        {
            "lossmith": Contender(_row_step(_ours("circle"))),
            "pytorch-metric-learning": _peer("pml", _metric_learning("CircleLoss"), _row_step),
        },
        floor=1.5,
    ),
    _labelled_case(
        "batch_all_triplet",
        "at least 10 x faster than the peers",
        {
            "lossmith": Contender(_row_step(_ours("batch_all_triplet", margin=0.05))),
            "pytorch-metric-learning": _peer(
                "pml", _metric_learning("TripletMarginLoss", margin=0.05), _row_step, most=4096
            ),
            "sentence-transformers": _peer(
                "sentence-transformers",
                _sentence_transformers("BatchAllTripletLoss", margin=0.05),
                _row_step,
            ),
        },
        **{"pytorch-metric-learning": 0.1, "sentence-transformers": 0.1},
    ),
    _labelled_case(
        "batch_hard_triplet",
        "at most 2 x the matrix products",
        {
            "lossmith": Contender(_row_step(_ours("batch_hard_triplet", margin=0.05))),
            "pytorch-metric-learning": _peer(
                "pml",
                _metric_learning("TripletMarginLoss", "BatchHardMiner", margin=0.05),
                _row_step,
            ),
            "sentence-transformers": _peer(
                "sentence-transformers",
                _sentence_transformers("BatchHardTripletLoss", margin=0.05),
                _row_step,
            ),
        },
        floor=2.0,
    ),
    _labelled_case(
        "batch_semi_hard_triplet",
        "at most 2 x the matrix products",
        {
            "lossmith": Contender(_row_step(_ours("batch_semi_hard_triplet", margin=0.05))),
            "sentence-transformers": _peer(
                "sentence-transformers",
                _sentence_transformers("BatchSemiHardTripletLoss", margin=0.05),
                _row_step,
            ),
        },
        floor=2.0,
    ),
)
