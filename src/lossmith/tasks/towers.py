"""Two towers: texts of queries and of documents to vectors that are compared by their cosine."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from lossmith.core.numerics import full_precision, unit_vectors
from lossmith.tasks.text import build_text_model

TEXTS_AT_ONCE = 512  # of a corpus that is encoded


class TwoTowers(nn.Module):
    """An encoder for queries and one for documents, the same or, at first, equal."""

    def __init__(self, encoder: nn.Module, *, shared: bool) -> None:
        super().__init__()
        self.query = encoder
        # Equal at first: a word has the same vector on both sides, and texts that share words are
        # near before anything is learnt.
        self.document = encoder if shared else copy.deepcopy(encoder)

    def queries(self, ids: Tensor) -> Tensor:
        """Unit vectors ``[N, d]`` of queries in token ids ``[N, L]``."""
        return unit_vectors(self.query(ids))

    def documents(self, ids: Tensor) -> Tensor:
        """Unit vectors ``[..., d]`` of documents in token ids ``[..., L]``."""
        vectors = unit_vectors(self.document(ids.flatten(0, -2)))
        return vectors.unflatten(0, ids.shape[:-1])

    @torch.no_grad()
    def index(self, ids: Tensor) -> Tensor:
        """The vectors of a whole corpus, block by block, without dropout."""
        self.eval()
        return torch.cat([self.documents(some) for some in torch.split(ids, TEXTS_AT_ONCE)])

    @torch.no_grad()
    def scores(self, ids: Tensor, index: Tensor) -> Tensor:
        """The cosines ``[N, documents]`` of queries in token ids with an index."""
        self.eval()
        vectors = self.queries(ids)
        with full_precision(vectors):
            return vectors @ index.T


def build_towers(settings: Mapping[str, Any], vocabulary: int) -> TwoTowers:
    """The towers that the settings ask for, on the encoder that ``settings["model"]`` names."""
    encoder = build_text_model(settings, vocabulary, outputs=settings["size"])
    return TwoTowers(encoder, shared=settings["towers"] == "shared")
