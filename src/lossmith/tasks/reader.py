"""What a trained model needs beside its weights to read new data, and what it answers."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import nn

from lossmith.core.spec import Inputs

if TYPE_CHECKING:
    from lossmith.tasks.task import Problem

# One line of the answer: plain values, a list of texts, or numbers by name.
Record = dict[str, Any]


@dataclass(frozen=True)
class Question:
    """What a model is asked: the inputs, and how they are read."""

    source: str  # a file in the family's format, or "-" for the lines of stdin
    settings: Mapping[str, Any]  # those it was trained with: the columns' names among them
    feed: Inputs | None  # what the loss was fed with, which says what a logit means
    top: int | None = None  # how many answers to each input; None: what the family usually gives


class Reader(ABC):
    """What a model was trained to read: vocabulary, names of classes, scales of features.

    A problem makes it (:meth:`Problem.reader`), a model folder keeps its :meth:`files` beside the
    weights, and the task makes it again from them (:meth:`Task.restore`). Nothing in it is code:
    the files hold JSON, or tensors as safetensors.
    """

    @abstractmethod
    def files(self) -> dict[str, bytes]:
        """What to keep, by file name; :meth:`Task.restore` reads it back."""

    @abstractmethod
    def model(self, settings: Mapping[str, Any]) -> nn.Module:
        """A model of the shape that was trained, for the weights to be loaded into."""

    @abstractmethod
    def labelled(self, data: str, settings: Mapping[str, Any]) -> Problem:
        """Labelled data, the file or the test part of a folder, as the part "test" of a problem.

        What is read is encoded as in training, so that the problem evaluates this model. A label
        that was not trained on, or a column that is not there, raises a DataError.
        """

    @abstractmethod
    def answers(self, model: nn.Module, question: Question) -> Iterator[list[Record]]:
        """The answers to the inputs, in their order, some at a time; labels are not needed.

        An input that cannot be read raises a DataError with its file and line.
        """


def to_json(values: object) -> bytes:
    """Values as the bytes of a JSON file.

    >>> from_json(to_json({"classes": ["no", "yes"]}))
    {'classes': ['no', 'yes']}
    """
    return (json.dumps(values, ensure_ascii=False) + "\n").encode("utf-8", "surrogatepass")


def from_json(content: bytes) -> Any:
    """The inverse of :func:`to_json`."""
    return json.loads(content.decode("utf-8", "surrogatepass"))
