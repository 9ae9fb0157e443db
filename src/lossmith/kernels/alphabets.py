"""The tokens that a loss of keywords looks at, and the keywords named by their columns.

Shapes: B sequences, T positions, A tokens in the alphabet of a sequence; G is 1 where keywords are
shared and B where each sequence has its own.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from lossmith.kernels.collapse import Columns
from lossmith.kernels.keywords import Keywords, check_keyword_tensor, first_places, read_keywords
from lossmith.kernels.phrases import Padded, pad


@dataclass(frozen=True)
class Alphabets:
    """Which columns a short row has, and what stands where in it."""

    columns: Columns  # of the B * T rows
    place: Tensor | None  # [B, T] the column of the target; None without a target
    keywords: Keywords  # the same keywords, a token named by its column
    asked: Tensor  # [B] bool: whether a sequence has a keyword that fits into it

    @classmethod
    def of(
        cls, keywords: Keywords | None, target: Tensor | None, valid: Tensor, vocabulary: int
    ) -> Alphabets:
        """From token ids (see ``keyword_presence``), ``target`` and ``valid [B, T]``.

        >>> valid = torch.tensor([[True, True]])
        >>> made = Alphabets.of([7, (7, 4)], torch.tensor([[4, 9]]), valid, vocabulary=10)
        >>> made.keywords, made.place.tolist()
        ([(1,), (1, 0)], [[0, 2]])
        """
        batch, length = valid.shape
        tokens, named, shortest = _read(keywords, batch, vocabulary, valid.device)
        ids = tokens.ids.unsqueeze(1).expand(batch, length, -1)
        active = tokens.real.unsqueeze(1).expand(batch, length, -1)
        place = None
        if target is not None:
            target = torch.where(valid, target, 0).long().unsqueeze(-1)
            same = (target == ids) & active
            listed = same.any(dim=-1)
            place = torch.where(listed, same.long().argmax(dim=-1), ids.shape[-1])
            ids = torch.cat([ids, target], dim=-1)
            active = torch.cat([active, (valid & ~listed).unsqueeze(-1)], dim=-1)
        width = ids.shape[-1]
        columns = Columns.of(ids.reshape(-1, width), active.reshape(-1, width))
        asked = (shortest > 0) & (valid.sum(dim=-1) >= shortest)
        return cls(columns, place, named, asked)

    def of_sequences(self, some: slice) -> Alphabets:
        """Those of some sequences; their columns, which have served already, are left out."""
        keywords = self.keywords
        if isinstance(keywords, list) and keywords and isinstance(keywords[0], list):
            keywords = keywords[some]
        place = None if self.place is None else self.place[some]
        return replace(self, place=place, keywords=keywords, asked=self.asked[some])


def _read(
    keywords: Keywords | None, sequences: int, vocabulary: int, device: torch.device
) -> tuple[Padded, Keywords, Tensor]:
    """The alphabet, the keywords by column, and the tokens of the shortest, 0 without any."""
    if isinstance(keywords, Tensor):
        check_keyword_tensor(keywords, vocabulary)
        if keywords.numel() > 0:
            ids = keywords.long()
            first = first_places(ids)  # what is listed twice is named by its first column
            real = first == torch.arange(len(ids), device=ids.device)
            return Padded(ids[None], real[None]), first, torch.ones_like(ids[:1])
        keywords = []
    groups = [] if keywords is None else read_keywords(keywords, vocabulary, sequences)
    groups = groups or [[]]
    alphabets = [sorted({token for phrase in group for token in phrase}) for group in groups]
    column = [{token: i for i, token in enumerate(alphabet)} for alphabet in alphabets]
    named = [
        [tuple(own[token] for token in phrase) for phrase in group]
        for group, own in zip(groups, column, strict=True)
    ]
    shortest = [min(map(len, group)) if group else 0 for group in groups]
    shared = len(named) == 1
    return (
        pad(alphabets, device),
        named[0] if shared else named,
        torch.tensor(shortest, device=device),
    )
