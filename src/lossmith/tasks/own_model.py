"""A model of the user's own: a function that builds it from what the data is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from lossmith.core.own import is_own, own, parameters_of


def own_model(settings: Mapping[str, Any], facts: Mapping[str, Any]) -> nn.Module | None:
    """The model that ``settings["model"]`` names, if it is one of the user's.

    ``facts`` are what the family knows of its data (the size of the vocabulary, how many outputs
    are wanted, ...). The function gets those that it has arguments for, and ``settings`` if it
    has one of that name. It is called once for each training, after the seed was set.
    """
    text = str(settings["model"])
    if not is_own(text):
        return None
    found = own(text)
    if isinstance(found.value, nn.Module):
        raise ValueError(
            f"model={text} is one model, and each training starts from a new one: give the class, "
            "or a function that builds it."
        )
    known = {**facts, "settings": dict(settings), **found.knobs}
    parameters = parameters_of(found.value)
    every = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    for name, parameter in parameters.items():
        needed = parameter.default is parameter.empty
        if needed and name not in known and parameter.kind not in (2, 4):  # *args, **kwargs
            raise ValueError(
                f"model={text} has an argument {name!r} that it is not given here. It may have "
                f"{', '.join(facts)}, settings; give the others a default, or a value as in "
                f"{found.home}({name}=...)."
            )
    model = found.value(**{k: v for k, v in known.items() if every or k in parameters})
    if not isinstance(model, nn.Module):
        raise ValueError(f"model={text} returned {type(model).__name__}; expected an nn.Module.")
    return model
