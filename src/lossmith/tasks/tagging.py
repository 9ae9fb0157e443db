"""Text to any number of labels, some or most of which nobody has given."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from lossmith.core.metric import Metric
from lossmith.core.module import Objective
from lossmith.core.spec import Inputs
from lossmith.data.labelled import read_labelled
from lossmith.data.labels import MISSING
from lossmith.tasks.reader import Question, Reader, Record, from_json, to_json
from lossmith.tasks.seen import row_bytes
from lossmith.tasks.settings import COMMON, ModelSetting, Setting
from lossmith.tasks.task import Description, Problem, Task
from lossmith.tasks.text import (
    HF_PRESET,
    SEPARATE_PRESET,
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
LABELS = "labels.json"


class TaggingProblem(Problem):
    """Texts with a row of labels each: 1, 0, or missing."""

    def __init__(self, tensors: TextTensors) -> None:
        self.tensors = tensors
        self.description = tensors.description

    def model(self, settings: Mapping[str, Any]) -> nn.Module:
        """A fresh model with one logit per label."""
        return build_text_model(settings, self.tensors.vocabulary, len(self.tensors.classes))

    def batches(self, settings: Mapping[str, Any], seed: int, epoch: int) -> Iterable[Batch]:
        """Token ids and labels, of which the setting ``observed`` leaves some."""
        ids = self.tensors.ids["train"]
        labels = hide_labels(self.tensors.labels["train"], settings["observed"], seed)
        for rows in shuffled_batches(len(ids), settings["batch_size"], seed, epoch):
            yield ids[rows], labels[rows]

    def cost(self, model: nn.Module, batch: Batch, objective: Objective, feed: Inputs) -> Tensor:
        """The objective on one batch; to a loss that knows no missing labels they are 0."""
        ids, labels = batch
        logits = model(ids)
        observed = labels != MISSING
        if feed == "logits+partial":
            given = objective.given.get("missing", MISSING)
            labels = torch.where(observed, labels, float(given))  # type: ignore[arg-type]  # a knob
            value: Tensor = objective(logits, labels)
        elif feed == "scores+relevance":
            value = objective(logits, torch.where(observed, labels, 0.0), mask=observed)
        else:
            value = objective(logits, torch.where(observed, labels, 0.0))
        return value

    def evaluate(self, model: Any, part: str, metrics: Sequence[Metric]) -> dict[str, float]:
        """Each metric over the whole part, on the labels that the data has."""
        logits, labels = predict(model, self.tensors.ids[part]), self.tensors.labels[part]
        return {metric.name: float(metric.function(logits, labels)) for metric in metrics}

    def inputs_of(self, part: str) -> Iterable[bytes]:
        """The token ids of each text."""
        return row_bytes(self.tensors.ids[part])

    def reader(self) -> TaggingReader:
        """The tokenizer and the names of the labels."""
        assert self.tensors.encoder is not None
        return TaggingReader(self.tensors.encoder, self.tensors.classes)


class TaggingReader(Reader):
    """Texts for a model of labels."""

    def __init__(self, encoder: TextEncoder, labels: tuple[str, ...]) -> None:
        self.encoder, self.labels = encoder, labels

    def files(self) -> dict[str, bytes]:
        """The tokenizer and the names of the labels, in the order of the logits."""
        return {**self.encoder.files(), LABELS: to_json(self.labels)}

    def model(self, settings: Mapping[str, Any]) -> nn.Module:
        """A model with these labels."""
        return build_text_model(settings, self.encoder.vocabulary, len(self.labels))

    def labelled(self, data: str, settings: Mapping[str, Any]) -> TaggingProblem:
        """Texts with some of these labels each."""
        columns = {name: settings[name] or None for name in ("text", "label")}
        source = read_labelled(data, "tagging", self.labels, **columns)
        return TaggingProblem(encoded(self.encoder, source))

    def answers(self, model: nn.Module, question: Question) -> Iterator[list[Record]]:
        """The labels of each text with a probability above one half, and every probability.

        With ``top``, the likeliest labels and no other.
        """

        def say(logits: Tensor) -> list[list[Record]]:
            rows = logits.double().sigmoid()
            best = rows.argsort(dim=-1, descending=True, stable=True).tolist()
            return [
                [self._record(row, order[: question.top], question.top)]
                for row, order in zip(rows.tolist(), best, strict=True)
            ]

        return numbered(self.encoder.outputs(model, question), say)

    def _record(self, row: list[float], order: list[int], top: int | None) -> Record:
        chosen = order if top is not None else [place for place in order if row[place] > 0.5]
        shown = order if top is not None else range(len(row))
        return {
            "labels": [self.labels[place] for place in chosen],
            "probabilities": {self.labels[place]: row[place] for place in shown},
        }


def hide_labels(labels: Tensor, observed: str, seed: int) -> Tensor:
    """Leave some cells of each row: "all", or how many drawn at random; the rest is missing.

    "1-balanced" leaves one cell a row, half the time a positive where the row has one (how an
    annotator's queue is often filled). Which cells are left depends on the seed alone.

    >>> labels = torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 1.0]])
    >>> (hide_labels(labels, "2", seed=0) != MISSING).sum(dim=1)
    tensor([2, 2])
    """
    if observed == "all":
        return labels
    generator = torch.Generator().manual_seed(seed)
    draw = torch.rand(labels.shape, generator=generator)
    if observed == "1-balanced":
        positive_wanted = torch.rand(len(labels), 1, generator=generator) < 0.5
        draw = draw + 2.0 * (positive_wanted & (labels == 1))
        count = 1
    else:
        count = int(observed)
    draw = torch.where(labels == MISSING, -1.0, draw)
    kept = draw.topk(min(count, labels.shape[1]), dim=1).indices
    visible = torch.zeros_like(labels, dtype=torch.bool).scatter(1, kept, True)
    return torch.where(visible, labels, MISSING)


class ObservedSetting(Setting):
    """The setting that says how many labels of each row are left."""

    def read(self, name: str, value: Any) -> Any:
        """ "all", "1-balanced" or a count."""
        if value is None:
            return None
        text = str(value)
        if text in ("all", "1-balanced") or (text.isdigit() and int(text) > 0):
            return text
        raise ValueError(
            f'{name}={value!r} is not a choice; expected "all", "1-balanced" or how many labels '
            "of each row are left, such as 1."
        )


class TaggingTask(Task):
    """Text to labels, with missing ones."""

    family = "tagging"
    default_losses = ("masked_binary_cross_entropy", "binary_cross_entropy", "pairwise_auc")
    own_inputs = "logits+binary"  # a loss that knows of missing labels says inputs=logits+partial
    metric_names = ("macro_auc", "macro_average_precision")
    presets = {**TEXT_PRESETS, "separate": SEPARATE_PRESET}
    settings = {
        "model": ModelSetting(
            str,
            "bag",
            "reference model; separate: one bag per label, sharing nothing",
            choices=(*TEXT_PRESETS, "separate"),
            encoder=HF_PRESET,
        ),
        **COMMON,
        **TEXT_SETTINGS,
        "observed": ObservedSetting(
            str, "all", "labels of each training row that are left: all, 1-balanced, or a count"
        ),
    }
    feeds = {
        "logits+partial": "objective(logits, labels)  # both [N, C]; labels 1, 0, -1 = missing",
        "logits+binary": "objective(logits, target)  # both [N, C]; target 1, 0",
        "scores+relevance": "objective(logits, labels, mask=labels >= 0)  # both [N, C]",
    }

    def describe(self, data: str, settings: Mapping[str, Any]) -> Description:
        """What the data is, and what was hidden of it."""
        description = super().describe(data, settings)
        if settings["observed"] == "all":
            return description
        hidden = (
            f"Of each training row's labels {settings['observed']} is left (setting observed; a "
            "loss may have its own); the other parts keep all of theirs."
        )
        return replace(description, notes=(*description.notes, hidden))

    def usual_losses(
        self, facts: Mapping[str, object], settings: Mapping[str, Any]
    ) -> tuple[str, ...]:
        """Where every label is known, to learn from the observed ones is to learn from all."""
        all_known = settings["observed"] == "all" and not facts["missing labels"]
        return self.default_losses[1:] if all_known else self.default_losses

    def problem(self, data: str, settings: Mapping[str, Any]) -> TaggingProblem:
        """The data in tensors."""
        return TaggingProblem(load_text(self.family, data, settings))

    def restore(self, files: Mapping[str, bytes]) -> TaggingReader:
        """The tokenizer and the names of the labels."""
        return TaggingReader(TextEncoder.restore(files), tuple(from_json(files[LABELS])))


TASK = TaggingTask()
