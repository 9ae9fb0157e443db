"""A model of the user's own: a function that builds it from what the data is."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from lossmith.core.own import is_own, own, parameters_of, what_failed, written_at
from lossmith.core.validate import shape_text

# Of a text and items: the vector of the text, or the scores.
OF_TEXTS = "model(ids [N, L]) -> [N, dimension] or [N, items]"


class ModelError(ValueError):
    """A model of the user's own that cannot be called as it is to be, or gives something else."""


@dataclass(frozen=True)
class Call:
    """How a family calls a model, in words, and the shape that has to come out."""

    text: str  # "model(users [M], items [M]) -> [M]"
    shape: Callable[..., tuple[int, ...]]  # from the inputs

    @property
    def arguments(self) -> list[str]:
        """The names of what it is called with.

        >>> Call("model(users [M], items [M]) -> [M]", lambda u, i: u.shape).arguments
        ['users', 'items']
        """
        inside = self.text.partition("(")[2].partition(")")[0]
        return [part.split()[0] for part in inside.split("], ")]


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
    given = {k: v for k, v in known.items() if every or k in parameters}
    try:
        model = found.value(**given)
    except Exception as error:  # whatever a constructor of the user's raises
        raise ValueError(f"model={text} cannot be made: {what_failed(error)}") from error
    if not isinstance(model, nn.Module):
        raise ValueError(f"model={text} returned {type(model).__name__}; expected an nn.Module.")
    return model


def asks_for(settings: Mapping[str, Any], fact: str) -> bool:
    """Whether the model is one of the user's, and what builds it has an argument of that name."""
    text = str(settings["model"])
    return is_own(text) and fact in parameters_of(own(text).value)


def takes(model: nn.Module, count: int) -> bool:
    """Whether a model can be called with so many inputs, as far as Python can tell."""
    try:
        inspect.signature(model.forward).bind(*range(count))
    except TypeError:
        return False
    except ValueError:
        return True
    return True


def called(model: nn.Module, settings: Mapping[str, Any], call: Call) -> OwnModel:
    """The model, that says what is wrong when it cannot be called so or gives another shape.

    A last axis of one number may be there or not.
    """
    text, place = str(settings["model"]), place_of(model, settings)
    if not takes(model, len(call.arguments)):
        taken = ", ".join(parameters_of(model))
        raise ModelError(
            f"model={text} made a {type(model).__name__} whose forward takes ({taken}){place}; it "
            f"is called as {call.text}, so give it {', '.join(call.arguments)}."
        )
    return OwnModel(model, text, call, place)


def place_of(model: nn.Module, settings: Mapping[str, Any]) -> str:
    """Where what a model computes is written, or else what made it."""
    return written_at(type(model).forward, own(str(settings["model"])).value)


class OwnModel(nn.Module):
    """A model of the user's own, that tells a failure and a wrong output in a sentence."""

    def __init__(self, model: nn.Module, text: str, call: Call, place: str) -> None:
        super().__init__()
        self.model, self.text, self.call, self.place = model, text, call, place

    def forward(self, *inputs: Tensor) -> Tensor:
        """What the model gives, in the shape that was asked for."""
        try:
            output = self.model(*inputs)
        except Exception as error:  # whatever a model of the user's raises
            raise ModelError(
                f"model={self.text} fails on {_shapes(inputs)}, called as {self.call.text}: "
                f"{what_failed(error)}"
            ) from error
        right = self.call.shape(*inputs)
        if isinstance(output, Tensor) and output.is_floating_point():
            if output.shape == right:
                return output
            if _but_one(tuple(output.shape), right):
                return output.reshape(right)
        what = f"a {type(output).__name__}"
        if isinstance(output, Tensor):
            what = f"{shape_text(output)} of {output.dtype}"
        raise ModelError(
            f"model={self.text} gave {what} when it was called with {_shapes(inputs)}{self.place}; "
            f"expected floating point of shape {right}: {self.call.text}."
        )


def _shapes(inputs: tuple[Tensor, ...]) -> str:
    return ", ".join(map(shape_text, inputs))


def _but_one(shape: tuple[int, ...], right: tuple[int, ...]) -> bool:
    """Whether two shapes are the same but for a last axis of one number.

    >>> _but_one((8, 1), (8,)), _but_one((8,), (8, 1)), _but_one((2, 8), (8, 2))
    (True, True, False)
    """
    return (*shape, 1) == right or shape == (*right, 1)


def width_of(model: nn.Module, settings: Mapping[str, Any], length: int) -> int:
    """How many numbers a model of texts gives for each: it is called once, with two of them."""
    text, ids = str(settings["model"]), torch.ones(2, length, dtype=torch.int32)
    was = model.training
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        try:
            output = model.eval()(ids)
        except Exception as error:  # whatever a model of the user's raises
            raise ModelError(
                f"model={text} fails on token ids {shape_text(ids)}, called as {OF_TEXTS}: "
                f"{what_failed(error)}"
            ) from error
    model.train(was)
    if isinstance(output, Tensor) and output.dim() == 2 and len(output) == 2:
        return int(output.shape[1])
    what = shape_text(output) if isinstance(output, Tensor) else f"a {type(output).__name__}"
    raise ModelError(
        f"model={text} gave {what} for token ids {shape_text(ids)}{place_of(model, settings)}; "
        f"expected {OF_TEXTS}."
    )
