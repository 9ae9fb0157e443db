"""Candidates described by features to their order, query by query."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn

from lossmith.core.metric import Metric
from lossmith.core.module import Objective
from lossmith.core.spec import Inputs
from lossmith.data.embedded import embedded
from lossmith.data.lists import Lists, RankingData, read_ranking, split_ranking
from lossmith.tasks.feature_models import ItemByItem, ListAttention, Perceptron
from lossmith.tasks.features import FEATURE_SETTINGS, NO_TEXTS, FeatureScale, Scale
from lossmith.tasks.own_model import Call, called, own_model, takes
from lossmith.tasks.place import ask
from lossmith.tasks.reader import Reader
from lossmith.tasks.seen import row_bytes
from lossmith.tasks.settings import COMMON, ModelSetting, Setting
from lossmith.tasks.task import Description, Learner, Problem, Task, describe_split
from lossmith.tasks.text import shuffled_batches

LISTS_AT_ONCE = 64
# Features [B, n, F], relevance [B, n] and which of the n places hold an item, [B, n].
Batch = tuple[Tensor, Tensor, Tensor]


class PaddedLists:
    """Lists of one part; a batch of them is padded to its longest, and none is ever cut."""

    def __init__(self, lists: Lists, features: Tensor, *, seed: int) -> None:
        self.sizes = torch.from_numpy(lists.sizes)
        self.starts = self.sizes.cumsum(dim=0) - self.sizes
        # Metrics rank equal scores by place, and files often have the relevant items first: a
        # place that was drawn knows nothing of that.
        generator = torch.Generator().manual_seed(seed)
        draw = torch.rand(len(features), generator=generator, dtype=torch.float64)
        number = torch.repeat_interleave(torch.arange(len(self.sizes)), self.sizes)
        order = (number + draw).argsort()
        self.features = features[order]
        self.relevance = torch.from_numpy(lists.relevance)[order]

    def __len__(self) -> int:
        return len(self.sizes)

    def padded(self, index: Tensor) -> Batch:
        """Some lists, zeros behind the short ones."""
        sizes = self.sizes[index]
        places = torch.arange(int(sizes.max()))
        mask = places < sizes.unsqueeze(-1)
        items = torch.where(mask, self.starts[index].unsqueeze(-1) + places, 0)
        features = self.features[items].masked_fill(~mask.unsqueeze(-1), 0.0)
        return features, self.relevance[items].masked_fill(~mask, 0.0), mask


class RankingProblem(Problem):
    """Lists of items with a grade each."""

    def __init__(self, data: RankingData, description: Description, *, seed: int = 0) -> None:
        self.encoder = FeatureScale(data.features, Scale.of(data.parts["train"].features))
        self.parts = {
            name: PaddedLists(lists, self.encoder.scale.apply(lists.features), seed=seed)
            for name, lists in data.parts.items()
        }
        self.description = description
        self.highest = max(float(lists.relevance.max()) for lists in self.parts.values())

    @classmethod
    def judged(
        cls,
        lists: Lists,
        encoder: FeatureScale,
        description: Description,
        highest: float,
        seed: int,
    ) -> RankingProblem:
        """Lists as the part "test", for a model that is trained already."""
        made = cls.__new__(cls)
        made.encoder, made.description, made.highest = encoder, description, highest
        made.parts = {"test": PaddedLists(lists, encoder.scale.apply(lists.features), seed=seed)}
        return made

    def inputs_of(self, part: str) -> Iterable[bytes]:
        """The features of each list, in whichever order its items come."""
        lists = self.parts[part]
        for items in torch.split(lists.features, lists.sizes.tolist()):
            yield b"".join(sorted(row_bytes(items)))

    def reader(self) -> Reader:
        """The names and scales of the features, and the highest grade."""
        from lossmith.tasks.ranking_reader import RankingReader

        return RankingReader(self.encoder, self.highest)

    def model(self, settings: Mapping[str, Any]) -> nn.Module:
        """A fresh model that scores each item alone, or among the others of its list."""
        return build_list_model(settings, len(self.encoder.names))

    def batches(self, settings: Mapping[str, Any], seed: int, epoch: int) -> Iterable[Batch]:
        """Whole lists, padded."""
        lists = self.parts["train"]
        for index in shuffled_batches(len(lists), settings["batch_size"], seed, epoch):
            yield lists.padded(index)

    def cost(self, model: nn.Module, batch: Batch, objective: Objective, feed: Inputs) -> Tensor:
        """The objective on one batch; to a loss of yes and no, any grade above 0 is yes."""
        features, relevance, mask = batch
        scores = model(features, mask)
        if feed == "logits+binary":
            relevance = (relevance > 0).to(scores.dtype)
        value: Tensor = objective(scores, relevance, mask=mask)
        return value

    @torch.no_grad()
    def evaluate(self, model: Any, part: str, metrics: Sequence[Metric]) -> dict[str, float]:
        """Each metric, mean over the lists that have an answer."""
        if isinstance(model, nn.Module):
            model.eval()
        lists = self.parts[part]
        values: dict[str, list[Tensor]] = {metric.name: [] for metric in metrics}
        for index in torch.split(torch.arange(len(lists)), LISTS_AT_ONCE):
            features, relevance, mask = lists.padded(index)
            scores = ask(model, model, features, mask)
            for metric in metrics:
                scale = {"highest": self.highest} if metric.base == "err" else {}
                values[metric.name].append(metric.function(scores, relevance, mask, **scale))
        return {name: float(torch.cat(found).nanmean()) for name, found in values.items()}


OF_LISTS = Call(
    "model(features [B, n, F], mask [B, n]) -> [B, n]", lambda features, mask: tuple(mask.shape)
)


def build_list_model(settings: Mapping[str, Any], features: int) -> nn.Module:
    """The model that ``settings["model"]`` names."""
    own = own_model(settings, {"features": features})
    if own is not None:
        whole = own if takes(own, 2) else ItemByItem(own)
        return called(whole, settings, OF_LISTS)
    sizes = {name: settings[name] for name in ("hidden", "layers", "dropout")}
    if settings["model"] == "attention":
        return ListAttention(features, heads=settings["heads"], **sizes)
    return Perceptron(features, **sizes)


class RankingTask(Task):
    """Candidates to their order."""

    family = "ranking"
    default_losses = ("binary_cross_entropy", "ranknet", "listnet")
    metric_names = ("ndcg@10", "map", "mrr@10", "err@10", "pairwise_accuracy")
    peers = ("lightgbm(objective='lambdarank')",)
    presets = {
        "mlp": {
            "hidden": 64,
            "dropout": 0.0,
            "epochs": 30,
            "batch_size": 32,
            "learning_rate": 1e-3,
        },
        "attention": {
            "hidden": 64,
            "dropout": 0.1,
            "epochs": 30,
            "batch_size": 32,
            "learning_rate": 1e-3,
        },
    }
    settings = {
        "model": ModelSetting(
            str,
            "mlp",
            "reference model; attention: items also see the others of their list",
            choices=tuple(presets),
            no_encoder=NO_TEXTS,
        ),
        **COMMON,
        "query": Setting(str, "", "name of the query column; empty: guessed"),
        "label": Setting(str, "", "name of the relevance column; empty: guessed"),
        **FEATURE_SETTINGS,
        "heads": Setting(int, 4, "attention heads of the attention model", low=1),
        "fold": Setting(int, 1, "which fold, of data that comes in LETOR's five", low=1, high=5),
    }
    feeds = {
        "scores+relevance": "objective(scores, relevance, mask=mask)  # [B, n], mask True = item",
        "logits+binary": "objective(scores, (relevance > 0).float(), mask=mask)  # all [B, n]",
        "prediction+number": "objective(scores, relevance, mask=mask)  # all [B, n], item by item",
    }

    def check(self, loss: str, settings: Mapping[str, Any]) -> None:
        """Raise unless the loss reads, has these knobs, and fits this task or is LightGBM's."""
        if self.is_peer(loss):
            from lossmith.tasks.lightgbm import check_knobs

            check_knobs(loss)
        else:
            super().check(loss, settings)

    def problem(self, data: str, settings: Mapping[str, Any]) -> RankingProblem:
        """The data in tensors."""
        return _load(
            data,
            (settings["query"], settings["label"], settings["features"], settings["fold"]),
            (settings["test"], settings["valid"], settings["split_seed"]),
        )

    def restore(self, files: Mapping[str, bytes]) -> Reader:
        """The names and scales of the features, and the highest grade."""
        from lossmith.tasks.ranking_reader import RankingReader

        return RankingReader.restore(files)

    def learner(
        self, problem: Problem, loss: str, settings: Mapping[str, Any], seed: int
    ) -> Learner:
        """Our model under an objective, or LightGBM as the anchor."""
        if self.is_peer(loss):
            from lossmith.tasks.lightgbm import LightGBMLearner

            assert isinstance(problem, RankingProblem)
            return LightGBMLearner(problem, loss, settings, seed)
        return super().learner(problem, loss, settings, seed)


@lru_cache(maxsize=2)
def _load(
    data: str, roles: tuple[str, str, str, int], split: tuple[float, float, int]
) -> RankingProblem:
    query, label, features, fold = roles
    test, valid, seed = split
    if data == "embedded":
        found = embedded("ranking")
        assert isinstance(found, RankingData)
        source = found
    else:
        source = read_ranking(
            data,
            query=query or None,
            label=label or None,
            features=features or None,
            fold=fold,
        )
    whole = split_ranking(source, test=test, valid=valid, seed=seed)
    longest = max(int(lists.sizes.max()) for lists in whole.parts.values())
    items = sum(len(lists.relevance) for lists in whole.parts.values())
    note = f"{items:,} items in {sum(map(len, whole.parts.values())):,} lists, up to {longest:,}."
    description = Description(
        name=whole.name,
        rows={name: len(lists) for name, lists in whole.parts.items()},
        notes=(*whole.notes, note),
        fingerprint=whole.fingerprint,
        split=describe_split(source.parts, whole.parts, seed),
        facts={"features": len(whole.features), "items": items},
    )
    return RankingProblem(whole, description, seed=seed)


TASK = RankingTask()
