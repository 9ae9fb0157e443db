"""Text or features to a number."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any, Literal

import torch
from torch import Tensor, nn

from lossmith.core.metric import Metric
from lossmith.core.module import Objective
from lossmith.core.spec import Inputs
from lossmith.data.embedded import embedded
from lossmith.data.numbers import FeatureData, read_numbers, split_numbers
from lossmith.data.text import TextData
from lossmith.tasks.feature_models import InUnits, Perceptron
from lossmith.tasks.features import FEATURE_SETTINGS, standardised
from lossmith.tasks.hf import is_hf
from lossmith.tasks.own_model import own_model
from lossmith.tasks.settings import COMMON, ModelSetting, Setting
from lossmith.tasks.task import Description, Problem, Task, describe_split
from lossmith.tasks.text import (
    ENCODER_SETTINGS,
    HF_PRESET,
    TEXT_PRESETS,
    Encoding,
    Split,
    build_text_model,
    encoding_of,
    predict,
    shuffled_batches,
    split_of,
    text_tensors,
)

Batch = tuple[Tensor, Tensor]
Build = Callable[[Mapping[str, Any]], nn.Module]


class RegressionProblem(Problem):
    """Token ids or features, as ``reads`` says, with a number each; ``build`` makes a model."""

    def __init__(
        self,
        inputs: Mapping[str, Tensor],
        target: Mapping[str, Tensor],
        description: Description,
        build: Build,
        reads: Literal["text", "features"],
    ) -> None:
        self.inputs, self.target = inputs, target
        self.description = description
        self.build, self.reads = build, reads
        train = target["train"].double()
        self.centre = float(train.mean())
        self.scale = float(train.std(correction=0)) or 1.0

    def model(self, settings: Mapping[str, Any]) -> nn.Module:
        """A fresh model whose output is in units of the target."""
        return InUnits(self.build(settings), self.centre, self.scale)

    def batches(self, settings: Mapping[str, Any], seed: int, epoch: int) -> Iterable[Batch]:
        """Inputs and numbers."""
        inputs, target = self.inputs["train"], self.target["train"]
        for rows in shuffled_batches(len(inputs), settings["batch_size"], seed, epoch):
            yield inputs[rows], target[rows]

    def cost(self, model: nn.Module, batch: Batch, objective: Objective, feed: Inputs) -> Tensor:
        """The objective on one batch."""
        inputs, target = batch
        value: Tensor = objective(model(inputs), target)
        return value

    def evaluate(self, model: Any, part: str, metrics: Sequence[Metric]) -> dict[str, float]:
        """Each metric over the whole part."""
        prediction, target = predict(model, self.inputs[part]), self.target[part]
        return {metric.name: float(metric.function(prediction, target)) for metric in metrics}


class RegressionTask(Task):
    """Text or features to a number."""

    family = "regression"
    default_losses = ("squared_error", "absolute_error", "huber")
    metric_names = ("mae", "rmse", "r2", "within@0.5")
    presets = {
        "auto": {**TEXT_PRESETS["bag"], "hidden": 64, "learning_rate": 3e-3},
        **TEXT_PRESETS,
        "mlp": {
            **TEXT_PRESETS["bag"],
            "hidden": 64,
            "epochs": 40,
            "batch_size": 64,
            "learning_rate": 3e-3,
        },
    }
    settings = {
        "model": ModelSetting(
            str,
            "auto",
            "reference model; auto: bag for a text, mlp for features",
            choices=tuple(presets),
            encoder=HF_PRESET,
        ),
        **COMMON,
        "text": Setting(str, "", "name of the text column; empty: guessed"),
        "target": Setting(str, "", "name of the column with the number; empty: guessed"),
        **ENCODER_SETTINGS,
        **FEATURE_SETTINGS,
    }
    feeds = {"prediction+number": "objective(prediction, target)  # both [N]"}

    def problem(self, data: str, settings: Mapping[str, Any]) -> RegressionProblem:
        """The data in tensors."""
        roles = settings["text"], settings["target"], settings["features"]
        problem = _load(data, roles, split_of(settings), encoding_of(settings))
        texts = settings["model"] in TEXT_PRESETS or is_hf(settings["model"])
        if texts and problem.reads == "features":
            raise ValueError(
                f"model={settings['model']} reads a text, and the data has features. "
                "Try model=mlp, or name the text column with --text (in Python, text=)."
            )
        if settings["model"] == "mlp" and problem.reads == "text":
            raise ValueError(
                "model=mlp reads features, and the data has a text. Try model=bag, or name the "
                "feature columns with --features (in Python, features=)."
            )
        return problem


@lru_cache(maxsize=4)
def _load(
    data: str, roles: tuple[str, str, str], split: Split, encoding: Encoding
) -> RegressionProblem:
    text, target, features = (role or None for role in roles)
    if data == "embedded":
        found = embedded("regression")
        assert isinstance(found, TextData)
        return _of_texts(found, split, encoding)
    source = read_numbers(data, text=text, target=target, features=features)
    if isinstance(source, TextData):
        return _of_texts(source, split, encoding)
    return _of_features(source, split)


def _of_texts(source: TextData, split: Split, encoding: Encoding) -> RegressionProblem:
    tensors = text_tensors(source, split, encoding)

    def build(settings: Mapping[str, Any]) -> nn.Module:
        return build_text_model(settings, tensors.vocabulary, outputs=1)

    return RegressionProblem(tensors.ids, tensors.labels, tensors.description, build, "text")


def _of_features(source: FeatureData, split: Split) -> RegressionProblem:
    test, valid, seed = split
    whole = split_numbers(source, test=test, valid=valid, seed=seed)
    parts = whole.parts

    def build(settings: Mapping[str, Any]) -> nn.Module:
        own = own_model(settings, {"features": len(whole.features)})
        if own is not None:
            return own
        sizes = {name: settings[name] for name in ("hidden", "layers", "dropout")}
        return Perceptron(len(whole.features), **sizes)

    return RegressionProblem(
        standardised({name: part.features for name, part in parts.items()}),
        {name: torch.from_numpy(part.target) for name, part in parts.items()},
        Description(
            name=whole.name,
            rows={name: len(part) for name, part in parts.items()},
            notes=whole.notes,
            fingerprint=whole.fingerprint,
            split=describe_split(source.parts, parts, seed),
            facts={"features": len(whole.features)},
        ),
        build,
        "features",
    )


TASK = RegressionTask()
