"""WARP training of a factor model with 64 dimensions: a pass over all pairs, and to a quality."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.case import Case, Contender, Inputs, Size, UnavailableError

MOVIELENS = "LOSSMITH_MOVIELENS_100K"
DIMENSION, TRIALS = 64, 10  # LightFM's own limit of draws
ADAGRAD = {"optimizer": "adagrad", "learning_rate": 0.1}  # LightFM has no other, or Adadelta


def zipf_pairs(size: Size) -> Inputs:
    """Distinct pairs (user, item), items by Zipf's law, users by its square root."""
    users, items, pairs = size["users"], size["items"], size["pairs"]
    generator = torch.Generator().manual_seed(0)
    likes = [1.0 / torch.arange(1, n + 1).double() ** s for n, s in ((users, 0.5), (items, 1.0))]
    seen = torch.empty(0, dtype=torch.long)
    while len(seen) < pairs:
        user, item = (
            torch.multinomial(share, pairs, replacement=True, generator=generator)
            for share in likes
        )
        seen = torch.unique(torch.cat([seen, user * items + item]))
    kept = seen[torch.randperm(len(seen), generator=generator)[:pairs]]
    shape = torch.tensor([users, items])
    return {"users": kept // items, "items": kept % items, "shape": shape}


def movielens(size: Size) -> Inputs:
    """The likes (4 and 5) of MovieLens-100k, 44,300 of them to train on, from a file named outside.

    Lines of user, item, rating with tabs between, numbered from 1; a heading may stand above.
    """
    path = Path(os.environ.get(MOVIELENS, ""))
    if not path.is_file():
        raise UnavailableError(f"{MOVIELENS} does not name a file of MovieLens-100k")
    lines = (line.split("\t") for line in path.read_text().splitlines())
    rows = [(int(a) - 1, int(b) - 1) for a, b, c, *_ in lines if a.isdigit() and float(c) >= 4]
    likes = torch.tensor(rows)[torch.from_numpy(np.random.RandomState(0).permutation(len(rows)))]
    train, test = likes[:44_300], likes[44_300:]
    return {
        "users": train[:, 0].contiguous(),
        "items": train[:, 1].contiguous(),
        "test users": test[:, 0].contiguous(),
        "test items": test[:, 1].contiguous(),
        "shape": torch.tensor([size["users"], size["items"]]),
    }


def precision_at_10(scores: Tensor, given: Inputs) -> float:
    """The mean over users with test items, training items left out."""
    taken, relevant = (torch.zeros(scores.shape, dtype=torch.bool) for _ in range(2))
    taken[given["users"], given["items"]] = True
    relevant[given["test users"], given["test items"]] = True
    top = scores.masked_fill(taken, -torch.inf).topk(10).indices
    hits = relevant.gather(1, top).float().mean(dim=1)
    return float(hits[relevant.any(dim=1)].mean())


def our_training(given: Inputs) -> float:
    """Ten passes with Adagrad, from nothing."""
    learner = our_learner(1024, given, learning_rate=0.07, l2=0.3, max_trials=50)
    for _ in range(10):
        learner.epoch()
    with torch.no_grad():
        scores = learner.model.all_scores(torch.arange(int(given["shape"][0])))
    return precision_at_10(scores, given)


def lightfm_training(given: Inputs) -> float:
    """Fifteen passes, the best settings that were found for LightFM on this split."""
    best = {"max_sampled": 50, "learning_rate": 0.05, "item_alpha": 1e-3, "user_alpha": 1e-3}
    model, run = lightfm_model(given, **best)
    for _ in range(15):
        run()
    bias, items = model.get_item_representations()
    _, users = model.get_user_representations()
    return precision_at_10(torch.from_numpy(users @ items.T + bias), given)


def our_learner(batch_size: int, given: Inputs, **changes: Any) -> Any:
    """What ``lossmith compare recommendation`` trains with the loss ``warp``, under Adagrad."""
    from lossmith.tasks.recommendation import TASK, RecommendationProblem
    from lossmith.tasks.task import Description

    users, items = given["users"].numpy(), given["items"].numpy()
    rows = {"train": len(users)}
    data: Any = SimpleNamespace(
        users=int(given["shape"][0]),
        items=int(given["shape"][1]),
        parts={"train": SimpleNamespace(users=users, items=items)},
    )
    problem = RecommendationProblem(data, Description("pairs", rows, (), "", ""))
    chosen = {"batch_size": batch_size, "max_trials": TRIALS, **ADAGRAD, **changes}
    settings = TASK.resolve(chosen)
    torch.set_num_threads(settings["threads"])  # one, as the tool trains unless told otherwise
    return TASK.learner(problem, "warp", settings, seed=0)


def lightfm_epoch(given: Inputs) -> Callable[[], None]:
    """One pass of LightFM with its own settings."""
    return lightfm_model(given, max_sampled=TRIALS)[1]


def lightfm_model(given: Inputs, **knobs: Any) -> tuple[Any, Callable[[], None]]:
    """A model of LightFM, and what trains it for one pass on as many threads as the row has."""
    from lightfm import LightFM
    from scipy.sparse import coo_matrix

    model = LightFM(no_components=DIMENSION, loss="warp", random_state=0, **knobs)
    users, items = given["users"].numpy(), given["items"].numpy()
    taken = torch.ones(len(users)).numpy()
    shape: Tensor = given["shape"]
    matrix = coo_matrix((taken, (users, items)), shape=tuple(shape.tolist()))
    threads = torch.get_num_threads()
    return model, lambda: model.fit_partial(matrix, epochs=1, num_threads=threads)


def call(prepared: Any) -> Any:
    """Run what was prepared."""
    return prepared()


def epoch(learner: Any) -> Any:
    """One pass of ours; it goes on from the last one, as LightFM's does."""
    return learner.epoch()


TRAINING = Case(
    name="warp training",
    target="samples per second at least LightFM's, 64 dimensions, aim at twice as many",
    inputs=zipf_pairs,
    contenders={
        "lossmith": Contender(epoch, prepare=partial(our_learner, 1024)),
        "lossmith 4096": Contender(epoch, prepare=partial(our_learner, 4096)),
        "lightfm": Contender(call, environment="lightfm", prepare=lightfm_epoch),
    },
    sizes=(
        {"users": 943, "items": 1682, "pairs": 100_000},
        {"users": 6040, "items": 3706, "pairs": 1_000_000},
    ),
    quick=({"users": 943, "items": 1682, "pairs": 100_000},),
    at_most={"lightfm": 1.0, "lossmith 4096 / lightfm": 1.0},
    handled=lambda size: size["pairs"],
    unit="samples",
)

TO_QUALITY = Case(
    name="warp time to quality",
    target="LightFM's best tuned precision@10 on MovieLens-100k in at most half its time",
    inputs=movielens,
    contenders={
        "lossmith": Contender(our_training),
        "lightfm": Contender(lightfm_training, environment="lightfm"),
    },
    sizes=({"users": 943, "items": 1682},),
    at_most={"lightfm": 0.5},
    value="precision@10",
)

CASES = (TRAINING, TO_QUALITY)
