"""A small Transformer (Vaswani et al. 2017) with its norms before the layers and cached steps."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lossmith.tasks.hf import Encoder
from lossmith.tasks.seq2seq import Seq2Seq, Tensors, TiedEmbedding


class Attention(nn.Module):
    """Scaled dot-product attention of several heads; keys and values can be kept."""

    def __init__(self, dimension: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value, self.out = (
            nn.Linear(dimension, dimension) for _ in range(4)
        )

    def remember(self, what: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values ``[B, H, S, E]`` of what is looked at, ``[B, S, D]``."""
        return self._split(self.key(what)), self._split(self.value(what))

    def forward(self, x: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
        """What each place of x ``[B, T, D]`` finds; mask True = may be looked at."""
        found = F.scaled_dot_product_attention(self._split(self.query(x)), key, value, mask)
        out: Tensor = self.out(found.transpose(1, 2).flatten(2))
        return out

    def _split(self, x: Tensor) -> Tensor:
        return x.view(*x.shape[:2], self.heads, -1).transpose(1, 2)


class Layer(nn.Module):
    """Attention to one's own sequence, in a decoder also to the source, then a hidden layer."""

    def __init__(
        self, dimension: int, heads: int, hidden: int, dropout: float, *, decoder: bool
    ) -> None:
        super().__init__()
        self.own = Attention(dimension, heads)
        self.cross = Attention(dimension, heads) if decoder else None
        self.norms = nn.ModuleList(nn.LayerNorm(dimension) for _ in range(3 if decoder else 2))
        self.hidden = nn.Sequential(
            nn.Linear(dimension, hidden), nn.ReLU(), nn.Linear(hidden, dimension)
        )
        self.dropout = nn.Dropout(dropout)

    def forward(
        self,
        x: Tensor,
        mask: Tensor | None,
        before: tuple[Tensor, Tensor] | None = None,
        source: tuple[Tensor, Tensor, Tensor] | None = None,
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """The new vectors, and the keys and values of all places so far.

        ``before`` holds those of earlier places; ``source`` keys, values and mask of the source.
        """
        normed = self.norms[0](x)
        key, value = self.own.remember(normed)
        if before is not None:
            key = torch.cat([before[0], key], dim=2)
            value = torch.cat([before[1], value], dim=2)
        x = x + self.dropout(self.own(normed, key, value, mask))
        if self.cross is not None and source is not None:
            x = x + self.dropout(self.cross(self.norms[1](x), *source))
        return x + self.dropout(self.hidden(self.norms[-1](x))), (key, value)


class Transformer(Seq2Seq):
    """Encoder and decoder of a few layers; sinusoidal positions; one table of tokens.

    A pretrained encoder may read in place of its own: then a source is that encoder's token ids,
    each one higher, and the table is the target's.
    """

    def __init__(
        self,
        vocabulary: int,
        *,
        dimension: int,
        heads: int,
        layers: int,
        hidden: int,
        dropout: float,
        pretrained: Encoder | None = None,
    ) -> None:
        super().__init__()
        check_sizes(dimension, heads)
        self.embedding = TiedEmbedding(vocabulary, dimension)

        def side(decoder: bool) -> nn.ModuleList:
            return nn.ModuleList(
                Layer(dimension, heads, hidden, dropout, decoder=decoder) for _ in range(layers)
            )

        self.encoder = side(decoder=False) if pretrained is None else pretrained
        self.bridge: nn.Module = nn.Identity()
        if pretrained is not None and pretrained.dimension != dimension:
            self.bridge = nn.Linear(pretrained.dimension, dimension)
        self.decoder = side(decoder=True)
        self.norm_source, self.norm_target = nn.LayerNorm(dimension), nn.LayerNorm(dimension)
        self.dropout = nn.Dropout(dropout)
        self.heads = heads

    def encode(self, source: Tensor) -> Tensors:
        """The mask of what is real, then keys and values of the source for each decoder layer."""
        real = (source != 0)[:, None, None, :]
        x = self.norm_source(self._read(source, real))
        kept: list[Tensor] = []
        for layer in self.decoder:
            assert isinstance(layer, Layer) and layer.cross is not None
            kept += layer.cross.remember(x)
        return (real, *kept)

    def _read(self, source: Tensor, real: Tensor) -> Tensor:
        if isinstance(self.encoder, Encoder):
            found: Tensor = self.bridge(self.encoder.hidden(source - 1))
            return found
        x = self._embed(source, 0)
        for layer in self.encoder:
            x, _ = layer(x, real)
        return x

    def start(self, memory: Tensors) -> Tensors:
        """Keys and values of no place yet, for each decoder layer."""
        return tuple(tensor[:, :, :0] for tensor in memory[1:])

    def step(self, token: Tensor, memory: Tensors, state: Tensors) -> tuple[Tensor, Tensors]:
        """One place more; the places before it are in the cache."""
        x = self._embed(token.unsqueeze(1), state[0].shape[2])
        logits, state = self._decode(x, memory, state, None)
        return logits.squeeze(1), state

    def forward(self, source: Tensor, given: Tensor) -> Tensor:
        """All places at once, each looking at those before it."""
        memory = self.encode(source)
        steps = given.shape[1]
        past = torch.ones(steps, steps, dtype=torch.bool, device=given.device).tril()
        logits, _ = self._decode(self._embed(given, 0), memory, self.start(memory), past)
        return logits

    def _decode(
        self, x: Tensor, memory: Tensors, state: Tensors, mask: Tensor | None
    ) -> tuple[Tensor, Tensors]:
        real, kept = memory[0], memory[1:]
        after: list[Tensor] = []
        for i, layer in enumerate(self.decoder):
            pair = slice(2 * i, 2 * i + 2)
            x, own = layer(x, mask, before=state[pair], source=(*kept[pair], real))
            after += own
        return self.embedding.logits(self.norm_target(x)), tuple(after)

    def _embed(self, ids: Tensor, first: int) -> Tensor:
        x = self.embedding(ids)
        place = torch.arange(first, first + ids.shape[1], device=ids.device, dtype=x.dtype)
        x = x + sinusoids(place, x.shape[-1])
        dropped: Tensor = self.dropout(x)
        return dropped


def check_sizes(dimension: int, heads: int) -> None:
    """Raise unless the heads can share the dimension, and sines and cosines its two halves."""
    if dimension % heads or dimension % 2:
        step = math.lcm(2, heads)
        raise ValueError(
            f"dimension={dimension} must be even and divide into heads={heads}; "
            f"try dimension={step * max(1, dimension // step)}."
        )


def sinusoids(place: Tensor, dimension: int) -> Tensor:
    """Sines and cosines ``[T, dimension]`` of places ``[T]``, of wavelengths up to 10,000 turns.

    >>> sinusoids(torch.tensor([0.0]), 4)
    tensor([[0., 0., 1., 1.]])
    """
    half = dimension // 2
    rate = torch.exp(torch.arange(half, device=place.device) * (-math.log(10_000.0) / half))
    angle = place.unsqueeze(-1) * rate
    return torch.cat([angle.sin(), angle.cos()], dim=-1)
