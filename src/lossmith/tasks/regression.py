"""Text or features to a number."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any, Literal

import torch
from torch import Tensor, nn

from lossmith.core.metric import Metric
from lossmith.core.module import Objective
from lossmith.core.spec import Inputs
from lossmith.data.embedded import embedded
from lossmith.data.feature_rows import read_numbered, read_unnumbered
from lossmith.data.files import fingerprint
from lossmith.data.labelled import read_labelled, scored_file
from lossmith.data.numbers import ENDINGS as NUMBER_FILES
from lossmith.data.numbers import FeatureData, read_numbers, split_numbers
from lossmith.data.text import TextData
from lossmith.data.unlabelled import AT_ONCE, one_file
from lossmith.tasks.feature_models import InUnits, Perceptron
from lossmith.tasks.features import FEATURE_SETTINGS, FEATURES, FeatureScale, Scale
from lossmith.tasks.hf import is_hf
from lossmith.tasks.own_model import Call, called, own_model
from lossmith.tasks.reader import Question, Reader, Record
from lossmith.tasks.seen import row_bytes
from lossmith.tasks.settings import COMMON, ModelSetting, Setting
from lossmith.tasks.task import Description, Problem, Task, describe_split
from lossmith.tasks.text import (
    ENCODER_SETTINGS,
    HF_PRESET,
    TEXT_PRESETS,
    Encoding,
    Split,
    build_text_model,
    encoded,
    encoding_of,
    predict,
    shuffled_batches,
    split_of,
    text_tensors,
)
from lossmith.tasks.text_encoder import TextEncoder, numbered

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
        encoder: TextEncoder | FeatureScale | None = None,
    ) -> None:
        self.inputs, self.target = inputs, target
        self.description = description
        self.build, self.reads, self.encoder = build, reads, encoder
        self.centre, self.scale = 0.0, 1.0
        if "train" in target:
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

    def inputs_of(self, part: str) -> Iterable[bytes]:
        """The token ids, or the features, of each example."""
        return row_bytes(self.inputs[part])

    def reader(self) -> RegressionReader:
        """The tokenizer, or the names and scales of the features."""
        assert self.encoder is not None
        return RegressionReader(self.encoder)


class RegressionReader(Reader):
    """Texts or features for a model of a number; the units of the target are in its weights."""

    def __init__(self, encoder: TextEncoder | FeatureScale) -> None:
        self.encoder = encoder

    def files(self) -> dict[str, bytes]:
        """The tokenizer, or the names and scales of the features."""
        return self.encoder.files()

    def model(self, settings: Mapping[str, Any]) -> nn.Module:
        """A model whose output is in units of the target, once its weights are there."""
        return InUnits(_build(self.encoder)(settings), 0.0, 1.0)

    def labelled(self, data: str, settings: Mapping[str, Any]) -> RegressionProblem:
        """Texts or features with a number each."""
        number = settings["target"] or None
        if isinstance(self.encoder, TextEncoder):
            text = settings["text"] or None
            source = read_labelled(data, "regression", (), text=text, label=number)
            tensors = encoded(self.encoder, source)
            inputs, target, description = tensors.ids, tensors.labels, tensors.description
        else:
            path = scored_file(data, NUMBER_FILES)
            features, numbers = read_numbered(path, self.encoder.names, target=number)
            inputs = {"test": self.encoder.scale.apply(features)}
            target = {"test": torch.from_numpy(numbers)}
            rows = {"test": len(numbers)}
            content = fingerprint([features.tobytes(), numbers.tobytes()])
            description = Description(path.name, rows, (), content, "as given")
        return RegressionProblem(
            inputs, target, description, _build(self.encoder), reads_what(self.encoder)
        )

    def answers(self, model: nn.Module, question: Question) -> Iterator[list[Record]]:
        """The number for each example."""
        if isinstance(self.encoder, TextEncoder):
            outputs = self.encoder.outputs(model, question)
        else:
            features = read_unnumbered(one_file(question.source), self.encoder.names)
            inputs = torch.split(self.encoder.scale.apply(features), AT_ONCE)
            outputs = (predict(model, some) for some in inputs)
        return numbered(
            outputs, lambda numbers: [[{"prediction": one}] for one in numbers.tolist()]
        )


def reads_what(encoder: TextEncoder | FeatureScale) -> Literal["text", "features"]:
    """The kind of inputs that it makes tensors of."""
    return "text" if isinstance(encoder, TextEncoder) else "features"


OF_FEATURES = Call("model(features [N, F]) -> [N]", lambda features: (len(features),))


def _build(encoder: TextEncoder | FeatureScale) -> Build:
    def build(settings: Mapping[str, Any]) -> nn.Module:
        if isinstance(encoder, TextEncoder):
            return build_text_model(settings, encoder.vocabulary, outputs=1)
        own = own_model(settings, {"features": len(encoder.names)})
        if own is not None:
            return called(own, settings, OF_FEATURES)
        sizes = {name: settings[name] for name in ("hidden", "layers", "dropout")}
        return Perceptron(len(encoder.names), **sizes)

    return build


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
                f"model={settings['model']} reads a text, and the data has features, which are "
                "numbers. Try --model mlp (in Python, model='mlp'), a model of your own with "
                "--model my.py:build, or name the text column with --text (in Python, text=)."
            )
        if settings["model"] == "mlp" and problem.reads == "text":
            raise ValueError(
                "model=mlp reads features, and the data has a text. Try model=bag, or name the "
                "feature columns with --features (in Python, features=)."
            )
        return problem

    def restore(self, files: Mapping[str, bytes]) -> RegressionReader:
        """The tokenizer, or the names and scales of the features."""
        whole = FeatureScale if FEATURES in files else TextEncoder
        return RegressionReader(whole.restore(files))


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
    assert tensors.encoder is not None
    build = _build(tensors.encoder)
    return RegressionProblem(
        tensors.ids, tensors.labels, tensors.description, build, "text", tensors.encoder
    )


def _of_features(source: FeatureData, split: Split) -> RegressionProblem:
    test, valid, seed = split
    whole = split_numbers(source, test=test, valid=valid, seed=seed)
    parts = whole.parts
    encoder = FeatureScale(whole.features, Scale.of(parts["train"].features))
    return RegressionProblem(
        {name: encoder.scale.apply(part.features) for name, part in parts.items()},
        {name: torch.from_numpy(part.target) for name, part in parts.items()},
        Description(
            name=whole.name,
            rows={name: len(part) for name, part in parts.items()},
            notes=whole.notes,
            fingerprint=whole.fingerprint,
            split=describe_split(source.parts, parts, seed),
            facts={"features": len(whole.features)},
        ),
        _build(encoder),
        "features",
        encoder,
    )


TASK = RegressionTask()
