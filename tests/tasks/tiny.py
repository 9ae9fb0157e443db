"""Problems of a few rows, made in memory, and the settings to train on them."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import torch

from lossmith.data.interactions import make_interactions, unique_pairs
from lossmith.data.parallel import ParallelPart
from lossmith.tasks.classification import ClassificationProblem
from lossmith.tasks.codec import Codec
from lossmith.tasks.generation import GenerationProblem
from lossmith.tasks.pairs import encode_part
from lossmith.tasks.recommendation import RecommendationProblem
from lossmith.tasks.registry import load_task
from lossmith.tasks.tagging import TaggingProblem
from lossmith.tasks.task import Description
from lossmith.tasks.text import TextTensors

WORDS, LENGTH = 20, 6
ROWS = {"train": 24, "valid": 10, "test": 12}
USERS, ITEMS = 14, 9


def description(rows: dict[str, int]) -> Description:
    return Description("tiny", rows, (), "0", "as given")


def settings(family: str, **given: Any) -> dict[str, Any]:
    return load_task(family).resolve({"batch_size": 8, "dimension": 5, **given})


def text_tensors(labels: dict[str, torch.Tensor], classes: int) -> TextTensors:
    generator = torch.Generator().manual_seed(1)
    ids = {
        part: torch.randint(2, WORDS, (rows, LENGTH), generator=generator, dtype=torch.int32)
        for part, rows in ROWS.items()
    }
    names = tuple(f"class {c}" for c in range(classes))
    return TextTensors(ids, labels, names, WORDS, description(ROWS))


def classification(classes: int = 2) -> ClassificationProblem:
    labels = {part: torch.arange(rows) % classes for part, rows in ROWS.items()}
    return ClassificationProblem(text_tensors(labels, classes))


def tagging(classes: int = 4) -> TaggingProblem:
    """Labels of 1, 0 and -1 = missing."""
    generator = torch.Generator().manual_seed(2)
    labels = {
        part: torch.randint(-1, 2, (rows, classes), generator=generator).float()
        for part, rows in ROWS.items()
    }
    return TaggingProblem(text_tensors(labels, classes))


def recommendation(parts: tuple[str, ...] = ("train", "valid", "test")) -> RecommendationProblem:
    """Each user has three items in train and two in every other part, no item in two parts."""
    generator = np.random.default_rng(3)
    pairs: dict[str, list[tuple[int, int]]] = {part: [] for part in parts}
    for user in range(USERS):
        items = generator.permutation(ITEMS).tolist()
        for part in parts:
            take = 3 if part == "train" else 2
            pairs[part] += [(user, items.pop()) for _ in range(take)]
    return interactions(pairs)


def interactions(pairs: dict[str, list[tuple[int, int]]]) -> RecommendationProblem:
    made = {
        part: unique_pairs(*np.array(both, dtype=np.int64).T, ITEMS) for part, both in pairs.items()
    }
    names = [f"u{u}" for u in range(USERS)], [f"i{i}" for i in range(ITEMS)]
    data = make_interactions("tiny", *names, made, ())
    return RecommendationProblem(
        data, description({part: len(both) for part, both in made.items()})
    )


def generation(**given: Any) -> GenerationProblem:
    """Sources of words; the target says them backwards, and its keywords are two of them."""
    draw = random.Random(4)
    words = ["list", "tuple", "C++", "set", "os.path", "dict", "str", "int"]
    parts = {}
    for part, rows in ROWS.items():
        sources = [draw.sample(words, draw.randint(2, 6)) for _ in range(rows)]
        parts[part] = ParallelPart(
            [" ".join(row) for row in sources],
            [" ".join(row[::-1]) for row in sources],
            [tuple(row[:2]) if i % 3 else () for i, row in enumerate(sources)],
        )
    codec = Codec([*parts["train"].sources, *parts["train"].targets], "words", 300)
    encoded = {name: encode_part(codec, part) for name, part in parts.items()}
    return GenerationProblem(codec, encoded, description(ROWS), settings("generation", **given))


PROBLEMS = {
    "classification": classification,
    "tagging": tagging,
    "recommendation": recommendation,
    "generation": generation,
}
