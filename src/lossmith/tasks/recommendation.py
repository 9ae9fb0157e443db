"""Users, or texts, to a ranking of all items."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn

from lossmith.core.call import format_call, parse_call
from lossmith.core.metric import Metric
from lossmith.core.module import Objective
from lossmith.core.own import is_own
from lossmith.core.spec import Inputs
from lossmith.data.interactions import InteractionData
from lossmith.data.side_features import SideFeatures
from lossmith.kernels.known_items import KnownItems
from lossmith.metrics.recommendation import top_k_metrics
from lossmith.tasks.factorization import Factorization, FeatureFactorization, VectorModel
from lossmith.tasks.hf import HF_SETTINGS
from lossmith.tasks.own_model import Call, asks_for, called, own_model
from lossmith.tasks.place import CPU, ask, moved, place_of
from lossmith.tasks.reader import Reader
from lossmith.tasks.recommendation_data import (
    TEXT_MODELS,
    USER_MODELS,
    Loaded,
    Texts,
    load,
    reads_texts,
)
from lossmith.tasks.recommendation_feeds import FEEDS, Batch
from lossmith.tasks.recommender import Apart, PairScores, Recommender
from lossmith.tasks.seen import row_bytes
from lossmith.tasks.settings import COMMON, ModelSetting, Setting
from lossmith.tasks.tagspace import NO_VECTORS, TextItems, TextScores, build_text_items
from lossmith.tasks.task import Description, GradientLearner, Learner, Problem, Share, Task
from lossmith.tasks.text import ENCODER_SETTINGS, HF_PRESET, shuffled_batches
from lossmith.tasks.warp_steps import fused_cost, is_fused, step_by_rows

USERS_AT_ONCE = 256


class RecommendationProblem(Problem):
    """Pairs (user, item) that happened; everything else is unknown, mostly no.

    With ``texts`` each user is a text, which no other part has.
    """

    def __init__(
        self,
        data: InteractionData,
        description: Description,
        texts: Texts | None = None,
        features: Mapping[str, SideFeatures] | None = None,
    ) -> None:
        self.data, self.users, self.items = data, data.users, data.items
        self.description, self.texts, self.features = description, texts, dict(features or {})
        self.pairs = {
            name: (torch.from_numpy(part.users), torch.from_numpy(part.items))
            for name, part in data.parts.items()
        }
        self.taken = {
            name: KnownItems(*pairs, num_items=data.items) for name, pairs in self.pairs.items()
        }
        self.known = self.taken["train"]
        self._known = {CPU: self.known}  # by device

    def model(self, settings: Mapping[str, Any]) -> nn.Module:
        """Matrix factorisation, with features where there are any, or a model of texts."""
        if self.texts is not None:
            return build_text_items(settings, self.texts.ids, self.texts.vocabulary, self.items)
        return build_factorization(settings, self.users, self.items, self.features)

    def batches(self, settings: Mapping[str, Any], seed: int, epoch: int) -> Iterable[Batch]:
        """Positive pairs; negatives are drawn with a generator of their own, also by seed."""
        users, items = self.pairs["train"]
        generator = torch.Generator().manual_seed(seed * 100_003 + epoch + 50_000)
        for rows in shuffled_batches(len(users), settings["batch_size"], seed, epoch):
            yield Batch(
                users.index_select(0, rows), items.index_select(0, rows), settings, generator
            )

    def generator(self, batch: Batch) -> torch.Generator:
        """The one that draws negatives."""
        return batch.generator

    def inputs_of(self, part: str) -> Iterable[bytes]:
        """The token ids of each text; pairs of users and items are told apart by name."""
        if self.texts is None:
            return ()
        return row_bytes(self.texts.ids[torch.unique(self.pairs[part][0])])

    def reader(self) -> Reader:
        """The names of users and items, and who has taken what."""
        if self.texts is not None and self.texts.encoder is not None:
            from lossmith.tasks.text_items_reader import TextItemsReader

            return TextItemsReader(self.texts.encoder, self.data.item_ids)
        from lossmith.tasks.recommendation_reader import RecommendationReader

        return RecommendationReader(self.data, self.features)

    def cost(self, model: nn.Module, batch: Batch, objective: Objective, feed: Inputs) -> Tensor:
        """The objective on one batch, and the penalty on the vectors that the batch used."""
        assert isinstance(model, Recommender)
        if isinstance(model, Factorization) and is_fused(objective):
            return fused_cost(self, model, batch, objective)
        value, penalty = FEEDS[feed](self, model, batch, objective)
        l2 = batch.settings["l2"]
        return value + l2 * penalty.mean() if l2 > 0 else value

    @property
    def examples(self) -> int:
        """The pairs of a user, or a text, and an item."""
        return len(self.pairs["train"][0])

    def apart(self, model: nn.Module, share: Share) -> nn.Module:
        """The scores of some pairs, or users, in each process; violators are sought in all."""
        assert isinstance(model, Recommender)
        return Apart(model, share)

    def whole_step(
        self, model: nn.Module, optimizer: torch.optim.Optimizer, objective: Objective
    ) -> Callable[[Any], Tensor] | None:
        """WARP's step on the rows that it touched, where the optimizer allows."""
        if isinstance(model, Factorization) and is_fused(objective):
            return step_by_rows(self, model, optimizer, objective)
        return None

    def negatives(self, batch: Batch, count: int) -> tuple[Tensor, Tensor]:
        """Uniform items ``[B, count]`` for each pair, and which of them are true negatives."""
        drawn = torch.randint(self.items, (len(batch.users), count), generator=batch.generator)
        items = moved(drawn, batch.users.device)
        return items, ~self.known_to(batch).contains(batch.users, items)

    def known_to(self, batch: Batch) -> KnownItems:
        """The training pairs, where the batch is."""
        device = batch.users.device
        if device not in self._known:
            self._known[device] = self.known.to(device)
        return self._known[device]

    @torch.no_grad()
    def evaluate(self, model: Any, part: str, metrics: Sequence[Metric]) -> dict[str, float]:
        """Each metric over all items, the user's training items left out, mean over users."""
        if isinstance(model, nn.Module):
            model.eval()
        if isinstance(model, TextItems | TextScores) and self.texts is not None:
            model.ids = moved(
                self.texts.ids, place_of(model)
            )  # a model from a folder has none of its own
        sums = {metric.name: 0.0 for metric in metrics}
        counts = dict.fromkeys(sums, 0)
        users, _ = self.pairs[part]
        for some in torch.split(torch.unique(users), USERS_AT_ONCE):
            relevant = self.taken[part].dense(some)
            excluded = self.known.dense(some)
            if part == "test" and "valid" in self.taken:
                excluded |= self.taken["valid"].dense(some)
            for name, values in top_k_metrics(
                ask(model, model.all_scores, some), relevant, excluded, metrics
            ).items():
                real = ~values.isnan()
                sums[name] += float(values[real].sum())
                counts[name] += int(real.sum())
        return {name: sums[name] / counts[name] if counts[name] else math.nan for name in sums}


def build_factorization(
    settings: Mapping[str, Any], users: int, items: int, features: Mapping[str, SideFeatures]
) -> Recommender:
    """Matrix factorisation, with features where there are any, or what the user's own code builds.

    A model of one's own scores pairs. One that is a :class:`VectorModel` shows its vectors too,
    by which all items are scored at once.
    """
    facts: dict[str, Any] = {"users": users, "items": items}
    for side, known in features.items():
        if asks_for(settings, f"{side}_features"):  # the table may be a large one
            facts[f"{side}_features"] = torch.from_numpy(known.dense())
    own = own_model(settings, facts)
    if isinstance(own, VectorModel):
        return own
    if own is not None:
        if settings["l2"] > 0:
            raise ValueError(NO_VECTORS.format(settings["model"]))
        return PairScores(called(own, settings, OF_PAIRS), items)
    if not features:
        return Factorization(users, items, dimension=settings["dimension"])
    return FeatureFactorization(
        users,
        items,
        user_features=features.get("user"),
        item_features=features.get("item"),
        dimension=settings["dimension"],
        identity=settings["identity"],
    )


OF_PAIRS = Call("model(users [M], items [M]) -> [M]", lambda users, items: tuple(users.shape))


MODELS = ("auto", *USER_MODELS, *TEXT_MODELS)

RECOMMENDATION_SETTINGS: Mapping[str, Setting] = {
    "user": Setting(str, "", "name of the user column; empty: guessed"),
    "item": Setting(str, "", "name of the item column; empty: guessed"),
    "value": Setting(str, "", "name of the rating or count column; empty: guessed"),
    "minimum": Setting(float, None, "smallest rating that counts as an interaction; empty: any"),
    "text": Setting(str, "", "name of the text column, where each row is a text with its items"),
    "user_features": Setting(str, "", "file of features of the users, with a column of ids"),
    "item_features": Setting(str, "", "file of features of the items, with a column of ids"),
    "identity": Setting(bool, True, "whether users and items have vectors of their own too"),
    "dimension": Setting(int, 64, "size of the vectors of users, items and words", low=1),
    "negatives": Setting(
        int, 1, "uniform negatives per positive, for the losses that take them", low=1
    ),
    "max_trials": Setting(int, 50, "draws in search of a violator, for WARP", low=1),
    "softmax": Setting(
        int, 0, "uniform negatives of a softmax over classes; 0: the whole catalogue", low=0
    ),
    "l2": Setting(float, 0.0, "penalty on the squared vectors that a batch used", low=0.0),
}


# What reads a text, and how a text and an item are compared.
TEXT_ITEM_SETTINGS: Mapping[str, Setting] = {
    "score": Setting(
        str, "dot", "of a text and an item: dot product or cosine", choices=("dot", "cosine")
    ),
    "scale": Setting(
        float, 10.0, "what a cosine is multiplied by; a margin of 1 is 1 / scale of it", low=1e-3
    ),
    **{name: ENCODER_SETTINGS[name] for name in ("keep", "tokenizer", "vocabulary", "length")},
    "filters": Setting(int, 256, "filters of tagspace", low=1),
    "width": Setting(int, 5, "words under a filter of tagspace", low=1),
    "dropout": Setting(float, 0.0, "dropout of the text models", low=0.0, high=0.95),
    **HF_SETTINGS,
}
# One for all models, so that the data may decide which of them it is.
PRESET: Mapping[str, Any] = {
    "epochs": 30,
    "batch_size": 1024,
    "learning_rate": 3e-3,
    "tokenizer": "words",
    "vocabulary": 20_000,
    "length": 64,
    "keep": "first",
}
# The vectors of items start from nothing: they need larger steps than a pretrained encoder.
HF_AND_ITEMS: Mapping[str, Any] = {
    **HF_PRESET,
    "learning_rate": 3e-3,
    "encoder_learning_rate": HF_PRESET["learning_rate"],
}


class RecommendationTask(Task):
    """Interactions, or texts with items, to a ranking of all items."""

    family = "recommendation"
    default_losses = ("binary_cross_entropy", "bpr", "warp")
    own_inputs = "positive+negative"
    metric_names = ("precision@10", "recall@10", "ndcg@10", "auc")
    peers = ("lightfm(loss='warp')",)
    filled_in = frozenset({"num_items"})
    presets = dict.fromkeys(MODELS, PRESET)
    settings = {
        "model": ModelSetting(
            str,
            "auto",
            "reference model; auto: factorization of users and items, tagspace of texts",
            choices=MODELS,
            encoder=HF_AND_ITEMS,
        ),
        **COMMON,
        **RECOMMENDATION_SETTINGS,
        **TEXT_ITEM_SETTINGS,
    }
    feeds = {
        "positive+draws": (
            "objective(positive, negatives, num_items=N, mask=true_negative)"
            "  # [B], [B, T] draws in order; see lm.sample_violators"
        ),
        "positive+negative": "objective(positive, negative, mask=true_negative)  # all [B, K]",
        "positive+catalogue": "objective(positive, scores, mask=true_negative)  # [B], [B, N]",
        "logits+binary": "objective(scores, target)  # both [B, K]; target 1 = taken, 0 = drawn",
        "logits+class": "objective(scores, item)  # [B, N] over all items, [B] the item taken",
        "scores+relevance": "objective(scores, taken)  # both [B, N]; 1 = taken, 0 = not",
        "logits+partial": "objective(scores, taken)  # both [B, N]; 1 = taken, 0 = not",
        "logits+distribution": "objective(scores, share)  # both [B, N]; rows of share sum to 1",
    }

    def check(self, loss: str, settings: Mapping[str, Any]) -> None:
        """Raise unless the loss reads, has these knobs, and fits this task or is LightFM's."""
        if self.is_peer(loss):
            from lossmith.tasks.lightfm import check_knobs

            check_knobs(loss)
            if settings["text"] or reads_texts(settings["model"]):
                raise ValueError(_NO_TEXTS.format(loss))
        else:
            super().check(loss, settings)

    def problem(self, data: str, settings: Mapping[str, Any]) -> RecommendationProblem:
        """The data in tensors."""
        return _problem(load(data, settings))

    def check_data(self, loss: str, problem: Problem) -> None:
        """Raise for LightFM on what it has no model for."""
        assert isinstance(problem, RecommendationProblem)
        if self.is_peer(loss) and problem.texts is not None:
            raise ValueError(_NO_TEXTS.format(loss))
        if self.is_peer(loss) and problem.features:
            raise ValueError(f"{loss} is given no features here: leave it out, or the features.")

    def tire(self, learner: GradientLearner) -> bool:
        """A search for violators costs most where there are none: among equal scores, at margin 0.

        An untrained model has many; the better it is, the longer the search.
        """
        text = learner.objective.text
        if learner.feed != "positive+draws" or is_own(text):
            return False
        name, knobs = parse_call(text)
        text = format_call(name, {**knobs, "margin": 0.0})
        learner.objective, _ = self.objective(text, learner.settings)
        with torch.no_grad():
            for parameter in learner.model.parameters():
                parameter.zero_()
        return True

    def restore(self, files: Mapping[str, bytes]) -> Reader:
        """The names of users and items, and who has taken what."""
        from lossmith.tasks.recommendation_reader import RecommendationReader
        from lossmith.tasks.text_items_reader import CATALOGUE, TextItemsReader

        reader = TextItemsReader if CATALOGUE in files else RecommendationReader
        return reader.restore(files)

    def learner(
        self, problem: Problem, loss: str, settings: Mapping[str, Any], seed: int
    ) -> Learner:
        """Our model under an objective, or LightFM as the anchor."""
        if self.is_peer(loss):
            from lossmith.tasks.lightfm import LightFMLearner

            assert isinstance(problem, RecommendationProblem)
            return LightFMLearner(problem, loss, settings, seed)
        return super().learner(problem, loss, settings, seed)


_NO_TEXTS = (
    "{} has no model of texts: LightFM knows users and items by their number. Leave it out here."
)


# A model's data are read once per process; Loaded is compared by identity, as it is cached itself.
@lru_cache(maxsize=4)
def _problem(loaded: Loaded) -> RecommendationProblem:
    return RecommendationProblem(loaded.data, loaded.description, loaded.texts, loaded.features)


TASK = RecommendationTask()
