"""Two towers: texts of queries and of documents to vectors that are compared by their cosine."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from lossmith.core.numerics import full_precision, unit_vectors
from lossmith.tasks.hf import hf_vectors, is_hf
from lossmith.tasks.place import CPU, moved, place_of
from lossmith.tasks.task import Share
from lossmith.tasks.text import build_text_model
from lossmith.tasks.text_models import Bag

TEXTS_AT_ONCE = 512  # of a corpus that is encoded


class TwoTowers(nn.Module):
    """An encoder for queries and one for documents, the same or, at first, equal."""

    def __init__(self, encoder: nn.Module, *, shared: bool) -> None:
        super().__init__()
        self.query = encoder
        # Equal at first: a word has the same vector on both sides, and texts that share words are
        # near before anything is learnt.
        self.other = None if shared else copy.deepcopy(encoder)

    def apart(self, share: Share) -> TwoTowers:
        """These towers, of whose texts each process encodes some."""
        made = TwoTowers(share.rows(self.query), shared=True)
        made.other = None if self.other is None else share.rows(self.other)
        return made

    @property
    def document(self) -> nn.Module:
        """The encoder of documents."""
        return self.query if self.other is None else self.other

    def queries(self, ids: Tensor) -> Tensor:
        """Unit vectors ``[N, d]`` of queries in token ids ``[N, L]``."""
        return unit_vectors(self.query(ids))

    def documents(self, ids: Tensor) -> Tensor:
        """Unit vectors ``[..., d]`` of documents in token ids ``[..., L]``."""
        vectors = unit_vectors(self.document(ids.flatten(0, -2)))
        return vectors.reshape(*ids.shape[:-1], vectors.shape[-1])

    @torch.no_grad()
    def index(self, ids: Tensor) -> Tensor:
        """The vectors of a whole corpus, block by block, without dropout, where the model is."""
        self.eval()
        device = place_of(self)
        parts = (moved(some, device) for some in torch.split(ids, TEXTS_AT_ONCE))
        return torch.cat([self.documents(some) for some in parts])

    @torch.no_grad()
    def scores(self, ids: Tensor, index: Tensor) -> Tensor:
        """The cosines ``[N, documents]`` of queries in token ids with an index."""
        self.eval()
        vectors = self.queries(moved(ids, index.device))
        with full_precision(vectors):
            return moved(vectors @ index.T, CPU)


@torch.no_grad()
def start_from_words(bag: Bag, rarity: Tensor) -> None:
    """Let the cosine of two bags begin as that of their words, the rare ones counting most.

    Random vectors are nearly orthogonal and an orthogonal projection keeps their angles, so an
    untrained bag finds what shares rare words: the loss starts from there, not from nothing.
    """
    bag.embedding.weight.mul_(rarity.unsqueeze(1))
    nn.init.orthogonal_(bag.linear.weight)
    nn.init.zeros_(bag.linear.bias)


def rarity_of(ids: Tensor, vocabulary: int) -> Tensor:
    """``log(1 + N / (1 + n))`` for each token, in n of N texts ``[N, L]``.

    >>> rarity_of(torch.tensor([[1, 1, 2], [1, 0, 0]]), 4)[1:].exp() - 1
    tensor([0.6667, 1.0000, 2.0000])
    """
    ordered = ids.long().sort(dim=1).values
    again = torch.zeros_like(ordered, dtype=torch.bool)
    again[:, 1:] = ordered[:, 1:] == ordered[:, :-1]
    texts = torch.bincount(ordered[~again], minlength=vocabulary)
    return torch.log1p(len(ids) / (1.0 + texts))


def build_towers(settings: Mapping[str, Any], rarity: Tensor) -> TwoTowers:
    """The towers that the settings ask for, on the encoder that ``settings["model"]`` names.

    ``rarity`` has the inverse document frequency of each token of the vocabulary.
    """
    if is_hf(settings["model"]):
        encoder = hf_vectors(settings, settings["size"])
    else:
        encoder = build_text_model(settings, len(rarity), outputs=settings["size"])
    if isinstance(encoder, Bag):
        start_from_words(encoder, rarity)
    return TwoTowers(encoder, shared=settings["towers"] == "shared")
