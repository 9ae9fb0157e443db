"""LightFM as an anchor: the same split, dimension and epochs, its own losses and optimizer."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from scipy.sparse import coo_matrix
from torch import Tensor

from lossmith.core.call import parse_call
from lossmith.core.words import did_you_mean
from lossmith.tasks.task import Learner

if TYPE_CHECKING:
    from lossmith.tasks.recommendation import RecommendationProblem


# What LightFM only asserts, without a word.
CHOICES = {
    "loss": ("logistic", "bpr", "warp", "warp-kos"),
    "learning_schedule": ("adagrad", "adadelta"),
}
# Its arguments that a comparison gives the same to everyone.
OURS = {"no_components": "the setting dimension", "random_state": "the seed"}


def check_knobs(loss: str) -> dict[str, object]:
    """The knobs in ``lightfm(...)``; one that LightFM does not take raises."""
    try:
        from lightfm import LightFM
    except ModuleNotFoundError:
        raise ValueError(
            f"{loss} needs LightFM, which is not installed. Try pip install lightfm-next."
        ) from None
    name, knobs = parse_call(loss)
    known = inspect.signature(LightFM).parameters
    for knob, value in knobs.items():
        if knob in OURS:
            raise ValueError(f"{name} gets {knob} from {OURS[knob]}; leave it out here.")
        if knob not in known:
            raise ValueError(f"{name} has no knob {knob!r}.{did_you_mean(knob, known)}")
        if value not in CHOICES.get(knob, (value,)):
            listed = ", ".join(map(repr, CHOICES[knob]))
            raise ValueError(f"{name}: {knob}={value!r} is not a choice; expected one of {listed}.")
    return knobs


class LightFMLearner(Learner):
    """``lightfm(loss='warp', learning_rate=0.05, ...)``: knobs are LightFM's own arguments."""

    def __init__(
        self,
        problem: RecommendationProblem,
        loss: str,
        settings: Mapping[str, Any],
        seed: int,
    ) -> None:
        knobs = check_knobs(loss)
        from lightfm import LightFM

        self.settings = settings
        # Shared between several threads, its updates race and no seed repeats them.
        self.fit = LightFM(no_components=settings["dimension"], random_state=seed, **knobs)
        users, items = (side.numpy() for side in problem.pairs["train"])
        taken = np.ones(len(users), dtype=np.float32)
        self.taken = coo_matrix((taken, (users, items)), shape=(problem.users, problem.items))
        self.model = LightFMScores(self.fit)

    @property
    def parameters(self) -> int:
        """How many numbers it learns: vectors and biases of users and items."""
        users, items = self.taken.shape
        return int((users + items) * (self.settings["dimension"] + 1))

    def epoch(self, after_step: Callable[[float], None] | None = None) -> float:
        """One pass; LightFM reports no loss."""
        self.fit.fit_partial(self.taken, epochs=1, num_threads=self.settings["threads"])
        return float("nan")


class LightFMScores:
    """The scores of a LightFM model for the common evaluation."""

    def __init__(self, fit: Any) -> None:
        self.fit = fit

    def all_scores(self, users: Tensor) -> Tensor:
        """Scores ``[B, N]`` of every item; a user's own bias orders nothing and is left out."""
        item_bias, items = self.fit.get_item_representations()
        _, vectors = self.fit.get_user_representations()
        rows = torch.from_numpy(vectors[users.numpy()])
        return rows @ torch.from_numpy(items).T + torch.from_numpy(item_bias)
