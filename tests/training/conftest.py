from __future__ import annotations

import random

import pytest
import torch


@pytest.fixture(autouse=True)
def own_threads():
    """A training sets the threads of its process; the other tests keep theirs."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def reviews(tmp_path_factory) -> str:
    """Texts of which most, not all, tell their class."""
    draw = random.Random(0)
    rows = ["text,label"]
    for _ in range(160):
        label = draw.random() < 0.5
        hint = ("good" if label else "bad") if draw.random() < 0.7 else "so"
        rest = " ".join(draw.choices(["the", "film", "plot", "was", "it", "and"], k=6))
        rows.append(f"{rest} {hint},{'yes' if label else 'no'}")
    path = tmp_path_factory.mktemp("reviews") / "reviews.csv"
    path.write_text("\n".join(rows))
    return str(path)


@pytest.fixture(scope="session")
def ratings(tmp_path_factory) -> str:
    draw = random.Random(0)
    pairs = [f"u{u},i{i}" for u in range(25) for i in range(20) if draw.random() < 0.3]
    path = tmp_path_factory.mktemp("ratings") / "ratings.csv"
    path.write_text("\n".join(["user,item", *pairs]))
    return str(path)
