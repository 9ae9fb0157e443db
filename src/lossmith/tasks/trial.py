"""A model that is not of the registry on its first batch, before anything is trained."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from lossmith.core.own import is_own, what_failed
from lossmith.tasks.hf import is_hf
from lossmith.tasks.own_model import ModelError
from lossmith.tasks.task import Problem, Task


def try_model(task: Task, problem: Problem, loss: str, settings: Mapping[str, Any]) -> None:
    """Make a model of the user's own and call it once; a ValueError says what does not fit.

    A pretrained encoder is made alone. What a loss of the user's own raises is left to the
    training, which tells it beside the other losses.
    """
    text = str(settings["model"])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = problem.model(settings).train()
        if is_hf(text):
            return
        objective, feed = task.objective(loss, settings)
        batch = next(iter(problem.batches(settings, 0, 1)))
        try:
            problem.cost(model, batch, objective, feed)
        except ModelError:
            raise
        except Exception as error:  # of a model that shows vectors, or decodes by itself
            if not is_own(loss):
                raise ModelError(
                    f"model={text} does not go with {loss}: {what_failed(error)}"
                ) from error
