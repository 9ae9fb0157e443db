"""Queries for a retrieval model that is trained already, and the corpus in which it finds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from lossmith.data.files import existing
from lossmith.data.queries import Queries, make_retrieval
from lossmith.data.query_files import read_retrieval
from lossmith.data.roles import ASKED
from lossmith.data.unlabelled import read_texts
from lossmith.tasks.reader import Question, Reader, Record, from_json, to_json
from lossmith.tasks.retrieval import RetrievalProblem, as_read
from lossmith.tasks.task import Description
from lossmith.tasks.text_encoder import TextEncoder, numbered
from lossmith.tasks.towers import TwoTowers, build_towers

CORPUS = "corpus.json"
TOP = 10


class RetrievalReader(Reader):
    """The tokenizer, and every document with what it is called."""

    def __init__(
        self, encoder: TextEncoder, query_width: int, documents: list[str], names: list[str]
    ) -> None:
        self.encoder, self.query_width = encoder, query_width
        self.documents, self.names = documents, names

    def files(self) -> dict[str, bytes]:
        """The tokenizer, and the corpus as JSON."""
        corpus = {
            "query_width": self.query_width,
            "documents": self.documents,
            "names": self.names,
        }
        return {**self.encoder.files(), CORPUS: to_json(corpus)}

    @classmethod
    def restore(cls, files: Mapping[str, bytes]) -> RetrievalReader:
        """The inverse of :meth:`files`."""
        return cls(TextEncoder.restore(files), **from_json(files[CORPUS]))

    def model(self, settings: Mapping[str, Any]) -> nn.Module:
        """Towers of the shape that was trained."""
        return build_towers(settings, torch.ones(self.encoder.vocabulary))

    def labelled(self, data: str, settings: Mapping[str, Any]) -> RetrievalProblem:
        """Judged queries, against the corpus of the training and what else they speak of."""
        path = existing(data)
        roles = {role: settings[role] or None for role in ("query", "positive", "negative")}
        found = read_retrieval(path, label=settings["label"] or None, **roles)
        asked = found.parts["test" if "test" in found.parts else "train"]
        place = {text: i for i, text in enumerate(self.documents)}
        number = torch.tensor([place.setdefault(text, len(place)) for text in found.documents])
        fresh = [text for text in place if place[text] >= len(self.documents)]
        called = dict(zip(found.documents, found.names, strict=True))
        part = Queries(asked.texts, asked.query, number.numpy()[asked.document], asked.grade)
        whole = make_retrieval(
            found.name,
            [*self.documents, *fresh],
            [*self.names, *(called[text] for text in fresh)],
            {"test": part},
            found.notes,
        )
        rows = {"test": len(part)}
        return RetrievalProblem(
            whole,
            self.encoder.encode(as_read(whole.documents, self.encoder)),
            {"test": self._queries(part.texts)},
            self.encoder.vocabulary,
            Description(whole.name, rows, whole.notes, whole.fingerprint, "as given"),
        )

    def answers(self, model: nn.Module, question: Question) -> Iterator[list[Record]]:
        """The best documents for each query."""
        assert isinstance(model, TwoTowers)
        index = model.index(self.encoder.encode(as_read(self.documents, self.encoder)))
        top = min(question.top or TOP, len(self.documents))

        def best(scores: Tensor) -> list[list[Record]]:
            values, places = scores.sort(dim=1, descending=True, stable=True)
            rows = zip(values[:, :top].tolist(), places[:, :top].tolist(), strict=True)
            return [
                [
                    {"document": self.names[place], "score": value, "text": self.documents[place]}
                    for value, place in zip(*row, strict=True)
                ]
                for row in rows
            ]

        column = question.settings["query"] or None
        texts = read_texts(question.source, column, ASKED)
        yield from numbered((model.scores(self._queries(some), index) for some in texts), best)

    def _queries(self, texts: list[str]) -> Tensor:
        encoder = replace(self.encoder, width=self.query_width)
        return encoder.encode(as_read(texts, self.encoder))
