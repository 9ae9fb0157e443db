"""Reference models from features to a number: each example alone, or each item in its list."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def _hidden(inputs: int, *, hidden: int, layers: int, dropout: float) -> tuple[nn.Module, int]:
    """Layers with ReLU and dropout, and the width of what comes out."""
    parts: list[nn.Module] = []
    width = inputs
    for _ in range(layers):
        parts += [nn.Linear(width, hidden), nn.ReLU(), nn.Dropout(dropout)]
        width = hidden
    return nn.Sequential(*parts), width


class Perceptron(nn.Module):
    """A multi-layer perceptron; with no hidden layers it is a linear model."""

    def __init__(self, features: int, *, hidden: int, layers: int, dropout: float) -> None:
        super().__init__()
        self.hidden, width = _hidden(features, hidden=hidden, layers=layers, dropout=dropout)
        self.linear = nn.Linear(width, 1)

    def forward(self, features: Tensor, mask: Tensor | None = None) -> Tensor:
        """A number ``[...]`` for each row of features ``[..., F]``, whatever stands beside it."""
        number: Tensor = self.linear(self.hidden(features)).squeeze(-1)
        return number


class ListAttention(nn.Module):
    """A perceptron whose items look at the other items of their list before they are scored.

    One block of self-attention without positions (Pobrotyn et al. 2020), so the order in which a
    list comes does not matter; padding is looked at by nobody.
    """

    def __init__(
        self, features: int, *, hidden: int, layers: int, heads: int, dropout: float
    ) -> None:
        super().__init__()
        if hidden % heads:
            raise ValueError(f"hidden={hidden} must be divisible by heads={heads}.")
        self.heads, self.rate = heads, dropout
        self.hidden, width = _hidden(
            features, hidden=hidden, layers=max(layers - 1, 0), dropout=dropout
        )
        self.enter = nn.Linear(width, hidden)
        self.before, self.after = nn.LayerNorm(hidden), nn.LayerNorm(hidden)
        self.look = nn.Linear(hidden, 3 * hidden)
        self.leave = nn.Linear(hidden, hidden)
        self.think, _ = _hidden(hidden, hidden=hidden, layers=1, dropout=dropout)
        self.linear = nn.Linear(hidden, 1)

    def forward(self, features: Tensor, mask: Tensor) -> Tensor:
        """Scores ``[B, n]`` of lists of items ``[B, n, F]``, of which ``mask`` says the real."""
        items = self.enter(self.hidden(features))
        items = items + self._attend(self.before(items), mask)
        items = items + self.think(self.after(items))
        scores: Tensor = self.linear(items).squeeze(-1)
        return scores

    def _attend(self, items: Tensor, mask: Tensor) -> Tensor:
        batch, n, hidden = items.shape
        query, key, value = (
            part.view(batch, n, self.heads, -1).transpose(1, 2)
            for part in self.look(items).chunk(3, dim=-1)
        )
        seen = F.scaled_dot_product_attention(
            query,
            key,
            value,
            attn_mask=mask[:, None, None, :],
            dropout_p=self.rate if self.training else 0.0,
        )
        left: Tensor = self.leave(seen.transpose(1, 2).reshape(batch, n, hidden))
        return left


class ItemByItem(nn.Module):
    """A model that looks at features alone, and has no use for the mask of a list."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, features: Tensor, mask: Tensor) -> Tensor:
        """What the model says of the features ``[B, n, F]``."""
        scores: Tensor = self.model(features)
        return scores


class InUnits(nn.Module):
    """A model whose output is read in units of the target: ``centre + scale * output``.

    It starts near the training mean whatever the units, and a knob of the loss (a band, a delta)
    still has those of the target.
    """

    centre: Tensor
    scale: Tensor

    def __init__(self, model: nn.Module, centre: float, scale: float) -> None:
        super().__init__()
        self.model = model
        self.register_buffer("centre", torch.tensor(centre))
        self.register_buffer("scale", torch.tensor(scale))

    def forward(self, inputs: Tensor) -> Tensor:
        """A number ``[N]`` for each example."""
        output: Tensor = self.model(inputs)
        return self.centre + self.scale * output.reshape(len(inputs))
