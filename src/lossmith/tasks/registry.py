"""The tasks by family; each is imported when it is asked for."""

from __future__ import annotations

import importlib
from functools import cache

from lossmith.core.words import did_you_mean
from lossmith.tasks import TASK_FAMILIES
from lossmith.tasks.task import Task


@cache
def load_task(family: str) -> Task:
    """The task of a family; an unknown family raises with a suggestion."""
    if family not in TASK_FAMILIES:
        raise ValueError(f"there is no task {family!r}.{did_you_mean(family, TASK_FAMILIES)}")
    module = importlib.import_module(f"lossmith.tasks.{family}")
    task: Task = module.TASK
    return task
