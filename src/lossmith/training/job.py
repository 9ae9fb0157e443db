"""One training, as data: what decides its numbers, and what it leaves behind."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any


class RequestError(ValueError):
    """Something that was asked for cannot be done; the message says what to type instead."""


@dataclass(frozen=True)
class Job:
    """Everything that decides the numbers of one training."""

    family: str
    data: str
    loss: str  # the text of an objective, "warp(margin=0.5)", or of a peer, "lightfm(loss='warp')"
    seed: int
    settings: Mapping[str, Any] = field(default_factory=dict)  # resolved: every key of the task
    part: str = "test"  # what is scored; "valid" in a search, which must not see the test part


@dataclass(frozen=True)
class Epoch:
    """What one pass over the training part showed."""

    number: int  # counts from 1
    train_loss: float
    seconds: float
    valid: Mapping[str, float]  # the deciding metric's value; empty where there is no such part
    test: Mapping[str, float]  # metric name -> value


@dataclass(frozen=True)
class Outcome:
    """What one training leaves behind."""

    epochs: tuple[Epoch, ...]
    chosen: int  # number of the reported epoch: the best on validation data, or else the last
    scores: Mapping[str, float]  # test metrics of the chosen epoch
    seconds: float  # training only, evaluation left out
    peak_memory_mb: float
    parameters: int

    def as_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Outcome:
        """The inverse of :meth:`as_dict`."""
        epochs = tuple(Epoch(**epoch) for epoch in values["epochs"])
        return cls(**{**values, "epochs": epochs})
