"""A plan as a TOML file: the same words as the flags, written with every run and read back."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lossmith.compare.plan import Plan, PlanError, read_seeds
from lossmith.core.words import did_you_mean

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

# What a file may say, and how it is said there.
KEYS = {
    "family": "text, such as 'ranking'",
    "data": "text: a file, a folder, or 'embedded'",
    "losses": "a list of texts, such as ['bpr', 'warp(margin=0.5)']",
    "metric": "text, such as 'precision@10'",
    "seeds": "a count, or a list such as [0, 3, 5]",
    "tune": "a count: trials of each loss",
    "baseline": "text: one of the losses",
    "out": "text: the run folder",
    "settings": "a table: [settings], one setting on each line",
}


def read_plan_file(path: str | Path) -> dict[str, Any]:
    """What the file asks for, by the names of the flags; :class:`PlanError` says what to change."""
    path = Path(path)
    try:
        values: dict[str, Any] = tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise PlanError(f"{path} cannot be read ({error.strerror}).") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise PlanError(f"{path} is not TOML: {error}.") from error
    for key, value in values.items():
        if key not in KEYS:
            inside = " Settings such as epochs stand below a line [settings]."
            raise PlanError(f"{path}: there is no key {key!r}.{did_you_mean(key, KEYS)}{inside}")
        if not _fits(key, value):
            raise PlanError(f"{path}: {key} = {value!r}; expected {KEYS[key]}.")
    if "seeds" in values:
        values["seeds"] = read_seeds(values["seeds"])
    return values


def plan_text(plan: Plan) -> str:
    """The plan as such a file, with every setting that has a value: replayed, it is this plan.

    A setting that the losses do not share stands with the loss that has it (``warp@l2=0.3``) or
    follows from the model that the loss names, as it did when the plan was made.
    """
    import tomli_w

    values: dict[str, Any] = {
        "family": plan.family,
        "data": plan.data,
        "losses": [arm.text for arm in plan.arms],
        "metric": plan.metric,
        "seeds": list(plan.seeds),
        "baseline": plan.baseline,
        "tune": plan.tune,
        "settings": _shared_settings(plan),
    }
    head = (
        "# lossmith compare --plan plan.toml makes this comparison; a flag wins over a line here.\n"
    )
    if plan.lent:
        head = f"# Made in Python with {' and '.join(plan.lent)}, which no file can hand over.\n"
    return f"{head}# lossmith {plan.version}, data {plan.fingerprint}\n\n{tomli_w.dumps(values)}"


def _shared_settings(plan: Plan) -> dict[str, Any]:
    first = plan.arms[0].settings
    shared = {
        key: value
        for key, value in first.items()
        if all(arm.settings.get(key) == value for arm in plan.arms)
    }
    asked = {key: value for key, value in plan.given.items() if key in first and key not in shared}
    values = {**shared, **asked}
    return {
        key: value
        for key, value in values.items()
        if value not in (None, "") and key != "metric"  # said above, once for all
    }


def _fits(key: str, value: Any) -> bool:
    if key == "losses":
        return isinstance(value, list) and all(isinstance(loss, str) for loss in value)
    if key == "seeds":
        return isinstance(value, (int, list)) and not isinstance(value, bool)
    if key == "tune":
        return isinstance(value, int) and not isinstance(value, bool) and value >= 0
    return isinstance(value, Mapping if key == "settings" else str)
