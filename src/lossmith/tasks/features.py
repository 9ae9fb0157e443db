"""Tables of features for a model: brought to one scale by what the training part shows."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lossmith.tasks.settings import Setting

# What every model that reads features has.
FEATURE_SETTINGS: Mapping[str, Setting] = {
    "features": Setting(str, "", "names of the feature columns, comma-separated; empty: guessed"),
    "hidden": Setting(int, None, "size of the hidden layers", low=1),
    "layers": Setting(int, 2, "hidden layers of a model that reads features", low=0),
    "dropout": Setting(float, None, "dropout", low=0.0, high=0.95),
}


def standardised(parts: Mapping[str, NDArray[np.float32]]) -> dict[str, Tensor]:
    """Each feature less its mean and over its deviation, both of the training part alone.

    A blank (NaN) becomes 0, the mean; so does a feature that is constant in training, as nothing
    can be learnt from it.

    >>> parts = {"train": np.array([[1, 5], [3, 5]], "f4"), "test": np.array([[4, 9]], "f4")}
    >>> standardised(parts)["test"]
    tensor([[2., 0.]])
    """
    train = parts["train"].astype(np.float64)
    there = ~np.isnan(train)
    counts = there.sum(axis=0).clip(min=1)
    mean = np.where(there, train, 0.0).sum(axis=0) / counts
    deviation = np.sqrt(np.where(there, (train - mean) ** 2, 0.0).sum(axis=0) / counts)
    # The rounding of float32 is no variation.
    constant = deviation <= 1e-7 * np.abs(mean)
    scale = np.where(constant, 0.0, 1.0 / np.where(constant, 1.0, deviation))
    return {
        name: torch.from_numpy(
            np.nan_to_num((values - mean) * scale, nan=0.0, posinf=None, neginf=None).astype(
                np.float32
            )
        )
        for name, values in parts.items()
    }
