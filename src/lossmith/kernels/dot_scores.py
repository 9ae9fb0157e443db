"""Scores of a factor model, a few items for each row: dot products, most of them never asked for.

On a CPU the products are those of torch's sampled matrix product, which reads each vector where it
lies. Gathering the vectors into a table of their own first takes three times as long.
"""

from __future__ import annotations

import warnings
from functools import lru_cache

import torch
from torch import Tensor

from lossmith.core.numerics import FULL, full_precision
from lossmith.core.validate import check_float, shape_text


class DotScores:
    """Scores as dot products of user and item vectors, plus a bias per item; see `dot_scores`."""

    def __init__(self, users: Tensor, item_vectors: Tensor, item_bias: Tensor | None) -> None:
        self.users, self.item_vectors, self.item_bias = users, item_vectors, item_bias

    def __call__(self, rows: Tensor, items: Tensor) -> Tensor:
        """The scores of ``items [R, k]`` for the users of ``rows [R]``."""
        # index_select on flat indices is some five times faster on a CPU than indexing by a table.
        flat, users = items.flatten(), self.users.index_select(0, rows)
        if _can_sample(users, self.item_vectors, items):
            scores = _sampled_products(users, self.item_vectors, flat).view_as(items)
        else:
            vectors = self.item_vectors.index_select(0, flat)
            vectors = vectors.view(*items.shape, vectors.shape[1])
            scores = torch.linalg.vecdot(vectors, users.unsqueeze(1))
        if self.item_bias is not None:
            scores = scores + self.item_bias.index_select(0, flat).view_as(scores)
        return scores

    def catalogue(self) -> Tensor:
        """The scores of all items for all users, by one matrix product."""
        with full_precision(self.users):
            scores = self.users @ self.item_vectors.T
        return scores if self.item_bias is None else scores + self.item_bias


def dot_scores(users: Tensor, item_vectors: Tensor, item_bias: Tensor | None = None) -> DotScores:
    """The scoring function of a factor model for :func:`sample_violators`.

    Args:
        users: the batch's user vectors ``[B, d]``.
        item_vectors: the catalogue's ``[N, d]``.
        item_bias: ``[N]``.

    >>> score = dot_scores(torch.tensor([[1.0, 2.0]]), torch.eye(2), torch.tensor([0.0, 10.0]))
    >>> score(torch.tensor([0]), torch.tensor([[1, 0]]))
    tensor([[12.,  1.]])
    """
    check_float(users=users, item_vectors=item_vectors)
    if users.dim() != 2 or item_vectors.dim() != 2 or users.shape[1] != item_vectors.shape[1]:
        raise ValueError(
            f"users {shape_text(users)} must be [B, d] and item_vectors "
            f"{shape_text(item_vectors)} [N, d] with the same d."
        )
    if item_bias is not None and item_bias.shape != item_vectors.shape[:1]:
        raise ValueError(
            f"item_bias {shape_text(item_bias)} must hold one number for each of the "
            f"{len(item_vectors)} items of item_vectors {shape_text(item_vectors)}."
        )
    return DotScores(users, item_vectors, item_bias)


def _can_sample(left: Tensor, right: Tensor, items: Tensor) -> bool:
    """Whether torch has that product here; the matrix must have room for what is asked."""
    if items.device.type != "cpu" or torch.is_grad_enabled():
        return False
    return left.dtype in FULL and left.dtype == right.dtype and items.shape[1] <= len(right)


def _sampled_products(left: Tensor, right: Tensor, columns: Tensor) -> Tensor:
    """The products of ``left [R, d]`` with as many rows of ``right [N, d]`` each: ``[R * k]``.

    A row may name a column twice, which a sparse matrix may not: here it only says what to compute.
    """
    _ignore_beta()
    rows = len(left)
    starts = torch.arange(0, len(columns) + 1, max(1, len(columns) // max(rows, 1)))
    wanted = torch.sparse_csr_tensor(
        starts, columns, left.new_zeros(len(columns)), (rows, len(right)), check_invariants=False
    )
    products: Tensor = torch.sparse.sampled_addmm(wanted, left, right.T, beta=0.0).values()
    return products


@lru_cache(maxsize=1)
def _ignore_beta() -> None:
    """Let torch say where nobody hears it that this format is in beta, which it says once."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.sparse_csr_tensor([0, 0], torch.empty(0, dtype=torch.long), torch.empty(0), (1, 1))
