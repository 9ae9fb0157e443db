"""Matrix factorisation with item biases: the score of an item for a user is a dot product."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Factorization(nn.Module):
    """score(user, item) = <user, item> + bias of the item.

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

    def forward(self, users: Tensor, items: Tensor) -> tuple[Tensor, Tensor]:
        """Scores ``[B, K]`` of items ``[B, K]`` for users ``[B]``, and a penalty ``[B]``.

        The penalty is the sum of squares of the vectors that the scores were made of: of each
        user once, and of each item.
        """
        user, item = self.users(users), self.items(items)
        bias = self.item_bias(items).squeeze(-1)
        # A batched product spares the table [B, K, d] of single products.
        scores = torch.bmm(item, user.unsqueeze(-1)).squeeze(-1) + bias + self.offset
        return scores, user.square().sum(dim=-1) + item.square().sum(dim=(-2, -1))

    def all_scores(self, users: Tensor) -> Tensor:
        """Scores ``[B, N]`` of every item."""
        bias = self.item_bias.weight.squeeze(-1)
        scores: Tensor = self.users(users) @ self.items.weight.T + bias + self.offset
        return scores
