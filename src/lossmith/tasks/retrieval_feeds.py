"""How each kind of loss is fed with the vectors of a batch of queries and documents."""

from __future__ import annotations

import torch
from torch import Tensor

from lossmith.core.module import Objective
from lossmith.tasks.relevant import Batch
from lossmith.tasks.towers import TwoTowers


def _pairs(model: TwoTowers, batch: Batch, objective: Objective) -> Tensor:
    """Each query with its document; the documents of the other pairs are the negatives.

    What is relevant as well is kept out of them: as a pair to ignore where the objective can be
    told, else by leaving out the later of two rows.
    """
    queries, positives = model.queries(batch.queries), model.documents(batch.positives)
    takes, more = objective.spec.parameters, {}
    if objective.given.get("same_id") == "positive":
        more["ids"] = batch.documents
        more["mask"] = batch.first_of_each(batch.known & ~batch.copies)
    elif "ignore_pairs" in takes:
        more["ignore_pairs"] = batch.known.nonzero()
    else:
        more["mask"] = batch.first_of_each(batch.known)
    if "negatives" in takes and batch.negatives.shape[1]:
        more["negatives"] = model.documents(batch.negatives)
        more["negatives_mask"] = batch.there
    value: Tensor = objective(queries, positives, **more)
    return value


def _views(model: TwoTowers, batch: Batch, objective: Objective) -> Tensor:
    """Query and document as two views of one thing."""
    queries, positives = model.queries(batch.queries), model.documents(batch.positives)
    value: Tensor = objective(queries, positives, mask=batch.first_of_each(batch.known))
    return value


def _labelled(model: TwoTowers, batch: Batch, objective: Objective) -> Tensor:
    """A query and its document have a label of their own."""
    vectors = torch.cat([model.queries(batch.queries), model.documents(batch.positives)])
    labels = torch.arange(len(vectors) // 2, device=vectors.device).repeat(2)
    mask = batch.first_of_each(batch.known).repeat(2)
    value: Tensor = objective(vectors, labels, mask=mask)
    return value


def _compared(model: TwoTowers, batch: Batch) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Queries and documents ``[B, d]``, negatives ``[B, n, d]`` of each, and which are real.

    The negatives are those of the data, and documents of other pairs that were drawn.
    """
    queries, positives = model.queries(batch.queries), model.documents(batch.positives)
    negatives = torch.cat([model.documents(batch.negatives), positives[batch.drawn]], dim=1)
    real = torch.cat([batch.there, batch.grades.gather(1, batch.drawn) <= 0], dim=1)
    return queries, positives, negatives, real


def _triplets(model: TwoTowers, batch: Batch, objective: Objective) -> Tensor:
    """Each pair with each of its negatives."""
    queries, positives, negatives, real = _compared(model, batch)
    anchor, positive = (x.unsqueeze(1).expand_as(negatives) for x in (queries, positives))
    value: Tensor = objective(anchor, positive, negatives, mask=real)
    return value


def _same(model: TwoTowers, batch: Batch, objective: Objective) -> Tensor:
    """The pair belongs together, the query and a negative do not."""
    queries, positives, negatives, real = _compared(model, batch)
    documents = torch.cat([positives.unsqueeze(1), negatives], dim=1)
    mask = torch.cat([torch.ones_like(real[:, :1]), real], dim=1)
    same = torch.zeros_like(mask)
    same[:, 0] = True
    value: Tensor = objective(queries.unsqueeze(1).expand_as(documents), documents, same, mask=mask)
    return value


def _preferred(model: TwoTowers, batch: Batch, objective: Objective) -> Tensor:
    """The cosine of the pair, and those of its negatives."""
    queries, positives, negatives, real = _compared(model, batch)
    right = batch.scale * (queries * positives).sum(dim=-1, keepdim=True)
    wrong = batch.scale * (queries.unsqueeze(1) * negatives).sum(dim=-1)
    value: Tensor = objective(right.expand_as(wrong), wrong, mask=real)
    return value


def _lists(model: TwoTowers, batch: Batch, objective: Objective) -> Tensor:
    """The documents of the batch, each once, are the candidates of every query, with grades."""
    queries, positives = model.queries(batch.queries), model.documents(batch.positives)
    given = model.documents(batch.negatives)
    scores = torch.cat([queries @ positives.T, (queries.unsqueeze(1) * given).sum(dim=-1)], dim=1)
    relevance = torch.cat([batch.grades, torch.zeros_like(batch.there, dtype=torch.float)], dim=1)
    once = batch.first_of_each(batch.copies).expand_as(batch.grades)
    mask = torch.cat([once, batch.there], dim=1)
    value: Tensor = objective(batch.scale * scores, relevance, mask=mask)
    return value


FEEDS = {
    "queries+positives": _pairs,
    "embeddings+labels": _labelled,
    "two views": _views,
    "triplet": _triplets,
    "pair+same": _same,
    "positive+negative": _preferred,
    "scores+relevance": _lists,
}
