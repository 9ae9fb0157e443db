"""Problems of a few rows, made in memory, and the settings to train on them."""

from __future__ import annotations

import random
from collections.abc import Iterable
from typing import Any

import numpy as np
import torch

from lossmith.check.examples import EXAMPLES
from lossmith.core.spec import find
from lossmith.data.interactions import make_interactions, unique_pairs
from lossmith.data.lists import Lists, make_ranking
from lossmith.data.parallel import ParallelPart
from lossmith.data.queries import gather, make_retrieval
from lossmith.tasks.classification import ClassificationProblem
from lossmith.tasks.codec import Codec
from lossmith.tasks.feature_models import Perceptron
from lossmith.tasks.generation import GenerationProblem
from lossmith.tasks.pairs import Batch as PairBatch
from lossmith.tasks.pairs import encode_part
from lossmith.tasks.ranking import RankingProblem
from lossmith.tasks.recommendation import Batch, RecommendationProblem
from lossmith.tasks.registry import load_task
from lossmith.tasks.regression import RegressionProblem
from lossmith.tasks.relevant import Batch as JudgedBatch
from lossmith.tasks.retrieval import RetrievalProblem
from lossmith.tasks.tagging import TaggingProblem
from lossmith.tasks.task import Description
from lossmith.tasks.text import TextTensors, build_text_model

WORDS, LENGTH = 20, 6
FEATURES = 4
ROWS = {"train": 24, "valid": 10, "test": 12}
USERS, ITEMS = 14, 9


def description(rows: dict[str, int]) -> Description:
    return Description("tiny", rows, (), "0", "as given")


def settings(family: str, **given: Any) -> dict[str, Any]:
    task = load_task(family)
    small = {"batch_size": 8, "dimension": 5, "hidden": 8}
    return task.resolve({**{k: v for k, v in small.items() if k in task.settings}, **given})


def loss(family: str, name: str) -> str:
    """The text of an objective, with the knobs that nobody else gives it."""
    task, spec = load_task(family), find(name)
    example = EXAMPLES[task.feed(spec)](0).needed
    given = {k: v for k, v in example.items() if k in spec.knobs and k not in task.filled_in}
    return spec.text(given)


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


def regression(reads: str = "features") -> RegressionProblem:
    """Numbers around 100, a linear function of the features or drawn."""
    generator = torch.Generator().manual_seed(4)
    target = {part: 100 + 5 * torch.randn(n, generator=generator) for part, n in ROWS.items()}
    if reads == "text":
        tensors = text_tensors(target, classes=0)

        def build(given: Any) -> torch.nn.Module:
            return build_text_model(given, WORDS, outputs=1)

        return RegressionProblem(tensors.ids, target, description(ROWS), build, "text")
    features = {part: torch.randn(n, FEATURES, generator=generator) for part, n in ROWS.items()}
    target = {part: 100 + 5 * x[:, 0] - 3 * x[:, 1] for part, x in features.items()}

    def perceptron(given: Any) -> torch.nn.Module:
        sizes = {name: given[name] for name in ("hidden", "layers", "dropout")}
        return Perceptron(FEATURES, **sizes)

    return RegressionProblem(features, target, description(ROWS), perceptron, "features")


def lists(rows: int, seed: int) -> Lists:
    """Lists of 1 to 6 items, graded 0 to 2 by the first feature; one has nothing relevant."""
    generator = np.random.default_rng(seed)
    sizes = generator.integers(1, 7, rows)
    sizes[:2] = 1, 6
    features = generator.normal(size=(sizes.sum(), FEATURES)).astype(np.float32)
    relevance = np.digitize(features[:, 0], [0.0, 0.8]).astype(np.float32)
    relevance[1:7] = 0
    return Lists(features, relevance, sizes, [f"q{i}" for i in range(rows)])


def ranking() -> RankingProblem:
    parts = {part: lists(rows, seed) for seed, (part, rows) in enumerate(ROWS.items())}
    data = make_ranking("tiny", [f"f{i}" for i in range(FEATURES)], parts, ())
    return RankingProblem(data, description(ROWS))


def columns(batches: Iterable[Any]) -> list[torch.Tensor]:
    """What the batches of an epoch hold, in order, padding left out."""
    made = []
    for batch in batches:
        if isinstance(batch, Batch):
            made.append((batch.users, batch.items))
        elif isinstance(batch, JudgedBatch):
            made.append((batch.queries, batch.positives))
        elif isinstance(batch, PairBatch):  # rows of unequal length
            made.append((batch.source.flatten(), batch.target.flatten()))
        elif len(batch) == 3:
            features, relevance, mask = batch
            made.append((features[mask], relevance[mask]))
        else:
            made.append(batch)
    return [torch.cat(column) for column in zip(*made, strict=True)]


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


def retrieval(negatives: bool = True) -> RetrievalProblem:
    """Each query has the words of its document, or of its two, less some; 0 and 1 share one."""
    generator = torch.Generator().manual_seed(6)
    total = sum(ROWS.values())
    documents = torch.randint(2, WORDS, (total, LENGTH), generator=generator, dtype=torch.int32)
    parts, queries, start = {}, {}, 0
    for part, rows in ROWS.items():
        judged = [(f"{part} {i}", start + i, 1.0 + i % 2) for i in range(rows)]
        judged += [(f"{part} {i}", start + i + 1, 1.0) for i in (0, 4)]
        if negatives:
            judged += [(f"{part} {i}", (start + i + 3) % total, 0.0) for i in range(0, rows, 3)]
        parts[part], _ = gather(judged)
        queries[part] = documents[start : start + rows, 1:5]
        start += rows
    names = [f"d{d}" for d in range(total)]
    data = make_retrieval("tiny", names, names, parts, ())
    return RetrievalProblem(data, documents, queries, WORDS, description(ROWS))


PROBLEMS = {
    "classification": classification,
    "tagging": tagging,
    "regression": regression,
    "ranking": ranking,
    "recommendation": recommendation,
    "generation": generation,
    "retrieval": retrieval,
}
