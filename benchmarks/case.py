"""What a benchmark is made of: one row of the page, and who competes in it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

Size = Mapping[str, int]
Inputs = dict[str, Tensor]

OURS = "lossmith"
FLOOR = "floor"
MEMORY = "memory"
SECONDS = "seconds"
GRADIENTS = "memory beyond gradients"


class UnavailableError(Exception):
    """Raised by ``inputs`` or ``prepare`` where something is missing here, such as a data set."""


@dataclass(frozen=True)
class Contender:
    """One implementation; ``run`` does a forward and a backward pass and returns the value.

    Peers are imported inside ``run`` (or ``prepare``), because a case is read in environments
    that lack them. Gradients of the inputs are dropped before every run.
    """

    run: Callable[[Inputs], Any]
    environment: str = "main"  # a file of benchmarks/environments that lists what it needs
    # Work that is not timed and done once, such as building a module. Its result replaces the
    # inputs.
    prepare: Callable[[Inputs], Any] | None = None
    # False where it would not end in time or memory.
    fits: Callable[[Size], bool] = lambda size: True
    # Whether the short run has it too: compiling takes longer than that has for a row.
    quick: bool = True


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
    # Upper bounds that decide "met". The key says of what:
    #   "floor", or a contender's name: the ratio of our time to it ("a / b": of a's time to b's);
    #   "seconds": our time;
    #   "memory": MiB above the inputs; "memory beyond gradients": those of the inputs left out.
    # Bounds hold at every size, or with " @ B=8192" behind the key at the sizes that say so.
    at_most: Mapping[str, float] = field(default_factory=dict)
    # How many of something one run handles, and its name, to show a rate ("samples").
    handled: Callable[[Size], float] | None = None
    unit: str = ""
    # What the value of a run is called on the page, where it is worth showing.
    value: str = ""


def is_ours(contender: str) -> bool:
    """Whether a contender is this library.

    >>> is_ours("lossmith"), is_ours("lossmith compiled"), is_ours("torch")
    (True, True, False)
    """
    return contender == OURS or contender.startswith(f"{OURS} ")


def label(size: Size) -> str:
    """A size in words.

    >>> label({"B": 1024, "d": 256})
    'B=1024 d=256'
    """
    return " ".join(f"{name}={value}" for name, value in size.items())
