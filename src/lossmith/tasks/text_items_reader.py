"""Texts for a recommendation model that ranks items for them and is trained already."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from lossmith.data.errors import DataError
from lossmith.data.text_items import TextItemsData, TextItemsPart, read_text_items
from lossmith.data.unlabelled import read_texts
from lossmith.tasks.place import ask
from lossmith.tasks.reader import Question, Reader, Record, from_json, to_json
from lossmith.tasks.recommendation import RecommendationProblem
from lossmith.tasks.recommendation_data import Texts
from lossmith.tasks.tagspace import TextItems, TextScores, build_text_items
from lossmith.tasks.task import Description
from lossmith.tasks.text_encoder import TextEncoder, numbered

CATALOGUE = "catalogue.json"
TOP = 10


class TextItemsReader(Reader):
    """The tokenizer, and the names of the items."""

    def __init__(self, encoder: TextEncoder, items: list[str]) -> None:
        self.encoder, self.items = encoder, items

    def files(self) -> dict[str, bytes]:
        """The tokenizer, and the names of the items by their numbers."""
        return {**self.encoder.files(), CATALOGUE: to_json({"items": self.items})}

    @classmethod
    def restore(cls, files: Mapping[str, bytes]) -> TextItemsReader:
        """The inverse of :meth:`files`."""
        return cls(TextEncoder.restore(files), from_json(files[CATALOGUE])["items"])

    def model(self, settings: Mapping[str, Any]) -> nn.Module:
        """A model with vectors for these items; the texts come later."""
        none = torch.zeros(0, self.encoder.width, dtype=torch.int32)
        return build_text_items(settings, none, self.encoder.vocabulary, len(self.items))

    def labelled(self, data: str, settings: Mapping[str, Any]) -> RecommendationProblem:
        """Texts with items of the catalogue; other items are left out, with a note."""
        found = read_text_items(data, text=settings["text"] or None, item=settings["item"] or None)
        part = found.parts.get("test", found.parts["train"])
        known = set(self.items)
        kept = [[item for item in row if item in known] for row in part.items]
        if not any(kept):
            raise DataError(
                "no text has an item of the training", path=data, expected="some that have"
            )
        left_out = sum(map(len, part.items)) - sum(map(len, kept))
        notes = list(found.notes)
        if left_out:
            notes.append(f"{left_out:,} items that training did not know are left out.")
        # The catalogue first and whole, so that every item has the number it was trained with.
        catalogue = TextItemsPart([""] * len(self.items), [[item] for item in self.items])
        source = TextItemsData(
            found.name,
            {"train": catalogue, "test": TextItemsPart(part.texts, kept)},
            tuple(notes),
        )
        interactions = source.interactions()
        ids = self.encoder.encode(source.texts())
        description = Description(
            found.name, {"test": len(part)}, tuple(notes), interactions.fingerprint, "as given"
        )
        texts = Texts(ids, self.encoder.vocabulary, self.encoder)
        return RecommendationProblem(interactions, description, texts)

    def answers(self, model: nn.Module, question: Question) -> Iterator[list[Record]]:
        """The best items for each text."""
        assert isinstance(model, TextItems | TextScores)
        model.eval()
        top = min(question.top or TOP, len(self.items))

        def best(scores: Tensor) -> list[list[Record]]:
            values, places = scores.sort(dim=1, descending=True, stable=True)
            rows = zip(values[:, :top].tolist(), places[:, :top].tolist(), strict=True)
            return [
                [
                    {"item": self.items[place], "score": value}
                    for value, place in zip(*row, strict=True)
                ]
                for row in rows
            ]

        texts = read_texts(question.source, question.settings["text"] or None)
        yield from numbered((self._scores(model, some) for some in texts), best)

    @torch.no_grad()
    def _scores(self, model: TextItems | TextScores, texts: list[str]) -> Tensor:
        return ask(
            model, lambda ids: model.catalogue(model.read_texts(ids)), self.encoder.encode(texts)
        )
