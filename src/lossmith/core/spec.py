"""What an objective says about itself, and the registry that everything else reads.

Documentation tables, the command line, the generated stubs, the contract tests and the search
for good knobs read :func:`objectives`; nothing keeps a list of objectives of its own.
"""

from __future__ import annotations

import importlib
import inspect
import typing
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal, TypeVar

from lossmith.core.call import format_call, parse_call
from lossmith.core.words import FAMILIES, did_you_mean

# Keyword-only arguments that are part of a batch; every other one is a knob.
BATCH_ARGUMENTS = frozenset(
    {
        "mask",
        "weight",
        "divisor",
        "generator",
        "target",
        "trials",
        "keyword_mask",
        "keywords",
        "head_bias",
        "ids",
        "log_q",
        "negatives_mask",
        "ignore_pairs",
        "guide",
    }
)

Inputs = Literal[
    "logits+class",
    "logits+distribution",
    "logits+binary",
    "logits+partial",
    "prediction+number",
    "pair+same",
    "triplet",
    "queries+positives",
    "two views",
    "scores+relevance",
    "positive+negative",
    "positive+draws",
    "positive+catalogue",
    "logits+keywords",
    "logits+marked",
    "logits+keywords+marked",
    "embeddings+labels",
    "pair+sign",
    "distance+sign",
    "two scores+sign",
    "hidden+head+class",
    "log_probs+rewards",
]
Invariance = Literal["shift", "scale", "item permutation"]
# In n: what is compared with each other, or gone through.
Growth = Literal["n", "n log n", "n^2"]
# The name of a law of `lossmith.check` that an objective is exempt from, with a reason.
Law = str


@dataclass(frozen=True)
class Tune:
    """Where a search looks for a knob: a range, on a log scale or not, or a few choices."""

    low: float = 0.0
    high: float = 1.0
    log: bool = False
    choices: tuple[object, ...] = ()


@dataclass(frozen=True)
class Spec:
    """The metadata of one objective."""

    name: str
    function: Callable[..., Any] = field(repr=False)
    module_name: str
    family: str
    inputs: tuple[Inputs, ...]
    unit: str
    serves: str
    limit: str
    paper: str
    invariances: frozenset[Invariance] = frozenset()
    tune: Mapping[str, Tune] = field(default_factory=dict)
    aliases: tuple[str, ...] = ()
    exempt: Mapping[Law, str] = field(default_factory=dict)
    cost: Growth = "n"

    @property
    def summary(self) -> str:
        """The first sentence of the docstring: what the objective pushes."""
        return (inspect.getdoc(self.function) or "").split("\n\n")[0].replace("\n", " ")

    @property
    def parameters(self) -> Mapping[str, inspect.Parameter]:
        """The function's parameters by name."""
        return inspect.signature(self.function).parameters

    @cached_property  # every call of a module reads it, and reading a signature takes long
    def knobs(self) -> dict[str, inspect.Parameter]:
        """The hyper-parameters (reduction among them), in the order of the signature."""
        return {
            name: parameter
            for name, parameter in self.parameters.items()
            if parameter.kind is parameter.KEYWORD_ONLY and name not in BATCH_ARGUMENTS
        }

    @property
    def choices(self) -> dict[str, tuple[object, ...]]:
        """The allowed values of each knob whose annotation lists them (``Literal``)."""
        hints = typing.get_type_hints(self.function)
        return {
            name: typing.get_args(hints[name])
            for name in self.knobs
            if typing.get_origin(hints[name]) is Literal
        }

    def check_knobs(self, knobs: Mapping[str, object], *, choices: bool = True) -> None:
        """Raise for a knob that is none, or (with ``choices``) for a value that it cannot have."""
        for name, value in knobs.items():
            if name not in self.knobs:
                raise ValueError(
                    f"{self.name} has no knob {name!r}.{did_you_mean(name, self.knobs)}"
                )
            allowed = self.choices.get(name) if choices else None
            if allowed is not None and value not in allowed:
                listed = ", ".join(repr(choice) for choice in allowed)
                raise ValueError(
                    f"{self.name}: {name}={value!r} is not a choice; expected one of {listed}."
                )

    def text(self, knobs: Mapping[str, object]) -> str:
        """``name(knob=value)`` with the knobs that differ from their defaults."""
        changed = {
            name: knobs[name]
            for name, parameter in self.knobs.items()
            if name in knobs and not _same(knobs[name], parameter.default)
        }
        return format_call(self.name, changed)


def _same(a: object, b: object) -> bool:
    return type(a) is type(b) and (a == b or (a != a and b != b))


_registry: dict[str, Spec] = {}
Function = TypeVar("Function", bound=Callable[..., Any])


def objective(
    *,
    family: str,
    module: str,
    inputs: Inputs | tuple[Inputs, ...],
    unit: str,
    serves: str,
    limit: str,
    paper: str,
    invariances: Iterable[Invariance] = (),
    tune: Mapping[str, Tune] | None = None,
    aliases: tuple[str, ...] = (),
    exempt: Mapping[Law, str] | None = None,
    cost: Growth = "n",
) -> Callable[[Function], Function]:
    """Register a function as an objective; the function itself is returned unchanged.

    Args:
        family: one of :data:`FAMILIES`, the file the function stands in.
        module: the name of its module face (``InfoNCE`` for ``info_nce``).
        inputs: what it is fed with; a task that can make one of these can train with it.
        unit: what "mean" divides by.
        serves: the metric it is a stand-in for.
        limit: the limit case that ties it to a known loss; a test holds it.
        paper: the source.
        invariances: changes of the predictions that leave the value unchanged.
        tune: where a search looks for each knob worth searching.
        aliases: other names it goes by.
        exempt: laws that do not apply, each with the reason.
        cost: the most by which the work grows with the rows of a batch, or with what is inside a
            row (the items of a list, classes, features, positions); tested.
    """

    def register(function: Function) -> Function:
        if family not in FAMILIES:
            raise ValueError(f"{family!r} is not a family.{did_you_mean(family, FAMILIES)}")
        spec = Spec(
            name=function.__name__,
            function=function,
            module_name=module,
            family=family,
            inputs=(inputs,) if isinstance(inputs, str) else inputs,
            unit=unit,
            serves=serves,
            limit=limit,
            paper=paper,
            invariances=frozenset(invariances),
            tune=dict(tune or {}),
            aliases=aliases,
            exempt=dict(exempt or {}),
            cost=cost,
        )
        _registry[spec.name] = spec
        return function

    return register


def objectives(family: str | None = None) -> tuple[Spec, ...]:
    """Every objective (of one family, or all), in the order of the families and their files."""
    for name in FAMILIES:
        importlib.import_module(f"lossmith.losses.{name}")
    return tuple(
        spec
        for name in FAMILIES
        for spec in _registry.values()
        if spec.family == name and family in (None, name)
    )


def find(name: str) -> Spec:
    """The objective of that name; an unknown name raises with a suggestion.

    >>> find("info_nce").unit
    'queries'
    >>> find("wrap")
    Traceback (most recent call last):
        ...
    ValueError: there is no objective 'wrap'. Did you mean 'warp'?
    """
    known = {spec.name: spec for spec in objectives()}
    if name in known:
        return known[name]
    for spec in known.values():
        if name == spec.module_name or name.lower() in (alias.lower() for alias in spec.aliases):
            return spec
    raise ValueError(f"there is no objective {name!r}.{did_you_mean(name, known)}")


def parse(text: str) -> tuple[Spec, dict[str, object]]:
    """Read ``"warp(margin=0.5)"`` into the objective and its knobs; nothing is evaluated.

    >>> spec, knobs = parse("warp(margin=0.5)")
    >>> spec.name, knobs, spec.text(knobs)
    ('warp', {'margin': 0.5}, 'warp(margin=0.5)')
    >>> parse("warp(margn=0.5)")
    Traceback (most recent call last):
        ...
    ValueError: warp has no knob 'margn'. Did you mean 'margin'?
    """
    name, knobs = parse_call(text)
    spec = find(name)
    spec.check_knobs(knobs)
    return spec, knobs
