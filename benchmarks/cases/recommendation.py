"""WARP training of a factor model with 64 dimensions: one pass over all pairs, and to a quality."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from benchmarks.case import Case, Contender, Inputs, Size

DIMENSION, TRIALS = 64, 10  # LightFM's own limit of draws


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


def our_learner(batch_size: int, given: Inputs) -> Any:
    """What ``lossmith compare recommendation`` trains with the loss ``warp``."""
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
    chosen = {"batch_size": batch_size, "max_trials": TRIALS, "dimension": DIMENSION}
    settings = TASK.resolve(chosen)
    torch.set_num_threads(settings["threads"])  # one, as the tool trains unless told otherwise
    return TASK.learner(problem, "warp", settings, seed=0)


def lightfm_epoch(given: Inputs) -> Callable[[], None]:
    """One pass of LightFM, as many threads as the row has."""
    from lightfm import LightFM
    from scipy.sparse import coo_matrix

    model = LightFM(no_components=DIMENSION, loss="warp", max_sampled=TRIALS, random_state=0)
    users, items = given["users"].numpy(), given["items"].numpy()
    taken = torch.ones(len(users)).numpy()
    shape: Tensor = given["shape"]
    matrix = coo_matrix((taken, (users, items)), shape=tuple(shape.tolist()))
    threads = torch.get_num_threads()
    return lambda: model.fit_partial(matrix, epochs=1, num_threads=threads)


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

CASES = (TRAINING,)
