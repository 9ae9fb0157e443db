"""Text to item: a text and an item are vectors, and their product or cosine is the score."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from lossmith.tasks.factorization import VectorModel
from lossmith.tasks.hf import hf_vectors, is_hf
from lossmith.tasks.own_model import OF_TEXTS, Call, called, own_model, width_of
from lossmith.tasks.recommender import RowScores


def used_columns(ids: Tensor) -> Tensor:
    """Without the columns that are padding in every row: they cost time and say nothing.

    >>> used_columns(torch.tensor([[3, 0, 0], [4, 5, 0]]))
    tensor([[3, 0],
            [4, 5]])
    """
    used = (ids != 0).any(dim=0)
    return ids[:, used] if used.any() else ids


class BagEncoder(nn.Module):
    """The mean of the word vectors, then one linear layer."""

    def __init__(self, vocabulary: int, *, dimension: int, dropout: float) -> None:
        super().__init__()
        self.words = nn.EmbeddingBag(vocabulary, dimension, mode="mean", padding_idx=0)
        self.dropout = nn.Dropout(dropout)
        self.linear = nn.Linear(dimension, dimension)

    def forward(self, ids: Tensor) -> Tensor:
        """Vectors ``[B, d]`` of token ids ``[B, L]`` (0 = padding)."""
        vectors: Tensor = self.linear(self.dropout(self.words(used_columns(ids))))
        return vectors


class ConvolutionEncoder(nn.Module):
    """#TagSpace (Weston, Chopra, Adams 2014): a convolution over the words, its maximum, a layer.

    Word vectors, ``filters`` channels over windows of ``width`` words, tanh, the maximum over the
    places, tanh, linear. A window stands over every word, with nothing beyond the ends of the
    text, so that padding changes nothing.
    """

    def __init__(
        self, vocabulary: int, *, dimension: int, filters: int, width: int, dropout: float
    ) -> None:
        super().__init__()
        self.words = nn.Embedding(vocabulary, dimension, padding_idx=0)
        self.dropout = nn.Dropout(dropout)
        self.filters = nn.Conv1d(dimension, filters, width)
        self.ends = ((width - 1) // 2, width // 2)
        self.linear = nn.Linear(filters, dimension)
        # Unit variance at the filters' outputs, whose inputs are few and far from unit length.
        nn.init.normal_(self.words.weight, std=1.0)
        with torch.no_grad():
            self.words.weight[0].zero_()

    def forward(self, ids: Tensor) -> Tensor:
        """Vectors ``[B, d]`` of token ids ``[B, L]`` (0 = padding)."""
        ids = used_columns(ids)
        words = self.dropout(self.words(ids)).transpose(1, 2)
        found = self.filters(functional.pad(words, self.ends))
        found = found.masked_fill((ids == 0).unsqueeze(1), -math.inf).amax(dim=-1)
        # tanh after the maximum equals tanh before it. A text without words is -1 throughout.
        vectors: Tensor = self.linear(self.dropout(found.tanh().tanh()))
        return vectors


class TextScores(RowScores):
    """A model of the user's own that gives a score to each item: ``model(ids) -> [N, items]``."""

    def __init__(self, model: nn.Module, ids: Tensor, items: int) -> None:
        super().__init__(items)
        self.model = model
        self.register_buffer("ids", ids, persistent=False)

    def read(self, users: Tensor) -> Tensor:
        """The scores for the texts of these rows."""
        return self.read_texts(self.get_buffer("ids")[users])

    def read_texts(self, ids: Tensor) -> Tensor:
        """Scores ``[B, items]`` for token ids ``[B, L]``."""
        scores: Tensor = self.model(ids)
        return scores


class TextItems(VectorModel):
    """A vector of each item, and an encoder of texts; "users" are the rows of ``ids``.

    ``score`` is "dot", with a bias for each item, or "cosine", times ``scale`` and without a bias
    (a margin of 1 is 1 / scale of the cosine).
    """

    def __init__(
        self,
        encoder: nn.Module,
        ids: Tensor,
        items: int,
        *,
        dimension: int,
        score: str,
        scale: float,
    ) -> None:
        super().__init__()
        self.encoder, self.score_by, self.scale = encoder, score, scale
        # The data, not the model: no state_dict keeps it.
        self.register_buffer("ids", ids, persistent=False)
        self.items = nn.Embedding(items, dimension)
        nn.init.normal_(self.items.weight, std=dimension**-0.5)
        self.item_bias = nn.Embedding(items, 1) if score == "dot" else None
        if self.item_bias is not None:
            nn.init.zeros_(self.item_bias.weight)
        self.offset = nn.Parameter(torch.zeros(()))

    def user_vectors(self, users: Tensor) -> Tensor:
        """What the encoder makes of the texts."""
        return self.read_texts(self.get_buffer("ids")[users])

    def read_texts(self, ids: Tensor) -> Tensor:
        """Vectors ``[B, d]`` of token ids ``[B, L]``; of length ``scale`` where cosines count."""
        vectors: Tensor = self.encoder(ids)
        if self.score_by == "cosine":
            return functional.normalize(vectors, dim=-1) * self.scale
        return vectors

    def item_vectors(self, items: Tensor | None = None) -> Tensor:
        """Rows of the table, or the table; of unit length where cosines count."""
        vectors = self.items.weight if items is None else self.items(items)
        return functional.normalize(vectors, dim=-1) if self.score_by == "cosine" else vectors

    def item_biases(self, items: Tensor | None = None) -> Tensor | None:
        """Entries of the column, or the column; none where cosines count."""
        if self.item_bias is None:
            return None
        bias = self.item_bias.weight if items is None else self.item_bias(items)
        return bias.squeeze(-1)


def build_text_items(
    settings: Mapping[str, Any], ids: Tensor, vocabulary: int, items: int
) -> TextItems | TextScores:
    """The model that ``settings["model"]`` names; "auto" is tagspace.

    One of the user's own makes the vector of a text, or the scores of all items: its shape says.
    """
    dimension, dropout = settings["dimension"], settings["dropout"]
    own = own_model(settings, {"vocabulary": vocabulary, "dimension": dimension, "items": items})
    encoder: nn.Module
    if own is not None:
        width = width_of(own, settings, ids.shape[1])
        encoder = called(own, settings, Call(OF_TEXTS, lambda ids: (len(ids), width)))
        if _scores_items(width, settings, items, encoder.place):
            return TextScores(encoder, ids, items)
    elif is_hf(settings["model"]):
        encoder = hf_vectors(settings, dimension)
    elif settings["model"] == "bag":
        encoder = BagEncoder(vocabulary, dimension=dimension, dropout=dropout)
    else:
        encoder = ConvolutionEncoder(
            vocabulary,
            dimension=dimension,
            filters=settings["filters"],
            width=settings["width"],
            dropout=dropout,
        )
    return TextItems(
        encoder, ids, items, dimension=dimension, score=settings["score"], scale=settings["scale"]
    )


def _scores_items(width: int, settings: Mapping[str, Any], items: int, place: str) -> bool:
    """Whether a model of the user's own gives scores of items, and no vectors."""
    text, dimension = settings["model"], settings["dimension"]
    if width == items == dimension:
        raise ValueError(
            f"model={text} gives {width} numbers for a text{place}, and there are {items} items "
            f"and dimension={dimension}: are they scores of the items, or a vector? Another "
            f"dimension tells them apart: --set dimension={dimension + 1}."
        )
    if width not in (items, dimension):
        raise ValueError(
            f"model={text} gives {width} numbers for a text{place}; expected {dimension}, a "
            f"vector that is compared with those of the items (dimension={dimension}), or "
            f"{items}, a score for each item."
        )
    if width == items and settings["l2"] > 0:
        raise ValueError(NO_VECTORS.format(text))
    return width == items


NO_VECTORS = (
    "l2 penalises vectors, and model={} shows scores alone. Leave l2 out; weight_decay shrinks all "
    "that is trained."
)
