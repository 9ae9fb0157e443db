"""What a sequence-to-sequence model is, and the recurrent one: attention over what was read."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from lossmith.tasks.codec import BEGIN_ID
from lossmith.tasks.own_model import Call, ModelError, OwnModel, called

Tensors = tuple[Tensor, ...]  # all with the batch first


class Seq2Seq(nn.Module, ABC):
    """Reads a source once, then gives the logits of the next token, for a whole target or by step.

    Shapes: source ``[B, S]`` token ids, 0 = padding behind; given ``[B, T]`` the target so far,
    led by the mark of the beginning.
    """

    @abstractmethod
    def encode(self, source: Tensor) -> Tensors:
        """What the decoder looks at, the same at every step."""

    @abstractmethod
    def start(self, memory: Tensors) -> Tensors:
        """The state before the first token."""

    @abstractmethod
    def step(self, token: Tensor, memory: Tensors, state: Tensors) -> tuple[Tensor, Tensors]:
        """The logits ``[B, V]`` of what follows token ``[B]``, and the state after it."""

    @abstractmethod
    def forward(self, source: Tensor, given: Tensor) -> Tensor:
        """The logits ``[B, T, V]`` of what follows each given token."""


class WholePrefix(Seq2Seq):
    """A model of the user's own, ``model(source, source_mask, target_in) -> logits``.

    It is asked for whole targets, so each step of decoding reads the output so far once more: the
    same tokens as with caches, at a cost that grows with the square of the length.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    @classmethod
    def of(cls, model: nn.Module, settings: Mapping[str, Any], vocabulary: int) -> WholePrefix:
        """The same, of a model that says what is wrong with what it takes or gives."""
        call = Call(
            "model(source [N, S], source_mask [N, S], target_in [N, L]) -> [N, L, vocabulary]",
            lambda source, mask, given: (*given.shape, vocabulary),
        )
        made = cls(called(model, settings, call))
        made._check_that_it_looks_back(vocabulary)
        return made

    @torch.no_grad()
    def _check_that_it_looks_back(self, vocabulary: int) -> None:
        """Raise if a logit changes with a token behind it, which decoding has not said yet."""
        own = self.model
        assert isinstance(own, OwnModel)
        source = torch.tensor([[vocabulary - 1, vocabulary - 2]])
        given = torch.tensor([[BEGIN_ID, vocabulary - 2, vocabulary - 1, vocabulary - 2]])
        other = given.index_fill(1, torch.tensor([3]), vocabulary - 1)
        was = self.training
        with torch.random.fork_rng(devices=[]):
            one, two = (self.eval()(source, some)[:, :3] for some in (given, other))
        self.train(was)
        if not torch.allclose(one, two, rtol=1e-3, atol=1e-4):
            raise ModelError(
                f"model={own.text} looks ahead{own.place}: its logits of the first three tokens "
                "changed with the fourth, which it is to foretell. Give its decoder a causal mask, "
                "as in nn.Transformer.generate_square_subsequent_mask."
            )

    def encode(self, source: Tensor) -> Tensors:
        """The source itself."""
        return (source,)

    def start(self, memory: Tensors) -> Tensors:
        """No token yet."""
        return (memory[0][:, :0],)

    def step(self, token: Tensor, memory: Tensors, state: Tensors) -> tuple[Tensor, Tensors]:
        """One more token, and all before it again."""
        given = torch.cat([state[0], token.unsqueeze(1)], dim=1)
        return self(memory[0], given)[:, -1], (given,)

    def forward(self, source: Tensor, given: Tensor) -> Tensor:
        """The logits of what follows each given token."""
        logits: Tensor = self.model(source, source != 0, given)
        return logits


class TiedEmbedding(nn.Module):
    """One table for tokens read, tokens said so far, and the logits of the next one."""

    def __init__(self, vocabulary: int, dimension: int) -> None:
        super().__init__()
        self.table = nn.Embedding(vocabulary, dimension, padding_idx=0)
        nn.init.normal_(self.table.weight, std=dimension**-0.5)
        self.bias = nn.Parameter(torch.zeros(vocabulary))
        self.scale = dimension**0.5

    def forward(self, ids: Tensor) -> Tensor:
        """Vectors of unit size in each direction, as layers expect them."""
        vectors: Tensor = self.table(ids) * self.scale
        return vectors

    def logits(self, hidden: Tensor) -> Tensor:
        """A logit for each token of the vocabulary."""
        return nn.functional.linear(hidden, self.table.weight, self.bias)


class AttentionRNN(Seq2Seq):
    """A recurrent encoder-decoder with additive attention (Bahdanau, Cho, Bengio 2014)."""

    def __init__(
        self,
        vocabulary: int,
        *,
        cell: type[nn.GRUCell] | type[nn.LSTMCell] = nn.GRUCell,
        dimension: int,
        hidden: int,
        dropout: float,
    ) -> None:
        super().__init__()
        self.embedding = TiedEmbedding(vocabulary, dimension)
        layer = nn.LSTM if cell is nn.LSTMCell else nn.GRU
        self.reader = layer(dimension, hidden, batch_first=True)
        self.back_reader = layer(dimension, hidden, batch_first=True)
        self.bridge = nn.Linear(2 * hidden, hidden)
        self.key = nn.Linear(2 * hidden, hidden)
        self.query = nn.Linear(hidden, hidden, bias=False)
        self.energy = nn.Linear(hidden, 1, bias=False)
        self.cell = cell(dimension + 2 * hidden, hidden)
        self.readout = nn.Linear(dimension + 3 * hidden, dimension)
        self.dropout = nn.Dropout(dropout)

    def encode(self, source: Tensor) -> Tensors:
        """Both directions' states, their keys, the mask of what is real, and the first state."""
        real = source != 0
        words = self.dropout(self.embedding(source))
        # Each row turned round within its own length: padding stays behind and is never read. (A
        # packed sequence does the same at a cost that grows with the square of its length.)
        place = torch.arange(source.shape[1], device=source.device)
        size = real.sum(dim=1, keepdim=True)
        turned = torch.where(real, size - 1 - place, place).unsqueeze(-1)
        there, _ = self.reader(words)
        back, _ = self.back_reader(words.gather(1, turned.expand_as(words)))
        back = back.gather(1, turned.expand_as(back))
        values = torch.cat([there, back], dim=-1)
        last = (size - 1).unsqueeze(-1).expand(-1, 1, there.shape[-1])
        ends = torch.cat([there.gather(1, last).squeeze(1), back[:, 0]], dim=-1)
        return values, self.key(values), real, self.bridge(ends).tanh()

    def start(self, memory: Tensors) -> Tensors:
        """The hidden state, and for an LSTM an empty cell."""
        first = memory[3]
        return (first, torch.zeros_like(first)) if isinstance(self.cell, nn.LSTMCell) else (first,)

    def step(self, token: Tensor, memory: Tensors, state: Tensors) -> tuple[Tensor, Tensors]:
        """One step of the decoder."""
        word = self.dropout(self.embedding(token))
        context, state = self._advance(word, memory, state)
        return self._logits(word, context, state[0]), state

    def forward(self, source: Tensor, given: Tensor) -> Tensor:
        """The decoder over a whole target; the readout of all steps is one product."""
        memory = self.encode(source)
        state = self.start(memory)
        words = self.dropout(self.embedding(given))
        contexts, states = [], []
        for word in words.unbind(dim=1):
            context, state = self._advance(word, memory, state)
            contexts.append(context)
            states.append(state[0])
        return self._logits(words, torch.stack(contexts, dim=1), torch.stack(states, dim=1))

    def _advance(self, word: Tensor, memory: Tensors, state: Tensors) -> tuple[Tensor, Tensors]:
        values, keys, real, _ = memory
        energy = self.energy((keys + self.query(state[0]).unsqueeze(1)).tanh()).squeeze(-1)
        weights = energy.masked_fill(~real, -torch.inf).softmax(dim=-1)
        context = torch.bmm(weights.unsqueeze(1), values).squeeze(1)
        given = torch.cat([word, context], dim=-1)
        if isinstance(self.cell, nn.LSTMCell):
            return context, self.cell(given, (state[0], state[1]))
        return context, (self.cell(given, state[0]),)

    def _logits(self, word: Tensor, context: Tensor, state: Tensor) -> Tensor:
        hidden = self.readout(torch.cat([word, context, state], dim=-1)).tanh()
        return self.embedding.logits(self.dropout(hidden))
