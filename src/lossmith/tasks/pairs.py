"""Parallel text in tensors: token ids, where the keywords stand, and batches of like length."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from lossmith.data.parallel import ParallelPart
from lossmith.kernels.terms import find_terms
from lossmith.tasks.codec import BEGIN_ID, END_ID, UNKNOWN_ID, Codec, Encoded
from lossmith.tasks.hf import hf_tokens, is_hf
from lossmith.tasks.text import shuffled_batches

IGNORED = -100  # a target that is padding
WINDOW = 50  # batches whose rows are sorted by length together
Phrases = list[tuple[int, ...]]


class Batch(NamedTuple):
    """Some pairs. The target is led by nothing and ends with the mark of the end."""

    source: Tensor  # [B, S]
    given: Tensor  # [B, T], the target moved on by one place, led by the mark of the beginning
    target: Tensor  # [B, T], IGNORED at the padding
    phrases: list[Phrases]  # the keywords of each row in token ids
    marked: Tensor  # [B, T], True where the target says a keyword


@dataclass(frozen=True)
class EncodedPart:
    """A part in token ids, and its texts."""

    source: list[Tensor]
    target: list[Tensor]
    phrases: list[Phrases]
    marked: list[Tensor]
    text: ParallelPart

    def __len__(self) -> int:
        return len(self.source)

    def batch(self, rows: Sequence[int]) -> Batch:
        """These rows side by side; padding stands behind."""
        target = pad_sequence([self.target[i] for i in rows], True, IGNORED)
        # An end mark moves to where the target is padding already; no real place looks there.
        given = torch.where(target == IGNORED, 0, target).roll(1, dims=1)
        given[:, 0] = BEGIN_ID
        return Batch(
            self.sources(rows),
            given,
            target,
            [self.phrases[i] for i in rows],
            pad_sequence([self.marked[i] for i in rows], True, False),
        )

    def sources(self, rows: Sequence[int]) -> Tensor:
        """The sources of these rows alone."""
        return pad_sequence([self.source[i] for i in rows], True, 0)

    def shuffled(self, size: int, seed: int, epoch: int) -> Iterable[Batch]:
        """Every row once, rows of like length together; the order depends on seed and epoch."""
        for window in shuffled_batches(len(self), size * WINDOW, seed, epoch):
            rows = sorted(window.tolist(), key=self._size)
            batches = [rows[i : i + size] for i in range(0, len(rows), size)]
            for b in shuffled_batches(len(batches), 1, seed, epoch):
                yield self.batch(batches[int(b)])

    def _size(self, row: int) -> int:
        return len(self.source[row]) + len(self.target[row])

    def in_order_of_length(self, size: int) -> list[list[int]]:
        """Row numbers in batches with little padding, for evaluation."""
        rows = sorted(range(len(self)), key=self._size)
        return [rows[i : i + size] for i in range(0, len(rows), size)]


class Pretrained(NamedTuple):
    """A pretrained encoder that reads the sources, and how many of its tokens it reads."""

    model: str
    length: int

    @classmethod
    def of(cls, settings: Mapping[str, Any]) -> Pretrained | None:
        """What the settings name, if it is one."""
        return cls(settings["model"], settings["length"]) if is_hf(settings["model"]) else None


def encode_part(
    codec: Codec, part: ParallelPart, pretrained: Pretrained | None = None
) -> EncodedPart:
    """A part in token ids. A keyword is the tokens that say it in the target; where the target
    lacks it, the tokens of the keyword alone.
    """
    targets = codec.encode(part.targets)
    phrases: list[Phrases] = []
    marked = []
    for text, encoded, terms in zip(part.targets, targets, part.keywords, strict=True):
        own, where = keyword_tokens(codec, text, encoded, terms)
        phrases.append(own)
        marked.append(torch.tensor([*where, False]))
    return EncodedPart(
        encode_source(codec, part.sources, pretrained),
        [torch.tensor([*one.ids, END_ID]) for one in targets],
        phrases,
        marked,
        part,
    )


def encode_source(
    codec: Codec, texts: Sequence[str], pretrained: Pretrained | None = None
) -> list[Tensor]:
    """The token ids of each source, with the mark of its end.

    Those of a pretrained encoder are one higher than its own, so that here too 0 is padding.
    """
    if pretrained is None:
        return [torch.tensor([*one.ids, END_ID]) for one in codec.encode(texts)]
    ids = hf_tokens(pretrained.model, texts, pretrained.length).long() + 1
    ids[:, 0].clamp_(min=1)  # an empty text is one token: there is something to look at
    return [row[row != 0] for row in ids]


def keyword_tokens(
    codec: Codec, text: str, encoded: Encoded, terms: Sequence[str]
) -> tuple[Phrases, list[bool]]:
    """The phrase of each keyword, and which tokens of the text say one.

    A keyword with a token that the vocabulary lacks is left out: no model could say it.
    """
    phrases: Phrases = []
    marked = [False] * len(encoded.ids)
    for term, places in zip(terms, find_terms(text, terms), strict=True):
        said = [_covering(encoded, *place) for place in places]
        ids = [encoded.ids[i] for i in said[0]] if said else codec.encode([term])[0].ids
        if UNKNOWN_ID in ids or not ids:
            continue
        phrases.append(tuple(ids))
        for i in (i for tokens in said for i in tokens):
            marked[i] = True
    return list(dict.fromkeys(phrases)), marked


def _covering(encoded: Encoded, start: int, end: int) -> list[int]:
    """The tokens that hold a character of the place."""
    return [i for i, (a, b) in enumerate(encoded.places) if a < end and b > start]
