"""What tasks on texts share: texts in tensors, the reference models, batches."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn

from lossmith.data.embedded import embedded
from lossmith.data.labels import MISSING
from lossmith.data.text import TextData, read_text, split_text
from lossmith.tasks.encoder import encode, train_tokenizer
from lossmith.tasks.hf import HF_SETTINGS, hf_model, hf_tokens, is_hf
from lossmith.tasks.own_model import Call, called, own_model
from lossmith.tasks.place import ask
from lossmith.tasks.settings import Setting
from lossmith.tasks.task import Description, describe_split
from lossmith.tasks.text_encoder import PretrainedTextEncoder, TextEncoder
from lossmith.tasks.text_models import Bag, ConvolutionalNet, RecurrentNet, SeparateBags

ENCODER_SETTINGS: Mapping[str, Setting] = {
    "tokenizer": Setting(str, None, "what a token is", choices=("words", "subwords")),
    "vocabulary": Setting(int, None, "tokens known to the model", low=4),
    "length": Setting(int, None, "tokens of a text that are read", low=1),
    "keep": Setting(str, None, "which end of a long text is read", choices=("first", "last")),
    "dimension": Setting(int, None, "size of a word embedding", low=1),
    "hidden": Setting(int, None, "size of the hidden layer or state", low=1),
    "filters": Setting(int, 250, "filters of the CNN", low=1),
    "width": Setting(int, 3, "words under a filter of the CNN", low=1),
    "dropout": Setting(float, None, "dropout", low=0.0, high=0.95),
    **HF_SETTINGS,
}
TEXT_SETTINGS: Mapping[str, Setting] = {
    "text": Setting(str, "", "name of the text column; empty: guessed"),
    "label": Setting(str, "", "name of the label column; empty: guessed"),
    **ENCODER_SETTINGS,
}

_BAG = {
    "tokenizer": "words",
    "vocabulary": 8000,
    "length": 512,
    "keep": "first",
    "dimension": 64,
    "dropout": 0.0,
    "hidden": 1,
    "epochs": 10,
    "batch_size": 128,
    "learning_rate": 5e-3,
}
# Su 2017's settings, from the Keras examples that it started from.
_CNN = {
    "tokenizer": "words",
    "vocabulary": 5000,
    "length": 400,
    "keep": "last",
    "dimension": 50,
    "hidden": 250,
    "dropout": 0.2,
    "epochs": 10,
    "batch_size": 32,
    "learning_rate": 1e-3,
}
_LSTM = {
    **_CNN,
    "vocabulary": 20000,
    "length": 80,
    "dimension": 128,
    "hidden": 128,
    "epochs": 15,
}
TEXT_PRESETS: Mapping[str, Mapping[str, Any]] = {
    "bag": _BAG,
    "subword_bag": {**_BAG, "tokenizer": "subwords"},
    "cnn": _CNN,
    "lstm": _LSTM,
}
# Of a pretrained encoder that is trained on: small steps, few passes.
HF_PRESET: Mapping[str, Any] = {
    "length": 128,
    "dropout": 0.1,
    "epochs": 3,
    "batch_size": 16,
    "learning_rate": 5e-5,
}
SEPARATE_PRESET: Mapping[str, Any] = {**_BAG, "dimension": 16}

OF_TEXT = "model(ids [N, L]) -> [N, outputs]"


def build_text_model(settings: Mapping[str, Any], vocabulary: int, outputs: int) -> nn.Module:
    """The model that ``settings["model"]`` names."""
    own = own_model(settings, {"vocabulary": vocabulary, "outputs": outputs})
    if own is not None:
        return called(own, settings, Call(OF_TEXT, lambda ids: (len(ids), outputs)))
    if is_hf(settings["model"]):
        return hf_model(settings, outputs)
    kind, dimension, dropout = settings["model"], settings["dimension"], settings["dropout"]
    if kind == "separate":
        return SeparateBags(vocabulary, outputs, dimension=dimension, dropout=dropout)
    if kind == "cnn":
        return ConvolutionalNet(
            vocabulary,
            outputs,
            dimension=dimension,
            filters=settings["filters"],
            width=settings["width"],
            hidden=settings["hidden"],
            dropout=dropout,
        )
    if kind == "lstm":
        return RecurrentNet(
            vocabulary, outputs, dimension=dimension, hidden=settings["hidden"], dropout=dropout
        )
    return Bag(vocabulary, outputs, dimension=dimension, dropout=dropout)


@dataclass(frozen=True)
class TextTensors:
    """Encoded texts and their labels, by part."""

    ids: Mapping[str, Tensor]
    labels: Mapping[str, Tensor]
    classes: tuple[str, ...]
    vocabulary: int
    description: Description
    encoder: TextEncoder | None = None  # None: the ids were made otherwise, as in tests


# test, valid, split_seed; tokenizer, vocabulary, length, keep.
Split = tuple[float, float, int]
Encoding = tuple[Any, int, int, str]


def split_of(settings: Mapping[str, Any]) -> Split:
    """What decides the parts."""
    return settings["test"], settings["valid"], settings["split_seed"]


def encoding_of(settings: Mapping[str, Any]) -> Encoding:
    """What decides the tokens; a pretrained encoder brings its own."""
    return (
        settings["model"] if is_hf(settings["model"]) else settings["tokenizer"],
        settings["vocabulary"],
        settings["length"],
        settings["keep"],
    )


def load_text(family: str, data: str, settings: Mapping[str, Any]) -> TextTensors:
    """Read, split and encode; once per process for the same data and settings."""
    return _load_text(
        family,
        data,
        settings["text"],
        settings["label"],
        split_of(settings),
        encoding_of(settings),
    )


@lru_cache(maxsize=4)
def _load_text(
    family: str,
    data: str,
    text: str,
    label: str,
    split: Split,
    encoding: Encoding,
) -> TextTensors:
    if data == "embedded":
        found = embedded(family)
        assert isinstance(found, TextData)
        return text_tensors(found, split, encoding)
    source = read_text(data, family, text=text or None, label=label or None)
    return text_tensors(source, split, encoding)


def text_tensors(source: TextData, split: Split, encoding: Encoding) -> TextTensors:
    """The texts split, and encoded by a tokenizer that the training part teaches."""
    test, valid, seed = split
    whole = split_text(source, test=test, valid=valid, seed=seed)
    parts = whole.parts
    # All at once, so that a text has the same padding in whichever part it stands.
    texts = [text for part in parts.values() for text in part.texts]
    ids, encoder = encode_texts(parts["train"].texts, texts, encoding)
    sizes = [len(part.texts) for part in parts.values()]
    description = Description(
        name=whole.name,
        rows={name: len(part.texts) for name, part in parts.items()},
        notes=whole.notes,
        fingerprint=whole.fingerprint,
        split=describe_split(source.parts, parts, seed),
        facts={"vocabulary": encoder.vocabulary, **label_facts(whole)},
    )
    return TextTensors(
        ids=dict(zip(parts, torch.split(ids, sizes), strict=True)),
        labels={name: torch.from_numpy(part.labels) for name, part in parts.items()},
        classes=whole.classes,
        vocabulary=encoder.vocabulary,
        description=description,
        encoder=encoder,
    )


def label_facts(source: object) -> dict[str, object]:
    """How many classes labelled texts have, and how many labels of the train part are missing."""
    if not isinstance(source, TextData) or not source.classes:
        return {}
    missing = int((source.parts["train"].labels == MISSING).sum())
    return {"classes": len(source.classes), "missing labels": missing}


def encoded(encoder: TextEncoder, source: TextData) -> TextTensors:
    """Labelled texts as the part "test", encoded for a model that is trained already."""
    part = source.parts["test"]
    return TextTensors(
        ids={"test": encoder.encode(part.texts)},
        labels={"test": torch.from_numpy(part.labels)},
        classes=source.classes,
        vocabulary=encoder.vocabulary,
        description=Description(
            name=source.name,
            rows={"test": len(part)},
            notes=source.notes,
            fingerprint=source.fingerprint,
            split="as given",
        ),
        encoder=encoder,
    )


def encode_texts(
    teach: Sequence[str], texts: Sequence[str], encoding: Encoding
) -> tuple[Tensor, TextEncoder]:
    """Token ids of the texts, and what makes them of others.

    The tokenizer is that of the pretrained encoder that ``encoding`` names, or it learns from
    the texts ``teach``.
    """
    kind, vocabulary, length, keep = encoding
    if is_hf(kind):
        ids = hf_tokens(kind, texts, length, keep=keep)
        return ids, PretrainedTextEncoder(None, ids.shape[1], keep, kind)
    tokenizer = train_tokenizer(teach, kind, vocabulary)
    ids = encode(tokenizer, texts, length, keep)
    return ids, TextEncoder(tokenizer, ids.shape[1], keep)


def shuffled_batches(rows: int, size: int, seed: int, epoch: int) -> Iterable[Tensor]:
    """Row numbers in batches, in an order that depends on seed and epoch alone."""
    generator = torch.Generator().manual_seed(seed * 100_003 + epoch)
    return torch.split(torch.randperm(rows, generator=generator), size)


@torch.no_grad()
def predict(model: nn.Module, ids: Tensor, size: int = 512) -> Tensor:
    """The logits of every row, without dropout."""
    model.eval()
    return torch.cat([ask(model, model, part) for part in torch.split(ids, size)])
