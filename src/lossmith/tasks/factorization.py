"""Matrix factorisation with item biases: the score of an item for a user is a dot product."""

from __future__ import annotations

from abc import abstractmethod

import torch
from torch import Tensor, nn

from lossmith.data.side_features import SideFeatures
from lossmith.kernels.dot_scores import DotScores, dot_scores
from lossmith.tasks.recommender import Recommender


class VectorModel(Recommender):
    """score(user, item) = <vector of the user, vector of the item> + bias of the item + offset.

    A user may be a row of a table, or what a model makes of a text.
    """

    offset: nn.Parameter

    @abstractmethod
    def user_vectors(self, users: Tensor) -> Tensor:
        """Vectors ``[B, d]`` of users ``[B]``."""

    @abstractmethod
    def item_vectors(self, items: Tensor | None = None) -> Tensor:
        """Vectors ``[..., d]`` of items ``[...]``, or ``[N, d]`` of all."""

    @abstractmethod
    def item_biases(self, items: Tensor | None = None) -> Tensor | None:
        """Biases ``[...]`` of items ``[...]``, or ``[N]`` of all; None where there are none."""

    def read(self, users: Tensor) -> Tensor:
        """The users' vectors."""
        return self.user_vectors(users)

    def score(self, read: Tensor, items: Tensor) -> tuple[Tensor, Tensor]:
        """Scores ``[B, K]``, and the sum of squares of the vectors that they were made of."""
        item = self.item_vectors(items)
        # A batched product spares the table [B, K, d] of single products.
        scores = torch.bmm(item, read.unsqueeze(-1)).squeeze(-1) + self.offset
        bias = self.item_biases(items)
        scores = scores if bias is None else scores + bias
        return scores, self.user_penalty(read) + item.square().sum(dim=(-2, -1))

    def catalogue(self, read: Tensor) -> Tensor:
        """Scores ``[B, N]`` of every item for the vectors ``[B, d]`` of the users."""
        scores, bias = read @ self.item_vectors().T + self.offset, self.item_biases()
        return scores if bias is None else scores + bias

    def user_penalty(self, read: Tensor) -> Tensor:
        """The squared length of the vectors."""
        return read.square().sum(dim=-1)

    def item_penalty(self, items: Tensor | None = None) -> Tensor:
        """The squared length of the vectors."""
        return self.item_vectors(items).square().sum(dim=-1)

    def scorer(self, read: Tensor) -> DotScores:
        """What WARP's sampler asks for scores; the offset, the same for all, is left out."""
        return dot_scores(read, self.item_vectors(), self.item_biases())


class Factorization(VectorModel):
    """A vector for each user and each item.

    A bias of the user would add the same number to all items: it orders nothing, and a loss on
    single scores (binary cross-entropy) still has it through the global offset.
    """

    def __init__(self, users: int, items: int, *, dimension: int, scale: float = 0.1) -> None:
        super().__init__()
        self.users = nn.Embedding(users, dimension)
        self.items = nn.Embedding(items, dimension)
        self.item_bias = nn.Embedding(items, 1)
        self.offset = nn.Parameter(torch.zeros(()))
        for table in (self.users, self.items):
            nn.init.normal_(table.weight, std=scale / dimension**0.5)
        nn.init.zeros_(self.item_bias.weight)

    def user_vectors(self, users: Tensor) -> Tensor:
        """Rows of the table."""
        vectors: Tensor = self.users(users)
        return vectors

    def item_vectors(self, items: Tensor | None = None) -> Tensor:
        """Rows of the table, or the table."""
        return self.items.weight if items is None else self.items(items)

    def item_biases(self, items: Tensor | None = None) -> Tensor:
        """Entries of the column, or the column."""
        bias = self.item_bias.weight if items is None else self.item_bias(items)
        return bias.squeeze(-1)


class FeatureTable(nn.Module):
    """A row's vector: its own, if it has one, plus the sum of its features' vectors.

    The rule is LightFM's (Kula 2015). A row without features is its own vector, and one that was
    never trained on has little of its own, so that its features speak.
    """

    def __init__(
        self,
        rows: int,
        features: SideFeatures | None,
        *,
        dimension: int,
        identity: bool,
        std: float,
    ) -> None:
        super().__init__()
        self.rows = rows
        # Without features a row has nothing but its own vector.
        self.own = nn.Embedding(rows, dimension) if identity or features is None else None
        self.parts = None if features is None else nn.Embedding(len(features.names), dimension)
        for table in (self.own, self.parts):
            if table is not None:
                nn.init.normal_(table.weight, std=std)
        if features is not None:
            # The data, not the model: no state_dict keeps it.
            self.register_buffer("index", torch.from_numpy(features.index), persistent=False)
            self.register_buffer("value", torch.from_numpy(features.value), persistent=False)

    def forward(self, rows: Tensor | None = None) -> Tensor:
        """Vectors ``[..., d]`` of rows ``[...]``, or ``[rows, d]`` of all."""
        if self.parts is None:
            assert self.own is not None
            own: Tensor = self.own.weight if rows is None else self.own(rows)
            return own
        index, value = self.get_buffer("index"), self.get_buffer("value")
        flat = None if rows is None else rows.flatten()
        if flat is not None:
            index, value = index.index_select(0, flat), value.index_select(0, flat)
        vectors = nn.functional.embedding_bag(
            index, self.parts.weight, mode="sum", per_sample_weights=value
        )
        if self.own is not None:
            vectors = vectors + (self.own.weight if flat is None else self.own(flat))
        return vectors if rows is None else vectors.view(*rows.shape, -1)


class FeatureFactorization(VectorModel):
    """Matrix factorisation in which users and items are made of what is known of them."""

    def __init__(
        self,
        users: int,
        items: int,
        *,
        user_features: SideFeatures | None,
        item_features: SideFeatures | None,
        dimension: int,
        identity: bool = True,
        scale: float = 0.1,
    ) -> None:
        super().__init__()

        def table(rows: int, features: SideFeatures | None, width: int, std: float) -> FeatureTable:
            return FeatureTable(rows, features, dimension=width, identity=identity, std=std)

        std = scale / dimension**0.5
        self.users = table(users, user_features, dimension, std)
        self.items = table(items, item_features, dimension, std)
        self.item_bias = table(items, item_features, 1, 0.0)
        self.offset = nn.Parameter(torch.zeros(()))

    def user_vectors(self, users: Tensor) -> Tensor:
        """The users' own vectors and those of their features, added up."""
        vectors: Tensor = self.users(users)
        return vectors

    def item_vectors(self, items: Tensor | None = None) -> Tensor:
        """The items' own vectors and those of their features, added up."""
        vectors: Tensor = self.items(items)
        return vectors

    def item_biases(self, items: Tensor | None = None) -> Tensor:
        """The items' own biases and those of their features, added up."""
        biases: Tensor = self.item_bias(items)
        return biases.squeeze(-1)
