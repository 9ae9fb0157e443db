"""LightGBM as an anchor: boosted trees on the same lists and the same split."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from lossmith.core.call import parse_call
from lossmith.core.words import did_you_mean
from lossmith.tasks.task import Learner

if TYPE_CHECKING:
    from lossmith.tasks.ranking import RankingProblem

OBJECTIVES = ("lambdarank", "rank_xendcg", "regression", "binary")
# Its parameters that a comparison gives the same to everyone.
OURS = {
    "seed": "the seed",
    "random_state": "the seed",
    "num_threads": "the setting threads",
    "n_jobs": "the setting threads",
    "num_iterations": "the setting epochs (an epoch is as many trees as the knob trees says)",
    "n_estimators": "the setting epochs (an epoch is as many trees as the knob trees says)",
}
TREES = 10  # an epoch, unless the knob trees says otherwise
MANUAL = "https://lightgbm.readthedocs.io/en/stable/Parameters.html"


class _Messages:
    """Keeps what LightGBM says; stdout is for results."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def info(self, message: str) -> None:
        self.said.append(message)

    warning = info


def check_knobs(loss: str) -> dict[str, Any]:
    """The knobs in ``lightgbm(...)``; one that LightGBM does not take raises."""
    try:
        import lightgbm
    except ModuleNotFoundError:
        raise ValueError(
            f"{loss} needs LightGBM, which is not installed. Try pip install lightgbm."
        ) from None
    name, given = parse_call(loss)
    knobs: dict[str, Any] = {"objective": OBJECTIVES[0], "trees": TREES, **given}
    if knobs["objective"] not in OBJECTIVES:
        listed = ", ".join(map(repr, OBJECTIVES))
        raise ValueError(
            f"{name}: objective={knobs['objective']!r} is not a choice; expected one of {listed}."
        )
    if type(knobs["trees"]) is not int or knobs["trees"] < 1:
        raise ValueError(
            f"{name}: trees={knobs['trees']!r}; expected how many trees make an epoch, 1 or more."
        )
    for knob in knobs:
        if knob in OURS:
            raise ValueError(f"{name} gets {knob} from {OURS[knob]}; leave it out here.")
    own = {knob: value for knob, value in knobs.items() if knob != "trees"}
    for knob in _unknown(own):
        suggestion = did_you_mean(knob, [*lightgbm.LGBMRanker().get_params(), "trees"])
        if "Did you mean" not in suggestion:
            suggestion = f" They are listed at {MANUAL}."
        raise ValueError(f"{name} has no knob {knob!r}.{suggestion}")
    return knobs


def _unknown(parameters: Mapping[str, Any]) -> list[str]:
    """The parameters that LightGBM says it does not know, by giving them to it; a bad value raises.

    It has several hundred names, aliases included, and no public list of them.
    """
    import lightgbm

    messages = _Messages()
    lightgbm.register_logger(messages)
    data = lightgbm.Dataset(np.zeros((2, 1)), np.array([0, 1]), group=[2])
    try:
        lightgbm.Booster({**parameters, "verbosity": 1}, data)
    except lightgbm.basic.LightGBMError as error:
        raise ValueError(f"lightgbm: {str(error).strip()}") from None
    return re.findall(r"Unknown parameter: (\S+)", "\n".join(messages.said))


class LightGBMLearner(Learner):
    """``lightgbm(objective='lambdarank', trees=10, num_leaves=31, ...)``: knobs are LightGBM's own.

    An epoch adds ``trees`` trees. The seed decides only what LightGBM draws at random: unless
    bagging or a share of the features is asked for, every seed grows the same trees.
    """

    def __init__(
        self, problem: RankingProblem, loss: str, settings: Mapping[str, Any], seed: int
    ) -> None:
        knobs = check_knobs(loss)
        import lightgbm

        lightgbm.register_logger(_Messages())
        self.trees = knobs.pop("trees")
        lists = problem.parts["train"]
        relevance = lists.relevance.numpy()
        if knobs["objective"] == "binary":
            relevance = (relevance > 0).astype(np.float32)
        data = lightgbm.Dataset(lists.features.numpy(), relevance, group=lists.sizes.numpy())
        ours = {
            "seed": seed,
            "num_threads": settings["threads"],
            "deterministic": True,
            "force_row_wise": True,
            "verbosity": -1,
        }
        self.fit = lightgbm.Booster({**knobs, **ours}, data)
        self.model = LightGBMScores(self.fit)

    @property
    def parameters(self) -> int:
        """How many numbers it learns: a value for each leaf, a threshold for each split."""
        leaves = [tree["num_leaves"] for tree in self.fit.dump_model()["tree_info"]]
        return sum(2 * count - 1 for count in leaves)

    def epoch(self, after_step: Callable[[float], None] | None = None) -> float:
        """Grow some trees; no loss is reported."""
        for _ in range(self.trees):
            self.fit.update()
        return float("nan")


class LightGBMScores:
    """The scores of a LightGBM model for the common evaluation."""

    def __init__(self, fit: Any) -> None:
        self.fit = fit

    def __call__(self, features: Tensor, mask: Tensor) -> Tensor:
        """Scores ``[B, n]`` of items ``[B, n, F]``; 0 where there is none."""
        scores = torch.zeros(mask.shape, dtype=torch.float64)
        scores[mask] = torch.from_numpy(self.fit.predict(features[mask].numpy()))
        return scores
