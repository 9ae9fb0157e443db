"""Reference models from token ids to logits: bag of embeddings, convolution, recurrence."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Bag(nn.Module):
    """The mean of the word embeddings, then one linear layer."""

    def __init__(self, vocabulary: int, outputs: int, *, dimension: int, dropout: float) -> None:
        super().__init__()
        self.embedding = nn.EmbeddingBag(vocabulary, dimension, mode="mean", padding_idx=0)
        self.dropout = nn.Dropout(dropout)
        self.linear = nn.Linear(dimension, outputs)

    def forward(self, ids: Tensor) -> Tensor:
        """Logits ``[N, outputs]`` of token ids ``[N, L]``."""
        logits: Tensor = self.linear(self.dropout(self.embedding(ids)))
        return logits


class SeparateBags(nn.Module):
    """One :class:`Bag` of its own for each output, sharing nothing; computed side by side."""

    def __init__(self, vocabulary: int, outputs: int, *, dimension: int, dropout: float) -> None:
        super().__init__()
        self.outputs, self.dimension = outputs, dimension
        self.embedding = nn.EmbeddingBag(
            vocabulary, outputs * dimension, mode="mean", padding_idx=0
        )
        self.dropout = nn.Dropout(dropout)
        shared = nn.Linear(dimension, outputs)  # for its usual initial scale
        self.weight, self.bias = nn.Parameter(shared.weight), nn.Parameter(shared.bias)

    def forward(self, ids: Tensor) -> Tensor:
        """Logits ``[N, outputs]`` of token ids ``[N, L]``."""
        bags = self.dropout(self.embedding(ids)).view(-1, self.outputs, self.dimension)
        logits: Tensor = (bags * self.weight).sum(dim=-1) + self.bias
        return logits


class ConvolutionalNet(nn.Module):
    """Filters over word windows, the largest response of each, a hidden layer (Su 2017's CNN)."""

    def __init__(
        self,
        vocabulary: int,
        outputs: int,
        *,
        dimension: int,
        filters: int,
        width: int,
        hidden: int,
        dropout: float,
    ) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, dimension)
        nn.init.uniform_(self.embedding.weight, -0.05, 0.05)
        self.dropout = nn.Dropout(dropout)
        self.filters = nn.Conv1d(dimension, filters, width)
        self.width = width
        self.hidden = nn.Linear(filters, hidden)
        self.linear = nn.Linear(hidden, outputs)

    def forward(self, ids: Tensor) -> Tensor:
        """Logits ``[N, outputs]`` of token ids ``[N, L]``."""
        if ids.shape[1] < self.width:
            ids = nn.functional.pad(ids, (0, self.width - ids.shape[1]))
        words = self.dropout(self.embedding(ids)).transpose(1, 2)
        # relu after the maximum equals relu before it, on a row 400 times shorter.
        found = self.filters(words).amax(dim=-1).relu()
        logits: Tensor = self.linear(self.dropout(self.hidden(found)).relu())
        return logits


class RecurrentNet(nn.Module):
    """An LSTM with dropout on its inputs and its recurrent state (Su 2017's LSTM).

    One dropout mask holds for a whole sequence (Gal, Ghahramani 2016), for the inputs and for
    the state.
    """

    def __init__(
        self, vocabulary: int, outputs: int, *, dimension: int, hidden: int, dropout: float
    ) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, dimension)
        nn.init.uniform_(self.embedding.weight, -0.05, 0.05)
        self.cell = nn.LSTMCell(dimension, hidden)
        nn.init.xavier_uniform_(self.cell.weight_ih)
        nn.init.orthogonal_(self.cell.weight_hh)
        nn.init.zeros_(self.cell.bias_ih)
        nn.init.zeros_(self.cell.bias_hh)
        # A forget gate that starts open lets gradients through from the first step.
        with torch.no_grad():
            self.cell.bias_ih[hidden : 2 * hidden].fill_(1.0)
        self.dropout = nn.Dropout(dropout)
        self.linear = nn.Linear(hidden, outputs)

    def forward(self, ids: Tensor) -> Tensor:
        """Logits ``[N, outputs]`` of token ids ``[N, L]``."""
        words = self.embedding(ids)
        words = words * self.dropout(torch.ones_like(words[:, :1]))
        state = words.new_zeros(len(ids), self.cell.hidden_size)
        memory = torch.zeros_like(state)
        keep = self.dropout(torch.ones_like(state))
        for word in words.unbind(dim=1):
            state, memory = self.cell(word, (state * keep, memory))
        logits: Tensor = self.linear(state)
        return logits
