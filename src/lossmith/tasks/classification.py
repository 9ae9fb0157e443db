"""Text to one class: two classes by one logit, more by one logit each."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lossmith.core.metric import Metric
from lossmith.core.module import Objective
from lossmith.core.spec import Inputs
from lossmith.tasks.settings import COMMON, ModelSetting
from lossmith.tasks.task import Problem, Task
from lossmith.tasks.text import (
    HF_PRESET,
    TEXT_PRESETS,
    TEXT_SETTINGS,
    TextTensors,
    build_text_model,
    load_text,
    predict,
    shuffled_batches,
)

Batch = tuple[Tensor, Tensor]


class ClassificationProblem(Problem):
    """Texts with a class each."""

    def __init__(self, tensors: TextTensors) -> None:
        self.tensors = tensors
        self.description = tensors.description
        self.binary = len(tensors.classes) == 2

    def model(self, settings: Mapping[str, Any]) -> nn.Module:
        """A fresh model; two classes share one logit, whatever the loss."""
        outputs = 1 if self.binary else len(self.tensors.classes)
        return build_text_model(settings, self.tensors.vocabulary, outputs)

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

    def problem(self, data: str, settings: Mapping[str, Any]) -> ClassificationProblem:
        """The data in tensors."""
        return ClassificationProblem(load_text(self.family, data, settings))


TASK = ClassificationTask()
