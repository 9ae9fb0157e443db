"""Text to one class: two classes by one logit, more by one logit each."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lossmith.core.metric import Metric
from lossmith.core.module import Objective
from lossmith.core.spec import Inputs
from lossmith.data.labelled import read_labelled
from lossmith.tasks.reader import Question, Reader, Record, from_json, to_json
from lossmith.tasks.seen import row_bytes
from lossmith.tasks.settings import COMMON, ModelSetting
from lossmith.tasks.task import Problem, Task
from lossmith.tasks.text import (
    HF_PRESET,
    TEXT_PRESETS,
    TEXT_SETTINGS,
    TextTensors,
    build_text_model,
    encoded,
    load_text,
    predict,
    shuffled_batches,
)
from lossmith.tasks.text_encoder import TextEncoder, numbered

Batch = tuple[Tensor, Tensor]
CLASSES = "classes.json"
OF_MANY_CLASSES = ("cross_entropy", "binary_cross_entropy", "margin_binary_cross_entropy")


class ClassificationProblem(Problem):
    """Texts with a class each."""

    def __init__(self, tensors: TextTensors) -> None:
        self.tensors = tensors
        self.description = tensors.description
        self.binary = len(tensors.classes) == 2

    def model(self, settings: Mapping[str, Any]) -> nn.Module:
        """A fresh model; two classes share one logit, whatever the loss."""
        return _model(settings, self.tensors.vocabulary, self.tensors.classes)

    def batches(self, settings: Mapping[str, Any], seed: int, epoch: int) -> Iterable[Batch]:
        """Token ids and class indices."""
        ids, labels = self.tensors.ids["train"], self.tensors.labels["train"]
        for rows in shuffled_batches(len(ids), settings["batch_size"], seed, epoch):
            yield ids[rows], labels[rows]

    def cost(self, model: nn.Module, batch: Batch, objective: Objective, feed: Inputs) -> Tensor:
        """The objective on one batch; one logit x means two classes with logits (0, x)."""
        ids, target = batch
        logits = model(ids)
        if self.binary:
            logits = logits.squeeze(-1)
        if feed == "logits+binary":
            wanted = target if self.binary else F.one_hot(target, logits.shape[-1])
            value: Tensor = objective(logits, wanted)
            return value
        if self.binary:
            logits = torch.stack([torch.zeros_like(logits), logits], dim=-1)
        if feed == "logits+distribution":
            target = F.one_hot(target, logits.shape[-1]).to(logits.dtype)
        value = objective(logits, target)
        return value

    def evaluate(self, model: Any, part: str, metrics: Sequence[Metric]) -> dict[str, float]:
        """Each metric over the whole part."""
        logits = predict(model, self.tensors.ids[part])
        logits = logits.squeeze(-1) if self.binary else logits
        target = self.tensors.labels[part]
        return {metric.name: float(metric.function(logits, target)) for metric in metrics}

    def inputs_of(self, part: str) -> Iterable[bytes]:
        """The token ids of each text."""
        return row_bytes(self.tensors.ids[part])

    def reader(self) -> ClassificationReader:
        """The tokenizer and the names of the classes."""
        assert self.tensors.encoder is not None
        return ClassificationReader(self.tensors.encoder, self.tensors.classes)


def _model(settings: Mapping[str, Any], vocabulary: int, classes: Sequence[str]) -> nn.Module:
    return build_text_model(settings, vocabulary, 1 if len(classes) == 2 else len(classes))


class ClassificationReader(Reader):
    """Texts for a model of classes."""

    def __init__(self, encoder: TextEncoder, classes: tuple[str, ...]) -> None:
        self.encoder, self.classes = encoder, classes

    def files(self) -> dict[str, bytes]:
        """The tokenizer and the names of the classes, in the order of the logits."""
        return {**self.encoder.files(), CLASSES: to_json(self.classes)}

    def model(self, settings: Mapping[str, Any]) -> nn.Module:
        """A model with these classes."""
        return _model(settings, self.encoder.vocabulary, self.classes)

    def labelled(self, data: str, settings: Mapping[str, Any]) -> ClassificationProblem:
        """Texts with one of these classes each."""
        columns = {name: settings[name] or None for name in ("text", "label")}
        source = read_labelled(data, "classification", self.classes, **columns)
        return ClassificationProblem(encoded(self.encoder, source))

    def answers(self, model: nn.Module, question: Question) -> Iterator[list[Record]]:
        """The likeliest class of each text, or the ``top`` likeliest, each with its probability.

        The probability is what the loss was trained to give: the sigmoid of a logit where each
        class was a question of its own, else the softmax over the classes.
        """
        top = min(question.top or 1, len(self.classes))

        def say(logits: Tensor) -> list[list[Record]]:
            if len(self.classes) == 2:
                yes = logits.squeeze(-1).double().sigmoid()
                probability = torch.stack([1 - yes, yes], dim=-1)
            elif question.feed == "logits+binary":
                probability = logits.double().sigmoid()
            else:
                probability = logits.double().softmax(dim=-1)
            best = probability.topk(top, dim=-1)
            return [
                [
                    {"label": self.classes[place], "probability": value}
                    for value, place in zip(values, places, strict=True)
                ]
                for values, places in zip(best.values.tolist(), best.indices.tolist(), strict=True)
            ]

        return numbered(self.encoder.outputs(model, question), say)


class ClassificationTask(Task):
    """Text to one class."""

    family = "classification"
    default_losses = ("binary_cross_entropy", "margin_binary_cross_entropy", "hinge")
    own_inputs = "logits+class"  # as most losses that people write for classes
    metric_names = ("accuracy", "macro_f1", "log_loss", "calibration")
    presets = TEXT_PRESETS
    settings = {
        "model": ModelSetting(
            str, "bag", "reference model", choices=tuple(TEXT_PRESETS), encoder=HF_PRESET
        ),
        **COMMON,
        **TEXT_SETTINGS,
    }
    feeds = {
        "logits+binary": "objective(logits, target)  # logits [N], target [N] of 0 and 1",
        "logits+class": "objective(logits, target)  # logits [N, C], target [N] class indices",
        "logits+distribution": "objective(logits, probabilities)  # both [N, C]",
    }

    def usual_losses(
        self, facts: Mapping[str, object], settings: Mapping[str, Any]
    ) -> tuple[str, ...]:
        """Of two classes losses of one logit; of more the softmax is among them."""
        return self.default_losses if facts["classes"] == 2 else OF_MANY_CLASSES

    def problem(self, data: str, settings: Mapping[str, Any]) -> ClassificationProblem:
        """The data in tensors."""
        return ClassificationProblem(load_text(self.family, data, settings))

    def restore(self, files: Mapping[str, bytes]) -> ClassificationReader:
        """The tokenizer and the names of the classes."""
        return ClassificationReader(TextEncoder.restore(files), tuple(from_json(files[CLASSES])))


TASK = ClassificationTask()
