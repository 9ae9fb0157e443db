"""What a metric says about itself, and the registry of metrics.

A metric is what a user is judged by. Its family says what it is fed with and what it returns:

========================  =====================================  =============================
family                    arguments                              value
========================  =====================================  =============================
classification            logits ``[N, C]`` or ``[N]``, target   one number
tagging                   logits, labels ``[N, C]``              one number
regression                prediction ``[N]``, target ``[N]``     one number
ranking                   scores, relevance, mask ``[Q, n]``     one per list, NaN = no answer
generation                outputs: texts, references, keywords   one number
retrieval                 scores, relevance ``[Q, N]``           one per query, NaN = no answer
recommendation            scores, relevant, excluded ``[U, N]``  one per user, NaN = no answer
========================  =====================================  =============================
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import math
import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, TypeVar

from lossmith.core.own import is_own, own
from lossmith.core.words import FAMILIES, did_you_mean


@dataclass(frozen=True)
class Metric:
    """The metadata of one metric; ``function`` needs nothing but the tensors."""

    name: str  # what the user types, the cut-off included: "precision@10"
    base: str
    family: str
    higher_is_better: bool
    function: Callable[..., Any] = field(repr=False, compare=False)
    at_k: bool = False
    k: int | None = None  # None where there is no cut-off, or where it is still open
    at_band: bool = False
    band: float | None = None  # likewise
    definition: str = ""  # what must be said for the number to be compared with one from elsewhere

    @property
    def open_name(self) -> str:
        """The name with what is still to be said: ``precision@k``, ``within@band``."""
        return f"{self.base}@k" if self.at_k else f"{self.base}@band" if self.at_band else self.base

    @property
    def summary(self) -> str:
        """The first sentence of the docstring: what the number says."""
        function = self.function.func if isinstance(self.function, partial) else self.function
        return (inspect.getdoc(function) or "").split("\n\n")[0].replace("\n", " ")

    def at(self, k: int) -> Metric:
        """This metric with its cut-off: how many items of the top it looks at."""
        if not self.at_k:
            raise ValueError(f"{self.base} has no cut-off. Write {self.base!r}.")
        if type(k) is not int or k < 1:
            raise ValueError(f"{self.base}@k: k={k!r}; expected a whole number, 1 or more.")
        function = self.function.func if isinstance(self.function, partial) else self.function
        return replace(self, name=f"{self.base}@{k}", k=k, function=partial(function, k=k))

    def within(self, band: float) -> Metric:
        """This metric with its band: how large an error it forgives, in units of the target."""
        if not (self.at_band and band >= 0 and math.isfinite(band)):
            raise ValueError(f"{self.base}: band={band!r}; expected a finite number, 0 or more.")
        function = self.function.func if isinstance(self.function, partial) else self.function
        name = f"{self.base}@{band:g}"
        return replace(self, name=name, band=band, function=partial(function, band=band))


def judged(function: Callable[..., Any], *, higher_is_better: bool) -> Metric:
    """A metric of one's own, to be handed to ``lossmith.compare.compare(metrics={"name": ...})``.

    It gets what the metrics of the family get and returns what they return, as the table above
    says. In a file that the command line names (``--metric my_metrics.py:gain``) the function says
    its direction itself: ``gain.higher_is_better = True``.

    >>> judged(max, higher_is_better=True).higher_is_better
    True
    """
    return Metric("", "", "", higher_is_better, function)


def own_metric(text: str, family: str) -> Metric:
    """The metric of the user's own that a text names."""
    found = own(text)
    value = found.value
    higher: Any
    if isinstance(value, Metric):
        function, higher = value.function, value.higher_is_better
    else:
        function, higher = found.made(), getattr(value, "higher_is_better", None)
    if not isinstance(higher, bool):
        name = text.rpartition(":")[2]
        raise ValueError(
            f"{text} does not say which direction is better. Below its definition write "
            f"{name}.higher_is_better = True (or False); in Python hand over "
            f"judged({name}, higher_is_better=True), of lossmith.compare."
        )
    checked = _OwnFunction(text, function, rows=family in PER_ROW)
    return Metric(text, text, family, higher, checked, definition="of the user's own")


PER_ROW = ("retrieval", "ranking", "recommendation")  # one value for each query, list or user


@dataclass(frozen=True)
class _OwnFunction:
    """A metric of the user's that says so when it returns something else than it has to."""

    text: str
    function: Callable[..., Any]
    rows: bool

    def __call__(self, *inputs: Any, **more: Any) -> Any:
        try:
            value = self.function(*inputs, **more)
        except Exception as error:  # the user's code: say whose error it is
            given = ", ".join(map(_said, inputs))
            raise ValueError(
                f"{self.text} raised {type(error).__name__}: {error}; it was given {given}."
            ) from error
        shape = tuple(getattr(value, "shape", ()))
        wanted = tuple(inputs[0].shape[:1]) if self.rows else ()
        if shape == wanted or (not self.rows and math.prod(shape) == 1):
            return value
        expected = f"one value for each row, shape {wanted}" if self.rows else "one number"
        raise ValueError(f"{self.text} returned {_said(value)}; expected {expected}.")


def _said(value: Any) -> str:
    shape = getattr(value, "shape", None)
    return f"a tensor of shape {tuple(shape)}" if shape is not None else f"{value!r:.60}"


_registry: dict[tuple[str, str], Metric] = {}
Function = TypeVar("Function", bound=Callable[..., Any])


def metric(
    *,
    family: str,
    higher_is_better: bool,
    name: str | None = None,
    at_k: bool = False,
    at_band: bool = False,
    definition: str = "",
) -> Callable[[Function], Function]:
    """Register a function as a metric; the function itself is returned unchanged.

    Args:
        family: one of :data:`FAMILIES`, the file the function stands in.
        higher_is_better: the direction.
        name: what the user types, where the function cannot be called that (``map``).
        at_k: whether it takes a cut-off, the keyword ``k``; the user writes ``name@10``.
        at_band: whether it takes a tolerance, the keyword ``band``; the user writes ``name@0.5``.
        definition: a few words for the signature, where the field knows several of that name.
    """

    def register(function: Function) -> Function:
        if family not in FAMILIES:
            raise ValueError(f"{family!r} is not a family.{did_you_mean(family, FAMILIES)}")
        base = name or function.__name__
        made = Metric(
            name="",
            base=base,
            family=family,
            higher_is_better=higher_is_better,
            function=function,
            at_k=at_k,
            at_band=at_band,
            definition=definition,
        )
        _registry[family, base] = replace(made, name=made.open_name)
        return function

    return register


def metrics(family: str | None = None) -> tuple[Metric, ...]:
    """Every metric (of one family, or all), in the order of the families and their files.

    One with a cut-off stands here once, under ``name@k``, with the cut-off open; so does one
    with a band.

    >>> [metric.name for metric in metrics("recommendation")][:2]
    ['precision@k', 'recall@k']
    """
    if family is not None and family not in FAMILIES:
        raise ValueError(f"{family!r} is not a family.{did_you_mean(family, FAMILIES)}")
    for name in FAMILIES:
        if importlib.util.find_spec(f"lossmith.metrics.{name}") is not None:
            importlib.import_module(f"lossmith.metrics.{name}")
    return tuple(
        found
        for name in FAMILIES
        for found in _registry.values()
        if found.family == name and family in (None, name)
    )


def find_metric(text: str, family: str | None = None) -> Metric:
    """The metric of that name; an unknown name raises with a suggestion.

    Capitals do not matter: the field writes both ``NDCG@20`` and ``ndcg@20``.

    >>> found = find_metric("precision@10", "recommendation")
    >>> found.name, found.base, found.k, found.higher_is_better
    ('precision@10', 'precision', 10, True)
    >>> find_metric("precision", "recommendation")
    Traceback (most recent call last):
        ...
    ValueError: precision needs a cut-off. Write 'precision@10' for the top 10.
    >>> find_metric("recal@20", "recommendation")
    Traceback (most recent call last):
        ...
    ValueError: there is no recommendation metric 'recal@20'. Did you mean 'recall@20'?
    """
    if is_own(text.strip()):
        return own_metric(text.strip(), family or "")
    base, at, cut_off = text.strip().lower().partition("@")
    named = [found for found in metrics(family) if found.base == base]
    if not named:
        kind = f"{family} metric" if family else "metric"
        known = {_example(found, cut_off) for found in metrics(family)}
        suggestion = did_you_mean(text.strip().lower(), known)
        raise ValueError(f"there is no {kind} {text!r}.{suggestion}")
    if len(named) > 1:
        families = " and ".join(found.family for found in named)
        raise ValueError(f"{base} is a metric of {families}; say which family.")
    (found,) = named
    if found.at_k:
        return found.at(_cut_off(base, at, cut_off))
    if found.at_band:
        return found.within(_band(base, at, cut_off))
    if at:
        raise ValueError(f"{base} has no cut-off. Write {base!r}.")
    return found


def _cut_off(base: str, at: str, text: str) -> int:
    if not at:
        raise ValueError(f"{base} needs a cut-off. Write '{base}@10' for the top 10.")
    if not re.fullmatch("0*[1-9][0-9]*", text, re.ASCII):
        raise ValueError(
            f"'{base}@{text}': the cut-off {text!r} is not a whole number, 1 or more. "
            f"Write '{base}@10' for the top 10."
        )
    return int(text)


def _band(base: str, at: str, text: str) -> float:
    hint = f"Write '{base}@0.5' for errors of up to 0.5 in units of the target."
    if not at:
        raise ValueError(f"{base} needs a band. {hint}")
    if not re.fullmatch(r"[0-9]+(\.[0-9]*)?|\.[0-9]+", text, re.ASCII):
        raise ValueError(f"'{base}@{text}': the band {text!r} is not a number, 0 or more. {hint}")
    return float(text)


def _example(metric: Metric, cut_off: str) -> str:
    """What to type for this metric, with the cut-off that was typed where it has one."""
    if metric.at_band:
        return f"{metric.base}@{cut_off or 0.5}"
    return f"{metric.base}@{cut_off or 10}" if metric.at_k else metric.name
