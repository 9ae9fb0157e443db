"""Tables of features for a model: brought to one scale by what the training part shows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lossmith.tasks.reader import from_json, to_json
from lossmith.tasks.settings import Setting

FEATURES = "features.json"

# Why no pretrained encoder can be the model.
NO_TEXTS = (
    "a pretrained encoder reads texts, and here each row is numbers. Leave the model out, or type "
    "--model my.py:build for one of your own"
)
# What every model that reads features has.
FEATURE_SETTINGS: Mapping[str, Setting] = {
    "features": Setting(str, "", "names of the feature columns, comma-separated; empty: guessed"),
    "hidden": Setting(int, None, "size of the hidden layers", low=1),
    "layers": Setting(int, 2, "hidden layers of a model that reads features", low=0),
    "dropout": Setting(float, None, "dropout", low=0.0, high=0.95),
}


@dataclass(frozen=True)
class Scale:
    """The mean of each feature and what its distance from the mean is multiplied by, in float64.

    Both are of the training part alone. A blank (NaN) becomes 0, the mean; so does a feature that
    is constant in training, as nothing can be learnt from it.

    >>> train, test = np.array([[1, 5], [3, 5]], "f4"), np.array([[4, 9]], "f4")
    >>> Scale.of(train).apply(test)
    tensor([[2., 0.]])
    """

    mean: NDArray[np.float64]
    factor: NDArray[np.float64]  # 0 for a feature that is constant in training

    @classmethod
    def of(cls, features: NDArray[np.float32]) -> Scale:
        """What a training part shows; blanks (NaN) are left aside."""
        train = features.astype(np.float64)
        there = ~np.isnan(train)
        counts = there.sum(axis=0).clip(min=1)
        mean = np.where(there, train, 0.0).sum(axis=0) / counts
        deviation = np.sqrt(np.where(there, (train - mean) ** 2, 0.0).sum(axis=0) / counts)
        # The rounding of float32 is no variation.
        constant = deviation <= 1e-7 * np.abs(mean)
        return cls(mean, np.where(constant, 0.0, 1.0 / np.where(constant, 1.0, deviation)))

    def apply(self, features: NDArray[np.float32]) -> Tensor:
        """Each feature less its mean and over its deviation."""
        scaled = np.nan_to_num((features - self.mean) * self.factor, nan=0.0, posinf=None)
        return torch.from_numpy(scaled.astype(np.float32))


@dataclass(frozen=True)
class FeatureScale:
    """How a trained model reads features: their names, in order, and the scale of each."""

    names: tuple[str, ...]
    scale: Scale

    def files(self) -> dict[str, bytes]:
        """Names, means and factors, every digit of them."""
        mean, factor = self.scale.mean.tolist(), self.scale.factor.tolist()
        return {FEATURES: to_json({"names": self.names, "mean": mean, "factor": factor})}

    @classmethod
    def restore(cls, files: Mapping[str, bytes]) -> FeatureScale:
        """The inverse of :meth:`files`."""
        kept = from_json(files[FEATURES])
        return cls(tuple(kept["names"]), Scale(np.array(kept["mean"]), np.array(kept["factor"])))
