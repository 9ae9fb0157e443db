"""What may be known of a batch of pairs: ids, pairs, a teacher, explicit negatives, frequencies."""

from __future__ import annotations

from typing import TypedDict

import torch
from torch import Tensor

from lossmith.core.numerics import unit_vectors, upcast
from lossmith.core.validate import (
    check_float,
    check_leading_shape,
    check_mask,
    check_same_shape,
    check_values,
    shape_text,
)
from lossmith.kernels.contrastive.engine import ABSENT
from lossmith.kernels.contrastive.own_negatives import own_negative_scores
from lossmith.losses.retrieval.inputs import check_whole, real_rows

Guide = Tensor | tuple[Tensor, Tensor]


class GuideOf(TypedDict, total=False):
    """The part of an exclusion that comes of a teacher."""

    guide_rows: Tensor
    guide_columns: Tensor | None
    guide_limit: Tensor


def check_negatives(queries: Tensor, negatives: Tensor | None, mask: Tensor | None) -> None:
    """Raise unless these are negatives of all queries or of each, with a mask that fits them."""
    if negatives is None:
        if mask is not None:
            raise ValueError("negatives_mask says which negatives are real; give negatives too.")
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
    check_leading_shape(negatives, "negatives", negatives_mask=mask)
    check_mask("negatives_mask", mask)


def check_structure(
    queries: Tensor,
    negatives: Tensor | None,
    ids: Tensor | None,
    log_q: Tensor | None,
    ignore_pairs: Tensor | None,
    guide: Guide | None,
) -> None:
    """Raise unless each fits the queries."""
    size = len(queries)
    check_leading_shape(queries, "queries", ids=ids)
    if ids is not None:
        check_whole(ids=ids)
    if log_q is not None:
        check_float(log_q=log_q)
        shared = len(negatives) if negatives is not None and negatives.dim() == 2 else 0
        if log_q.shape not in {(size,), (size + shared,)}:
            raise ValueError(
                f"log_q {shape_text(log_q)} must hold one value for each of the {size} positives"
                f"{f', or of the {size + shared} candidates' if shared else ''}."
            )
    if ignore_pairs is not None:
        check_whole(ignore_pairs=ignore_pairs)
        if ignore_pairs.dim() != 2 or ignore_pairs.shape[1] != 2:
            raise ValueError(
                f"ignore_pairs {shape_text(ignore_pairs)} must be (P, 2): a query and a candidate "
                "in each row."
            )
        good = (ignore_pairs >= 0) & (ignore_pairs < size)
        check_values("ignore_pairs", ignore_pairs, good, f"a row of the batch in [0, {size - 1}]")
    if guide is None:
        return
    if isinstance(guide, Tensor):
        check_float(guide=guide)
        if guide.shape != (size, size):
            raise ValueError(
                f"guide {shape_text(guide)} must hold the teacher's scores ({size}, {size}), or be "
                "a pair of its vectors (queries, positives)."
            )
        return
    first, second = guide
    check_float(guide_queries=first, guide_positives=second)
    check_same_shape(guide_queries=first, guide_positives=second)
    if first.dim() != 2 or len(first) != size:
        raise ValueError(
            f"guide's vectors {shape_text(first)} must be ({size}, g), one for each row."
        )


def explicit_negatives(
    queries: Tensor,
    negatives: Tensor,
    negatives_mask: Tensor | None,
    mask: Tensor | None,
    normalize: bool,
) -> tuple[Tensor | None, Tensor | None]:
    """Shared negatives ``(M, d)`` as vectors, or the scores ``(B, K)`` of those of each query."""
    if negatives.dim() == 2:
        _, negatives = upcast(queries, negatives)
        if normalize:
            return unit_vectors(negatives, negatives_mask), None
        return real_rows(negatives_mask, negatives)[0], None
    real = negatives_mask
    if mask is not None:
        asked = mask.unsqueeze(-1).expand(negatives.shape[:2])
        real = asked if real is None else asked & real
    queries = queries.to(torch.promote_types(queries.dtype, negatives.dtype))
    return None, own_negative_scores(queries, negatives, real, normalize)


def candidate_bias(
    log_q: Tensor | None, mask: Tensor | None, like: Tensor, start: int = 0
) -> Tensor | None:
    """What is added to the score of each candidate ``like`` these: minus its log_q, or ABSENT.

    ``start``: which of the values of ``log_q`` is the first candidate's; without one for it, 0.
    """
    bias = None
    if log_q is not None and len(log_q) >= start + len(like):
        bias = -log_q[start : start + len(like)].detach().to(like.dtype)
    if mask is None:
        return bias
    if bias is None:
        bias = torch.zeros_like(mask, dtype=like.dtype)
    return torch.where(mask, bias, ABSENT)


def sorted_pairs(pairs: Tensor | None) -> Tensor | None:
    """``(2, P)``, sorted by query."""
    if pairs is None:
        return None
    return pairs.long()[pairs[:, 0].argsort(stable=True)].T


def guide_of(
    guide: Guide | None, margin: float, mask: Tensor | None, dtype: torch.dtype
) -> GuideOf:
    """The teacher's vectors or scores, and the score of each query's own positive."""
    if guide is None:
        return {}
    if isinstance(guide, Tensor):
        scores = guide.detach().to(dtype)
        if mask is not None:
            scores = torch.where(mask & mask.unsqueeze(1), scores, 0.0)
        limit = scores.diagonal() - margin
        return {"guide_rows": scores, "guide_columns": None, "guide_limit": limit}
    rows, columns = (unit_vectors(vectors.detach().to(dtype), mask) for vectors in guide)
    limit = (rows * columns).sum(dim=-1) - margin
    return {"guide_rows": rows, "guide_columns": columns, "guide_limit": limit}
