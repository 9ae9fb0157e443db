"""Candidates for a ranking model that is trained already."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from lossmith.data.feature_rows import Listed, read_lists_of
from lossmith.data.files import fingerprint
from lossmith.data.labelled import scored_file
from lossmith.data.list_files import ENDINGS
from lossmith.data.unlabelled import one_file
from lossmith.tasks.features import FeatureScale
from lossmith.tasks.place import ask
from lossmith.tasks.ranking import LISTS_AT_ONCE, RankingProblem, build_list_model
from lossmith.tasks.reader import Question, Reader, Record, from_json, to_json
from lossmith.tasks.task import Description

GRADES = "grades.json"


class RankingReader(Reader):
    """Lists of items described by the features that were trained on."""

    def __init__(self, encoder: FeatureScale, highest: float) -> None:
        self.encoder, self.highest = encoder, highest

    def files(self) -> dict[str, bytes]:
        """The names and scales of the features, and the highest grade, which ERR counts from."""
        return {**self.encoder.files(), GRADES: to_json({"highest": self.highest})}

    @classmethod
    def restore(cls, files: Mapping[str, bytes]) -> RankingReader:
        """The inverse of :meth:`files`."""
        return cls(FeatureScale.restore(files), from_json(files[GRADES])["highest"])

    def model(self, settings: Mapping[str, Any]) -> nn.Module:
        """A model for as many features."""
        return build_list_model(settings, len(self.encoder.names))

    def labelled(self, data: str, settings: Mapping[str, Any]) -> RankingProblem:
        """Lists of items with a grade each."""
        path = scored_file(data, ENDINGS)
        found = self._read(str(path), settings, labelled=True).lists
        content = fingerprint([found.features.tobytes(), found.relevance.tobytes()])
        description = Description(path.name, {"test": len(found)}, (), content, "as given")
        return RankingProblem.judged(
            found, self.encoder, description, self.highest, settings["split_seed"]
        )

    def answers(self, model: nn.Module, question: Question) -> Iterator[list[Record]]:
        """The score of each item and its rank in its list; with ``top``, of the first ones alone.

        List by list, in the order of the file.
        """
        model.eval()
        source = str(one_file(question.source))
        found = self._read(source, question.settings, labelled=False)
        features = self.encoder.scale.apply(found.lists.features)
        sizes = found.lists.sizes.tolist()
        start = 0
        for first in range(0, len(sizes), LISTS_AT_ONCE):
            some = sizes[first : first + LISTS_AT_ONCE]
            lists = torch.split(features[start : start + sum(some)], some)
            records: list[Record] = []
            for i, scores in enumerate(_scores(model, lists), start=first):
                rows = found.rows[start : start + len(scores)].tolist()
                start += len(scores)
                records += _ranked(found.lists.queries[i], rows, scores, question.top)
            yield records

    def _read(self, path: str, settings: Mapping[str, Any], *, labelled: bool) -> Listed:
        return read_lists_of(
            one_file(path),
            self.encoder.names,
            query=settings["query"] or None,
            label=settings["label"] or None,
            labelled=labelled,
        )


@torch.no_grad()
def _scores(model: nn.Module, lists: tuple[Tensor, ...]) -> list[Tensor]:
    padded = nn.utils.rnn.pad_sequence(list(lists), batch_first=True)
    sizes = torch.tensor([len(one) for one in lists])
    mask = torch.arange(padded.shape[1]) < sizes.unsqueeze(-1)
    return [row[real] for row, real in zip(ask(model, model, padded, mask), mask, strict=True)]


def _ranked(query: str, rows: list[int], scores: Tensor, top: int | None) -> list[Record]:
    order = scores.argsort(descending=True, stable=True)
    rank = torch.empty_like(order)
    rank[order] = torch.arange(1, len(order) + 1)
    return [
        {"row": row + 1, "query": query, "rank": place, "score": score}
        for row, place, score in zip(rows, rank.tolist(), scores.tolist(), strict=True)
        if top is None or place <= top
    ]
