"""The module faces, made from the registry; the stub beside this file shows them to editors."""

from __future__ import annotations

from typing import cast

from lossmith.core.module import Objective, module_classes
from lossmith.core.spec import parse

globals().update(module_classes())


def from_text(text: str) -> Objective:
    """Build the module that a text names; ``.text`` of the module is its inverse.

    >>> from_text("warp(margin=0.5, num_items=100)").text
    'warp(num_items=100, margin=0.5)'
    """
    spec, knobs = parse(text)
    return cast(Objective, globals()[spec.module_name](**knobs))
