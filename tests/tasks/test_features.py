from __future__ import annotations

import numpy as np
import torch

from lossmith.tasks.features import FeatureScale, Scale


def standardised(parts):
    scale = Scale.of(parts["train"])
    return {name: scale.apply(values) for name, values in parts.items()}


def test_a_scale_survives_its_file_to_the_last_digit():
    values = np.random.default_rng(0).normal(3.0, 7.0, size=(50, 3)).astype(np.float32)
    kept = FeatureScale(("a", "b", "c"), Scale.of(values))
    again = FeatureScale.restore(kept.files())
    assert again.names == kept.names and torch.equal(
        again.scale.apply(values), kept.scale.apply(values)
    )


def test_the_scale_is_that_of_the_training_part_alone():
    rng = np.random.default_rng(0)
    train = rng.normal(50, 7, (200, 3)).astype(np.float32)
    parts = {"train": train, "test": train[:5] + 1000}
    made = standardised(parts)
    expected = (train - train.astype("f8").mean(0)) / train.astype("f8").std(0)
    np.testing.assert_allclose(made["train"].numpy(), expected, rtol=1e-5, atol=1e-6)
    shift = 1000 / train.astype("f8").std(0)
    np.testing.assert_allclose(
        made["test"].numpy() - expected[:5], shift * np.ones((5, 1)), rtol=1e-4
    )
    again = standardised({**parts, "test": parts["test"] * 2})
    assert torch.equal(again["train"], made["train"])


def test_a_blank_is_the_mean_and_reaches_no_statistic():
    train = np.array([[1.0], [np.nan], [3.0]], dtype=np.float32)
    made = standardised({"train": train, "test": np.full((1, 1), np.nan, dtype=np.float32)})
    assert made["train"].tolist() == [[-1.0], [0.0], [1.0]]
    assert made["test"].tolist() == [[0.0]]


def test_what_is_constant_or_blank_in_training_says_nothing_anywhere():
    train = np.array([[0.1, np.nan]] * 3, dtype=np.float32)
    made = standardised({"train": train, "test": np.array([[9.0, 9.0]], dtype=np.float32)})
    assert not made["train"].any() and not made["test"].any()


def test_large_numbers_keep_their_digits():
    train = (1e9 + np.arange(0, 6400, 64).reshape(-1, 1)).astype(np.float32)
    made = standardised({"train": train})["train"]
    assert len(made.unique()) == 100 and made.isfinite().all()
