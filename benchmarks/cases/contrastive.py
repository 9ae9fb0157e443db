"""Objectives over the similarities of pairs in a batch: time against their products, and memory."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.case import Case, Contender, Inputs, Size
from benchmarks.in_batch import (
    BLOCK,
    LINEAR,
    ONE_GB,
    TEMPERATURE,
    against,
    fits,
    ours,
    peer,
    products,
    sentence_transformers,
    sizes,
    step,
    targets,
    vectors,
)

PREFIXES = (32, 64, 128, 256)
SEVERAL = "lossmith, several positives"
RAGGED = "lossmith, ragged negatives and a learnable scale"


def _pairs(size: Size) -> Inputs:
    """Unit vectors, a positive near each query, and what may be known of a batch."""
    batch, d = size["B"], size["d"]
    generator = torch.Generator().manual_seed(2)
    queries = vectors(batch, d, 0)
    positives = F.normalize(queries + vectors(batch, d, 1), dim=1)
    return {
        "queries": queries.requires_grad_(),
        "positives": positives.requires_grad_(),
        "ids": torch.randint(batch, (batch,), generator=generator),
        "log_q": -10.0 * torch.rand(batch, generator=generator),
        "weight": torch.rand(batch, generator=generator),
        "teacher": vectors(batch, d, 3),
        "teacher_positives": F.normalize(vectors(batch, d, 3) + vectors(batch, d, 4), dim=1),
    }


def _structured_pairs(size: Size) -> Inputs:
    """Pairs with hard negatives; some of these and some rows are masked."""
    made, batch = _pairs(size), size["B"]
    generator = torch.Generator().manual_seed(8)
    negatives = torch.randn(batch, 4, size["d"], generator=generator)
    return {
        **made,
        "negatives": F.normalize(negatives, dim=-1).requires_grad_(),
        "negatives_mask": torch.rand(batch, 4, generator=generator) < 0.5,
        "mask": torch.rand(batch, generator=generator) < 0.95,
        "temperature": torch.tensor(TEMPERATURE, requires_grad=True),
    }


def _pair_step(loss: Callable[[Inputs], Tensor]) -> Callable[[Inputs], Tensor]:
    return step(loss, "queries", "positives")


def _pair_floor(inputs: Inputs) -> None:
    products(inputs["queries"].detach(), inputs["positives"].detach(), both=True)


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
    products(views, views, both=False)


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


def _ours_with_copies(inputs: Inputs) -> Tensor:
    """Several right answers: copies of an item are right as well."""
    import lossmith as lm

    return lm.info_nce(
        inputs["queries"],
        inputs["positives"],
        temperature=TEMPERATURE,
        ids=inputs["ids"],
        same_id="positive",
        log_q=inputs["log_q"],
    )


def _ours_with_negatives(inputs: Inputs) -> Tensor:
    """Up to four hard negatives for each query, masked rows, and a scale that learns."""
    import lossmith as lm

    return lm.info_nce(
        inputs["queries"],
        inputs["positives"],
        inputs["negatives"],
        temperature=inputs["temperature"],
        negatives_mask=inputs["negatives_mask"],
        mask=inputs["mask"],
        weight=inputs["weight"],
    )


def _ours_with_teacher(inputs: Inputs) -> Tensor:
    import lossmith as lm

    guide = (inputs["teacher"], inputs["teacher_positives"])
    return lm.info_nce(inputs["queries"], inputs["positives"], temperature=TEMPERATURE, guide=guide)


def _naive_info_nce(inputs: Inputs) -> Tensor:
    queries, positives = (F.normalize(inputs[n], dim=1) for n in ("queries", "positives"))
    return F.cross_entropy(queries @ positives.T / TEMPERATURE, targets(queries))


def _naive_symmetric(inputs: Inputs) -> Tensor:
    queries, positives = (F.normalize(inputs[n], dim=1) for n in ("queries", "positives"))
    scores, target = queries @ positives.T / TEMPERATURE, targets(queries)
    return 0.5 * (F.cross_entropy(scores, target) + F.cross_entropy(scores.T, target))


def _naive_structured(inputs: Inputs) -> Tensor:
    queries, positives = (F.normalize(inputs[n], dim=1) for n in ("queries", "positives"))
    scores = queries @ positives.T / TEMPERATURE - inputs["log_q"]
    copy = inputs["ids"].unsqueeze(1) == inputs["ids"]
    copy.fill_diagonal_(False)
    scores = scores.masked_fill(copy, -torch.inf)
    cost = F.cross_entropy(scores, targets(queries), reduction="none")
    return (cost * inputs["weight"]).mean()


def _naive_teacher(inputs: Inputs) -> Tensor:
    queries, positives = (F.normalize(inputs[n], dim=1) for n in ("queries", "positives"))
    teacher = inputs["teacher"] @ inputs["teacher_positives"].T
    out = teacher > teacher.diagonal().unsqueeze(1)
    scores = (queries @ positives.T / TEMPERATURE).masked_fill(out, -torch.inf)
    return F.cross_entropy(scores, targets(queries))


def _naive_matryoshka(inputs: Inputs) -> Tensor:
    values = []
    for end in PREFIXES:
        cut = {name: inputs[name][:, :end] for name in ("queries", "positives")}
        values.append(_naive_info_nce(cut))
    return torch.stack(values).mean()


def _ours_prefix_by_prefix(inputs: Inputs) -> Tensor:
    import lossmith as lm

    values = [
        lm.info_nce(
            inputs["queries"][:, :end], inputs["positives"][:, :end], temperature=TEMPERATURE
        )
        for end in PREFIXES
    ]
    return torch.stack(values).mean()


def _naive_nt_xent(inputs: Inputs) -> Tensor:
    views = torch.cat([F.normalize(inputs[n], dim=1) for n in ("queries", "positives")])
    scores = (views @ views.T / TEMPERATURE).fill_diagonal_(-torch.inf)
    return F.cross_entropy(scores, targets(views).roll(len(views) // 2))


def _naive_siglip(inputs: Inputs) -> Tensor:
    queries, positives = (F.normalize(inputs[n], dim=1) for n in ("queries", "positives"))
    logits = 10.0 * queries @ positives.T - 10.0
    signs = 2.0 * torch.eye(len(logits)) - 1.0
    return -F.logsigmoid(signs * logits).sum() / len(logits)


def _linear_cross_entropy(inputs: Inputs) -> Tensor:
    queries, positives = (F.normalize(inputs[n], dim=1) for n in ("queries", "positives"))
    options = torch.nn.LinearCrossEntropyOptions()
    value: Tensor = F.linear_cross_entropy(
        queries / TEMPERATURE, positives, targets(queries), options=options
    )
    return value


class _Given(torch.nn.Module):
    """Stands for an encoder: its texts are embeddings already."""

    def forward(self, features: dict[str, Tensor]) -> dict[str, Tensor]:
        return {"sentence_embedding": features["vectors"]}


class _Guide(_Given):
    """Stands for the guiding encoder."""

    def forward(self, features: dict[str, Tensor]) -> dict[str, Tensor]:
        return {"sentence_embedding": features["teacher"]}


def _sentence_transformers_gist(inputs: Inputs) -> Tensor:
    """The loss alone: its constructor asks for tokenizers, which embeddings have no need of."""
    from sentence_transformers.sentence_transformer.losses import GISTEmbedLoss

    loss = GISTEmbedLoss.__new__(GISTEmbedLoss)
    torch.nn.Module.__init__(loss)
    loss.model, loss.guide, loss.temperature = _Given(), _Guide(), TEMPERATURE
    loss.similarity_fct = torch.nn.CosineSimilarity(dim=-1)
    loss.cross_entropy_loss = torch.nn.CrossEntropyLoss()
    loss.must_retokenize = loss.gather_across_devices = False
    loss.contrast_anchors = loss.contrast_positives = False
    loss.margin_strategy, loss.margin = "absolute", 0.0
    columns = [("queries", "teacher"), ("positives", "teacher_positives")]
    features = [{"vectors": inputs[own], "teacher": inputs[guide]} for own, guide in columns]
    value: Tensor = loss(features, torch.empty(0))
    return value


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


CASES = (
    Case(
        name="info_nce",
        target="at most 1.1 x its matrix products, B = 65,536 under 1 GB",
        inputs=_pairs,
        contenders={
            "lossmith": Contender(_pair_step(ours("info_nce", temperature=TEMPERATURE))),
            **against(_naive_info_nce, _pair_step, most=16384),
            "torch linear_cross_entropy": Contender(
                _pair_step(_linear_cross_entropy), fits=fits(32768)
            ),
            "sentence-transformers": peer(
                "sentence-transformers",
                sentence_transformers("MultipleNegativesRankingLoss"),
                _pair_step,
                most=16384,
            ),
        },
        sizes=sizes(1024, 2048, 4096, 8192, 16384, 32768, 65536),
        quick=sizes(2048),
        floor=_pair_floor,
        at_most={"floor": 1.1, "memory": ONE_GB},
    ),
    Case(
        name="info_nce, structured",
        target="ids, masks, several positives, ragged hard negatives, logQ, weights, a learnable "
        "scale: at most 1.25 x the matrix products",
        inputs=_structured_pairs,
        contenders={
            "lossmith": Contender(_pair_step(_ours_with_structure)),
            SEVERAL: Contender(_pair_step(_ours_with_copies)),
            RAGGED: Contender(
                step(_ours_with_negatives, "queries", "positives", "negatives", "temperature")
            ),
            **against(_naive_structured, _pair_step),
        },
        sizes=sizes(1024, 4096, 8192, 16384),
        quick=sizes(2048),
        floor=_pair_floor,
        at_most={
            "floor": 1.25,
            f"{SEVERAL} / floor": 1.25,
            f"{RAGGED} / floor": 1.25,
            "memory @ B=8192": LINEAR,
        },
    ),
    Case(
        name="info_nce, guided by a teacher",
        target="inside the pass over blocks, where the peer holds B x B x d numbers",
        inputs=_pairs,
        contenders={
            "lossmith": Contender(_pair_step(_ours_with_teacher)),
            **against(_naive_teacher, _pair_step),
            "sentence-transformers": peer(
                "sentence-transformers", _sentence_transformers_gist, _pair_step, most=1024
            ),
        },
        sizes=sizes(1024, 4096, 8192),
        quick=sizes(2048),
        floor=_teacher_floor,
        at_most={"floor": 1.5, "sentence-transformers @ B=1024": 0.1, "memory @ B=8192": LINEAR},
    ),
    Case(
        name="info_nce, symmetric",
        target="one similarity block serves both directions, at most 1.5 x the matrix products",
        inputs=_pairs,
        contenders={
            "lossmith": Contender(
                _pair_step(ours("info_nce", temperature=TEMPERATURE, symmetric=True))
            ),
            **against(_naive_symmetric, _pair_step),
            "open_clip": peer("open_clip", _open_clip("ClipLoss"), _pair_step),
        },
        sizes=sizes(1024, 4096, 8192),
        quick=sizes(2048),
        floor=_pair_floor,
        at_most={"floor": 1.5, "memory @ B=8192": LINEAR},
    ),
    Case(
        name="matryoshka_info_nce",
        target="prefixes of 32, 64, 128 and 256: the matrix products of the longest, once",
        inputs=_pairs,
        contenders={
            "lossmith": Contender(
                _pair_step(ours("matryoshka_info_nce", temperature=TEMPERATURE, prefixes=PREFIXES))
            ),
            "lossmith prefix by prefix": Contender(_pair_step(_ours_prefix_by_prefix)),
            **against(_naive_matryoshka, _pair_step),
        },
        sizes=sizes(1024, 4096, 8192),
        quick=sizes(2048),
        floor=_pair_floor,
        at_most={"floor": 1.5, "lossmith prefix by prefix": 1.0, "memory @ B=8192": LINEAR},
    ),
    Case(
        name="nt_xent",
        target="the upper triangle alone, at most 1.5 x the matrix products of its 2B views",
        inputs=_pairs,
        contenders={
            "lossmith": Contender(_pair_step(ours("nt_xent", temperature=TEMPERATURE))),
            **against(_naive_nt_xent, _pair_step, most=4096),
            "lightly": peer("lightly", _lightly_nt_xent, _pair_step, most=4096),
        },
        sizes=sizes(1024, 4096, 8192),
        quick=sizes(2048),
        floor=_views_floor,
        at_most={"floor": 1.5, "memory @ B=8192": LINEAR},
    ),
    Case(
        name="sigmoid_contrastive",
        target="at most 1.5 x the matrix products",
        inputs=_pairs,
        contenders={
            "lossmith": Contender(_pair_step(ours("sigmoid_contrastive"))),
            **against(_naive_siglip, _pair_step),
            "open_clip": peer("open_clip", _open_clip("SigLipLoss"), _pair_step),
        },
        sizes=sizes(1024, 4096, 8192),
        quick=sizes(2048),
        floor=_pair_floor,
        at_most={"floor": 1.5, "memory @ B=8192": LINEAR},
    ),
)
