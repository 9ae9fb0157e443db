"""Who is relevant to whom, in tensors: batches of pairs with what is known inside each."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from lossmith.data.queries import Queries
from lossmith.tasks.text import shuffled_batches


@dataclass(frozen=True)
class Batch:
    """Pairs of a query and a relevant document, and what else the batch holds for each query."""

    queries: Tensor  # token ids [B, Lq]
    positives: Tensor  # token ids [B, Ld]
    negatives: Tensor  # token ids [B, K, Ld] of documents known not to be relevant
    there: Tensor  # bool [B, K], which of them there are
    documents: Tensor  # [B], the places of the positives in the corpus
    grades: Tensor  # [B, B], of each document for each query; 0 = nothing is known, or not relevant
    drawn: Tensor  # [B, n], rows whose documents are candidates for negatives
    scale: float  # of the cosines, for the objectives that take scores

    @property
    def known(self) -> Tensor:
        """``[B, B]``: the document of another pair is relevant to the query as well."""
        return (self.grades > 0).fill_diagonal_(False)

    @property
    def copies(self) -> Tensor:
        """``[B, B]``: the document of another pair is the same document."""
        return (self.documents.unsqueeze(1) == self.documents).fill_diagonal_(False)

    @staticmethod
    def first_of_each(together: Tensor) -> Tensor:
        """``[B]``: True for the rows that nothing ties to an earlier one.

        >>> Batch.first_of_each(torch.tensor([[0, 0, 0], [0, 0, 0], [1, 0, 0]]).bool())
        tensor([ True,  True, False])
        """
        return ~(together | together.T).tril(-1).any(dim=1)


class Judged:
    """The judgements of one part: what is relevant to each query, what is known not to be."""

    def __init__(self, queries: Queries, documents: int) -> None:
        query, document, grade = (
            torch.from_numpy(column) for column in (queries.query, queries.document, queries.grade)
        )
        self.corpus = documents
        keys, order = (query * documents + document).sort()
        self.keys, self.grades = keys, grade[order]
        right, wrong = grade > 0, grade <= 0
        self.pairs = query[right], document[right]
        size = len(queries)
        self.right = _lists(query[right], document[right], size)
        self.right_grades = _lists(query[right], grade[right], size)
        self.wrong = _lists(query[wrong], document[wrong], size)
        self.wrong_count = torch.bincount(query[wrong], minlength=size)

    def relevant(self, queries: Tensor) -> tuple[Tensor, Tensor]:
        """The relevant documents of these queries and their grades, ``[Q, R]``, 0 behind them."""
        return self.right[queries], self.right_grades[queries]

    def grade(self, queries: Tensor, documents: Tensor) -> Tensor:
        """The grade ``[Q, D]`` of each document for each query, 0 where nothing is known."""
        wanted = queries.unsqueeze(1) * self.corpus + documents
        place = torch.searchsorted(self.keys, wanted).clamp(max=len(self.keys) - 1)
        return torch.where(self.keys[place] == wanted, self.grades[place], 0.0)

    def batches(
        self,
        queries: Tensor,
        documents: Tensor,
        settings: Mapping[str, Any],
        seed: int,
        epoch: int,
    ) -> Iterable[Batch]:
        """Every pair once; the order and what is drawn depend on seed and epoch alone."""
        asked, relevant = self.pairs
        generator = torch.Generator().manual_seed(seed * 100_003 + epoch + 50_000)
        hard = min(settings["hard_negatives"], self.wrong.shape[1])
        for rows in shuffled_batches(len(asked), settings["batch_size"], seed, epoch):
            query, document = asked[rows], relevant[rows]
            given, there = self._negatives(query, hard, generator)
            yield Batch(
                queries[query],
                documents[document],
                documents[given],
                there,
                document,
                self.grade(query, document),
                torch.randint(len(rows), (len(rows), settings["negatives"]), generator=generator),
                settings["scale"],
            )

    def _negatives(
        self, queries: Tensor, count: int, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Known negatives ``[B, count]`` of each query, each at most once; which are real."""
        size = self.wrong_count[queries].unsqueeze(1)
        start = torch.randint(1 << 30, (len(queries), 1), generator=generator)
        place = torch.arange(count).expand(len(queries), count)
        there = place < size
        chosen = (start + place) % size.clamp(min=1)
        return self.wrong[queries].gather(1, chosen) if count else place, there


def _lists(query: Tensor, values: Tensor, queries: int) -> Tensor:
    """The values of each query side by side, ``[queries, R]``, 0 behind them."""
    sizes = torch.bincount(query, minlength=queries).tolist()
    return pad_sequence(list(torch.split(values, sizes)), batch_first=True)
