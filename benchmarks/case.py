"""What a benchmark is made of: one row of the page, and who competes in it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

Size = Mapping[str, int]
Inputs = dict[str, Tensor]


@dataclass(frozen=True)
class Contender:
    """One implementation; ``run`` does a forward and a backward pass and returns the value.

    Peers are imported inside ``run`` (or ``prepare``), because a case is read in environments
    that lack them.
    """

    run: Callable[[Inputs], Any]
    environment: str = "main"  # a file of benchmarks/environments that lists what it needs
    # Work that is not timed and done once, such as building a module; its result replaces the inputs.
    prepare: Callable[[Inputs], Any] | None = None
    fits: Callable[[Size], bool] = lambda size: (
        True
    )  # False where it would not end in time or memory


@dataclass(frozen=True)
class Case:
    """One row: an objective at some sizes, its floor, and its contenders."""

    name: str
    target: str  # what is asked of it, in words
    inputs: Callable[[Size], Inputs]  # the same numbers for every contender, from a fixed seed
    contenders: Mapping[str, Contender]  # ours under "lossmith" (or "lossmith ...")
    sizes: tuple[Size, ...]  # the smallest first; growth is fitted over them
    quick: tuple[Size, ...] = ()  # those of the short run
    # The arithmetic that must be done, and nothing else: the products, or the bytes moved.
    floor: Callable[[Inputs], Any] | None = None
    # Upper bounds that decide "met": ratio to the floor or to a contender, memory in MiB above the inputs.
    at_most: Mapping[str, float] = field(default_factory=dict)
