"""The loss under check, behind one way of calling it."""

from __future__ import annotations

import contextlib
import copy
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from lossmith.check.adapters import Plan, Unfit, plan_for
from lossmith.check.examples import EXAMPLES, Example
from lossmith.check.laws.base import Raised, show
from lossmith.check.signature import (
    Inputs,
    check_family,
    family_of,
    guess,
    parse_inputs,
    positional,
    roles_of,
)
from lossmith.core.call import parse_call
from lossmith.core.load import load
from lossmith.core.module import Objective
from lossmith.core.spec import BATCH_ARGUMENTS, Spec, objectives
from lossmith.core.words import did_you_mean

# Numbers that choose, and do not weigh: no dead knob when the value does not follow them.
CHOOSERS = {"ignore_index", "dim", "axis", "num_classes", "num_items", "embedding_size", "seed"}


@dataclass
class Subject:
    """One loss, how its examples are made and how it is called with them."""

    loss: Any  # what is called: a function or an object
    name: str
    family: str
    inputs: Inputs
    spec: Spec | None = None
    args: Mapping[str, Any] = field(default_factory=dict)  # given with every call
    made_with: Mapping[str, Any] = field(default_factory=dict)  # given to the constructor
    factory: Callable[..., Any] | None = None
    plan: Plan | None = None
    knob_values: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    stochastic: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        self.parameters: Mapping[str, inspect.Parameter] = _parameters(self.loss)
        self._copies: dict[torch.dtype, Any] = {}

    @property
    def kind(self) -> str:
        """The kind of inputs."""
        return self.inputs.kind

    @property
    def ours(self) -> bool:
        """Whether it is an objective of this library, which keeps our conventions too."""
        return self.spec is not None

    def takes(self, name: str) -> bool:
        """Whether a call may be given this argument, by name or as an attribute of the object."""
        if name == "weight" and not self.ours and "weight" not in self.inputs.keywords:
            return False  # class weights, as often as not
        name = self.inputs.keywords.get(name, name)
        return name in self.parameters or (
            name == "reduction" and isinstance(self.loss, nn.Module) and hasattr(self.loss, name)
        )

    def example(self, seed: int = 0) -> Example:
        """A batch for it, without what it does not take."""
        made = EXAMPLES[self.kind](seed)
        drop = {n: None for n in ("mask", "weight") if not self.takes(n)}
        needed = {n: v for n, v in made.needed.items() if self._needs(n)}
        return replace(made, needed=needed, **drop)  # type: ignore[arg-type]

    def _needs(self, name: str) -> bool:
        if name not in self.parameters or name in self.args:
            return False
        return self.ours or self.parameters[name].default is inspect.Parameter.empty

    def __call__(self, example: Example, **more: Any) -> Tensor:
        """The value of the loss; an exception of the loss itself becomes :class:`Raised`."""
        try:
            if not self.stochastic:
                return self.plain(example, **more)
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(self.seed)
                return self.plain(example, **more)
        except Exception as error:
            raise Raised(error) from error

    def plain(self, example: Example, **more: Any) -> Tensor:
        """The bare call."""
        loss, inputs = self._in(example.predictions[0].dtype), self.inputs
        keywords = {inputs.keywords.get(name, name): value for name, value in more.items()}
        missing = [name for name in keywords if name not in self.parameters]
        if missing and isinstance(loss, nn.Module):
            loss = copy.copy(loss)  # a setting held by the object: a copy with another
            for name in missing:
                setattr(loss, name, keywords.pop(name))
        predictions = self._formed(example.predictions)
        labels = self._read(example)
        keywords = {**example.needed, **self.args, **keywords}
        if self.plan is not None and self.plan.feed is not None:
            fed = replace(example, predictions=predictions, labels=labels)
            return _tensor(self.plan.feed(loss, fed, keywords))
        if not (inputs.order or inputs.keywords):
            return _tensor(loss(*predictions, *labels, **keywords))
        by_role = dict(zip(roles_of(self.kind), (*predictions, *labels), strict=False))
        first = [by_role[role] for role in inputs.order if role in by_role]
        for role, name in inputs.keywords.items():
            if role in by_role:
                keywords[name] = by_role[role]
        return _tensor(loss(*first, **keywords))

    def _in(self, dtype: torch.dtype) -> Any:
        """The loss, with weights of its own in the precision of the predictions."""
        loss = self.loss
        if not isinstance(loss, nn.Module):
            return loss
        own = [t for t in (*loss.parameters(), *loss.buffers()) if t.is_floating_point()]
        if all(t.dtype is dtype or t.is_meta for t in own):
            return loss
        if dtype not in self._copies:
            self._copies[dtype] = copy.deepcopy(loss).to(dtype)
        return self._copies[dtype]

    def _read(self, example: Example) -> tuple[Any, ...]:
        """The labels in the loss's own convention, in the precision of the predictions."""
        if self.ours:
            return example.labels
        dtype = example.predictions[0].dtype
        labels = [
            v.to(dtype) if isinstance(v, Tensor) and v.is_floating_point() else v
            for v in example.labels
        ]
        return tuple(labels if self.plan is None else map(self.plan.labels, labels))

    def _formed(self, predictions: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        if self.inputs.form == "logits":
            return predictions
        logits, binary = predictions[0], self.kind in ("logits+binary", "logits+partial")
        if self.inputs.form == "probabilities":
            formed = logits.sigmoid() if binary else logits.softmax(-1)
        else:
            formed = torch.nn.functional.logsigmoid(logits) if binary else logits.log_softmax(-1)
        return (formed, *predictions[1:])

    def named(self, example: Example) -> dict[str, str]:
        """The example by the names of the arguments, as printed in a report."""
        names = list(roles_of(self.kind))
        if self.ours or not (self.inputs.order or self.plan):
            own = [p.name for p in positional(self.loss)] if callable(self.loss) else []
            names = [*own, *names[len(own) :]] if len(own) <= len(names) else own
        values = (*example.predictions, *example.labels)
        shown = dict(zip(names, map(show, values), strict=False))
        return {**shown, **{k: repr(v) for k, v in {**example.needed, **self.args}.items()}}

    @property
    def ignore_index(self) -> int | None:
        """The label that stands for "no label", where the loss has one."""
        if self.kind not in ("logits+class", "logits+marked"):
            return None
        value = self.args.get("ignore_index", getattr(self.loss, "ignore_index", None))
        if value is None and "ignore_index" in self.parameters:
            value = self.parameters["ignore_index"].default
        return value if isinstance(value, int) else None

    def knobs(self) -> dict[str, tuple[Any, Any]]:
        """The hyper-parameters worth varying, each with two values of its own range."""
        if self.knob_values:
            return {name: (values[0], values[1]) for name, values in self.knob_values.items()}
        if self.spec is not None:
            ends = {n: t.choices or (t.low, t.high) for n, t in self.spec.tune.items()}
            return {name: (values[0], values[1]) for name, values in ends.items()}
        found = {}
        held = _parameters(self.factory or type(self.loss)) if self.is_object else {}
        for name, parameter in {**held, **self.parameters}.items():
            value = getattr(self.loss, name, self.args.get(name, parameter.default))
            number = isinstance(value, (int, float)) and not isinstance(value, bool)
            if number and name not in CHOOSERS | BATCH_ARGUMENTS:
                found[name] = (0.5 * value, 1.5 * value) if value else (0.0, 0.5)
        return found

    @property
    def is_object(self) -> bool:
        """Whether knobs are held by an object, not given to a call."""
        return not inspect.isroutine(self.loss)

    def copy_with(self, loss: Any) -> Subject:
        """The same use of another object."""
        return replace(self, loss=loss)

    def with_knob(self, name: str, value: Any) -> Subject:
        """The same loss with one knob turned."""
        if name in self.parameters:
            return replace(self, args={**self.args, name: value})
        if self.factory is not None:
            made = self.factory(**{**self.made_with, name: value})
            return replace(self, loss=made)
        turned = copy.deepcopy(self.loss)
        setattr(turned, name, value)
        return replace(self, loss=turned)


def _parameters(function: Any) -> Mapping[str, inspect.Parameter]:
    target = function.forward if isinstance(function, nn.Module) else function
    if not inspect.isroutine(target) and not inspect.isclass(target) and hasattr(target, "call"):
        target = target.call  # Keras
    try:
        return inspect.signature(target).parameters
    except (TypeError, ValueError):
        return {}


def _tensor(value: Any) -> Tensor:
    if isinstance(value, Mapping):
        value = value.get("loss", next(iter(value.values())))
    if isinstance(value, (tuple, list)):
        value = value[0]
    if isinstance(value, (int, float)):
        return torch.tensor(float(value))
    if not isinstance(value, Tensor):
        raise TypeError(f"the loss returned {type(value).__name__}; expected a tensor")
    return value


def read_args(args: Mapping[str, Any] | str | None) -> dict[str, Any]:
    """Values from a mapping, or from text such as ``"margin=0.5, p=1"``; nothing is evaluated.

    >>> read_args("margin=0.5, kind=hard")
    {'margin': 0.5, 'kind': 'hard'}
    """
    if args is None or isinstance(args, str):
        text = (args or "").strip()
        return parse_call(f"args({text})")[1] if text else {}
    return dict(args)


def make_subject(
    loss: Any,
    *,
    family: str | None = None,
    inputs: str | None = None,
    args: Mapping[str, Any] | str | None = None,
    knobs: Mapping[str, Any] | None = None,
    seed: int = 0,
) -> Subject:
    """Find out how a loss is called; what had to be guessed is said in the notes."""
    values, name = read_args(args), ""
    if family is not None:
        check_family(family)
    if isinstance(loss, str):
        name = loss
        loss, given = load(loss)
        values = {**given, **values}
    spec, values = _our_spec(loss, values)
    if spec is not None:
        return _ours(spec, values, inputs, name or spec.name, knobs, seed)
    plan = plan_for(loss)
    described = parse_inputs(inputs) if inputs else None
    factory, made_with = None, {}
    if inspect.isclass(loss):
        factory, made_with = loss, {**(plan.args if plan else {}), **values}
        loss, values = _made(loss, made_with), {}
    name = name or _name_of(loss, made_with)
    subject = Subject(loss, name, family or "", described or Inputs("logits+class"), None, values)
    notes = []
    if described is None and plan is not None:
        described = plan.inputs
    elif described is None:
        described, note = _guessed(loss, name, family)
        notes.append(note)
    if inputs and plan is not None and plan.inputs.kind == described.kind:
        described = replace(described, form=plan.inputs.form)
    elif inputs:
        plan = None
    family = family or family_of(described.kind)
    subject = replace(
        subject,
        inputs=described,
        family=family,
        factory=factory,
        made_with=made_with,
        plan=plan,
        knob_values=knobs or {},
        notes=tuple(notes),
        seed=seed,
    )
    _check_args(subject, values)
    return subject


def _our_spec(loss: Any, values: dict[str, Any]) -> tuple[Spec | None, dict[str, Any]]:
    if isinstance(loss, Objective):
        return loss.spec, {**loss.given, **values}
    if inspect.isclass(loss) and issubclass(loss, Objective):
        return loss.spec, values
    if inspect.isfunction(loss) and loss.__module__.startswith("lossmith.losses"):
        for spec in objectives():
            if spec.function is loss:
                return spec, values
    return None, values


def _ours(
    spec: Spec,
    values: dict[str, Any],
    inputs: str | None,
    name: str,
    knobs: Mapping[str, Any] | None,
    seed: int,
) -> Subject:
    allowed = {n: v for n, v in values.items() if n not in BATCH_ARGUMENTS}
    spec.check_knobs(allowed)
    kind = inputs or spec.inputs[0]
    if kind not in spec.inputs:
        raise ValueError(
            f"{spec.name} is not fed with {kind!r}; expected one of {', '.join(spec.inputs)}."
        )
    return Subject(
        spec.function,
        name,
        spec.family,
        Inputs(kind),
        spec,
        values,
        knob_values=knobs or {},
        seed=seed,
    )


def _made(cls: Any, values: Mapping[str, Any]) -> Any:
    known = [n for n in _parameters(cls) if n not in ("self", "kwargs")]
    for name in values:
        if known and name not in known and "kwargs" not in _parameters(cls):
            raise ValueError(f"{cls.__name__} has no argument {name!r}.{did_you_mean(name, known)}")
    try:
        return cls(**values)
    except TypeError as error:
        raise ValueError(
            f"{cls.__name__} cannot be made with {dict(values)}: {error}. Give its values, as in "
            'args="margin=0.5".'
        ) from error


def _guessed(loss: Any, name: str, family: str | None) -> tuple[Inputs, str]:
    names = list(_parameters(loss))
    with contextlib.suppress(TypeError, ValueError):
        names = [p.name for p in positional(loss.forward if isinstance(loss, nn.Module) else loss)]
    found, why = guess(names, family)
    if found is None:
        raise ValueError(
            f"{name}({', '.join(names)}): which argument is what? Say family=..., as in "
            'family="ranking", or inputs=..., as in inputs="logits, class" or '
            'inputs="logits=input, class=target".'
        )
    shown = ", ".join(found.order or roles_of(found.kind))
    return found, f"guessed that it is called with ({shown}), since {why}"


def _check_args(subject: Subject, values: Mapping[str, Any]) -> None:
    parameters = subject.parameters
    if any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        return
    for name in [*values, *subject.inputs.keywords.values()]:
        if name not in parameters:
            raise ValueError(
                f"{subject.name} has no argument {name!r}.{did_you_mean(name, parameters)}"
            )


def _name_of(loss: Any, made_with: Mapping[str, Any]) -> str:
    name = getattr(loss, "__qualname__", None) or type(loss).__name__
    shown = ", ".join(f"{k}={v!r}" for k, v in made_with.items() if not isinstance(v, nn.Module))
    return f"{name}({shown})" if shown else str(name)


__all__ = ["Subject", "Unfit", "make_subject", "read_args"]
