"""Users for a recommendation model that is trained already."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import polars as pl
import safetensors.torch
import torch
from torch import Tensor, nn

from lossmith.data.errors import DataError
from lossmith.data.interaction_files import ENDINGS, read_log
from lossmith.data.interactions import InteractionData, make_interactions, unique_pairs
from lossmith.data.labelled import scored_file
from lossmith.data.side_features import SideFeatures
from lossmith.data.unlabelled import read_ids
from lossmith.tasks.place import ask
from lossmith.tasks.reader import Question, Reader, Record, from_json, to_json
from lossmith.tasks.recommendation import RecommendationProblem, build_factorization
from lossmith.tasks.recommender import Recommender
from lossmith.tasks.task import Description

IDS, TAKEN = "ids.json", "taken.safetensors"
KNOWN = "features"  # of users and items, beside the pairs of each part
TOP = 10


class RecommendationReader(Reader):
    """The names of users and items, and who has taken what."""

    def __init__(
        self, data: InteractionData, features: Mapping[str, SideFeatures] | None = None
    ) -> None:
        self.data, self.features = data, dict(features or {})

    def files(self) -> dict[str, bytes]:
        """The names by their numbers, the pairs of every part, and what is known of both."""
        tensors = {
            f"{part}.{side}": torch.from_numpy(values)
            for part, pairs in self.data.parts.items()
            for side, values in (("users", pairs.users), ("items", pairs.items))
        }
        for side, known in self.features.items():
            tensors[f"{KNOWN}.{side}.index"] = torch.from_numpy(known.index)
            tensors[f"{KNOWN}.{side}.value"] = torch.from_numpy(known.value)
        names: dict[str, Any] = {"users": self.data.user_ids, "items": self.data.item_ids}
        names["features"] = {side: known.names for side, known in self.features.items()}
        return {IDS: to_json(names), TAKEN: safetensors.torch.save(tensors)}

    @classmethod
    def restore(cls, files: Mapping[str, bytes]) -> RecommendationReader:
        """The inverse of :meth:`files`."""
        names, tensors = from_json(files[IDS]), safetensors.torch.load(files[TAKEN])
        parts = {
            part: unique_pairs(
                tensors[f"{part}.users"].numpy(),
                tensors[f"{part}.items"].numpy(),
                len(names["items"]),
            )
            for part in dict.fromkeys(name.split(".")[0] for name in tensors)
            if part != KNOWN
        }
        features = {}
        for side, known in names["features"].items():
            index, value = (
                tensors[f"{KNOWN}.{side}.{what}"].numpy() for what in ("index", "value")
            )
            features[side] = SideFeatures(known, index, value)
        return cls(make_interactions("", names["users"], names["items"], parts, ()), features)

    def model(self, settings: Mapping[str, Any]) -> nn.Module:
        """A model with vectors for these users and items."""
        return build_factorization(settings, self.data.users, self.data.items, self.features)

    def labelled(self, data: str, settings: Mapping[str, Any]) -> RecommendationProblem:
        """Interactions of known users with known items; those of training are no prediction."""
        roles = {name: settings[name] or None for name in ("user", "item", "value")}
        log = read_log(scored_file(data, ENDINGS), **roles, minimum=settings["minimum"])
        users, items = (
            self._numbers(log.pairs.get_column(side), side) for side in ("user", "item")
        )
        known = (users >= 0) & (items >= 0)
        pairs = unique_pairs(users[known], items[known], self.data.items)
        before = {name: part for name, part in self.data.parts.items() if name != "test"}
        taken = np.concatenate([p.users * self.data.items + p.items for p in before.values()])
        trained = np.isin(pairs.users, self.data.parts["train"].users)
        pairs = pairs.rows(trained & ~np.isin(pairs.users * self.data.items + pairs.items, taken))
        if not len(pairs):
            raise DataError(
                "no interaction is of a user and an item of the training that is new",
                path=log.path,
                expected="some that the model was not trained on",
            )
        notes = list(log.notes)
        if len(pairs) < len(users):
            notes.append(
                f"{len(users) - len(pairs):,} of {len(users):,} interactions are left out: "
                "repeated, trained on, or of users or items that training did not know."
            )
        made = make_interactions(
            log.path.name, self.data.user_ids, self.data.item_ids, {**before, "test": pairs}, notes
        )
        rows = {"test": len(pairs)}
        description = Description(made.name, rows, made.notes, made.fingerprint, "as given")
        return RecommendationProblem(made, description)

    def answers(self, model: nn.Module, question: Question) -> Iterator[list[Record]]:
        """The best items for each user, all that the user has taken left out."""
        assert isinstance(model, Recommender)
        number = {name: place for place, name in enumerate(self.data.user_ids)}
        trained = set(self.data.parts["train"].users.tolist())
        for ids in read_ids(question.source, question.settings["user"] or None):
            users = []
            for name, error in ids:
                if number.get(name) not in trained:
                    raise error(
                        f"the user {name!r} has nothing to train on",
                        expected="a user of the training data",
                        fix="Leave it out: this model knows no other users.",
                    )
                users.append(number[name])
            names = [name for name, _ in ids]
            yield self._best(model, torch.tensor(users), names, question.top or TOP)

    @torch.no_grad()
    def _best(self, model: Recommender, users: Tensor, names: list[str], top: int) -> list[Record]:
        scores = ask(model, model.all_scores, users)
        for pairs in self.data.parts.values():
            for row, user in enumerate(users.tolist()):
                first, last = np.searchsorted(pairs.users, [user, user + 1])
                scores[row, torch.from_numpy(pairs.items[first:last])] = -torch.inf
        best = scores.topk(min(top, self.data.items), dim=1)
        return [
            {"user": name, "rank": rank, "item": self.data.item_ids[item], "score": score}
            for name, values, items in zip(
                names, best.values.tolist(), best.indices.tolist(), strict=True
            )
            for rank, (score, item) in enumerate(zip(values, items, strict=True), start=1)
            if score > -np.inf
        ]

    def _numbers(self, ids: pl.Series, side: str) -> np.ndarray[Any, np.dtype[np.int64]]:
        """The number of each name, -1 where training did not know it."""
        names = self.data.user_ids if side == "user" else self.data.item_ids
        number = {name: place for place, name in enumerate(names)}
        return np.array([number.get(name, -1) for name in ids.to_list()], dtype=np.int64)
