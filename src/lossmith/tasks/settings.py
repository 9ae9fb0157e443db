"""The settings of a task: their defaults, their checks, and the words for a wrong one."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lossmith.core.own import HF, is_own
from lossmith.core.words import did_you_mean


@dataclass(frozen=True)
class Setting:
    """One setting: its type, default (None: the model's preset says), meaning and bounds."""

    kind: type
    default: Any
    help: str
    choices: tuple[Any, ...] | None = None
    low: float | None = None
    high: float | None = None

    def read(self, name: str, value: Any) -> Any:
        """The value in its type; text from a command line is converted."""
        if value is None:
            return None
        try:
            read = self._convert(value)
        except (KeyError, TypeError, ValueError):
            raise ValueError(
                f"{name}={value!r} is not a {_KIND_NAMES[self.kind]} ({self.help})."
            ) from None
        if self.choices is not None and read not in self.choices:
            listed = ", ".join(map(str, self.choices))
            raise ValueError(f"{name}={value!r} is not a choice; expected one of {listed}.")
        if (self.low is not None and read < self.low) or (
            self.high is not None and read > self.high
        ):
            low = "-inf" if self.low is None else f"{self.low:g}"
            high = "inf" if self.high is None else f"{self.high:g}"
            raise ValueError(f"{name}={read!r} must lie in [{low}, {high}] ({self.help}).")
        return read

    def _convert(self, value: Any) -> Any:
        if self.kind is int and isinstance(value, float) and not value.is_integer():
            raise ValueError
        if self.kind is bool:
            return _ANSWERS[str(value).strip().lower()]
        if isinstance(value, bool):
            raise TypeError
        read = self.kind(value)
        # NaN is neither below nor above a bound, and no setting means anything at infinity.
        if self.kind is float and not math.isfinite(read):
            raise ValueError
        return read


@dataclass(frozen=True)
class ModelSetting(Setting):
    """The setting that names the model: one of the family's, or one of the user's own."""

    encoder: Mapping[str, Any] | None = None  # preset of a pretrained one, where it may be one
    no_encoder: str = ""  # else why not, and what to type

    def read(self, name: str, value: Any) -> Any:
        """One of the choices, what :func:`lossmith.core.own.own` finds, or ``hf:FOLDER``."""
        if isinstance(value, str) and (is_own(value) or (self.encoder and value.startswith(HF))):
            return value
        if isinstance(value, str) and value.startswith(HF):
            listed = ", ".join(map(str, self.choices or ()))
            raise ValueError(f"{name}={value}: {self.no_encoder}; or one of {listed}.")
        return super().read(name, value)


@dataclass(frozen=True)
class DeviceSetting(Setting):
    """The setting that names the device; "auto" becomes what is there when it is read."""

    def read(self, name: str, value: Any) -> Any:
        """A name; whether the device is there is seen where it is used."""
        if value == "auto":
            from lossmith.tasks.place import present

            return present()[-1].partition(":")[0]
        if value is not None and not re.fullmatch(r"cpu|mps|cuda(:\d+)?", str(value)):
            raise ValueError(
                f"{name}={value!r} is no device; expected cpu, cuda, cuda:N, mps or auto."
            )
        return value


_ANSWERS = {
    **dict.fromkeys(("yes", "true", "1", "on"), True),
    **dict.fromkeys(("no", "false", "0", "off"), False),
}
_KIND_NAMES = {int: "whole number", float: "finite number", str: "text", bool: "yes or no"}

# What every task has. A default of None is filled in by the preset of the model.
COMMON: Mapping[str, Setting] = {
    "epochs": Setting(int, None, "passes over the training part", low=1),
    "batch_size": Setting(int, None, "training examples per step", low=1),
    "optimizer": Setting(
        str,
        "adamw",
        "what follows the gradient; adagrad wants larger steps, and suits rare rows of a table",
        choices=("adamw", "adagrad"),
    ),
    "learning_rate": Setting(float, None, "step size of the optimizer", low=0.0),
    "weight_decay": Setting(
        float, 0.0, "weight decay of the optimizer; decoupled in AdamW", low=0.0
    ),
    "test": Setting(float, 0.2, "share held out for the test, where the data has none", low=0.0),
    "valid": Setting(
        float,
        0.1,
        "share of the training part held out to choose the epoch; 0: the last epoch is reported",
        low=0.0,
        high=0.9,
    ),
    "split_seed": Setting(int, 0, "seed of the split; the same for every run"),
    "evaluate_every": Setting(int, 1, "epochs between two evaluations", low=1),
    "metric": Setting(str, "", "the metric that decides; empty: the task's default"),
    "metrics": Setting(str, "", "metrics to report, comma-separated; empty: the task's own"),
    "inputs": Setting(str, "", "what a loss of your own is called with; empty: the task's usual"),
    "threads": Setting(int, 1, "threads of each training", low=1),
    "device": DeviceSetting(str, "cpu", "where the model computes: cpu, cuda, cuda:N, mps or auto"),
}


def resolve(
    settings: Mapping[str, Setting],
    presets: Mapping[str, Mapping[str, Any]],
    given: Mapping[str, Any],
) -> dict[str, Any]:
    """Every setting with its value: given, or the model's preset, or the default."""
    for name in given:
        if name not in settings:
            raise ValueError(f"there is no setting {name!r}.{did_you_mean(name, settings)}")
    values = {name: setting.read(name, given.get(name)) for name, setting in settings.items()}
    model = values["model"] if values["model"] is not None else settings["model"].default
    values["model"] = model
    # A model that is not the family's own is trained as its usual one is.
    preset = presets[model if model in presets else settings["model"].default]
    if str(model).startswith(HF):
        preset = {**preset, **(getattr(settings["model"], "encoder", None) or {})}
    for name, setting in settings.items():
        if values[name] is None:
            values[name] = preset.get(name, setting.default)
    return values
