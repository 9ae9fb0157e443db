"""Where a model computes: the one place that brings tensors to a device and back.

Data, batches, random draws and metrics are on the processor. A model is built there, from the
seed, and brought to its device; so are the batches that it learns from, and the inputs of a
question, whose answer comes back. The default is the processor, whatever is there: a plan says what
it does, on every machine. Another device rounds otherwise, so it is part of what a training is.

This is tested on a stand-in for a device, which refuses tensors from elsewhere; not on a GPU.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass, replace
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

T = TypeVar("T")
CPU = torch.device("cpu")


def present() -> list[str]:
    """The devices of this machine, the processor first.

    >>> present()[0]
    'cpu'
    """
    found = ["cpu"]
    if torch.backends.mps.is_available():
        found.append("mps")
    if torch.cuda.is_available():
        found += [f"cuda:{i}" for i in range(torch.cuda.device_count())]
    return found


def find(name: str) -> torch.device:
    """The device of that name; one that is not there raises, and says which are.

    >>> find("cpu")
    device(type='cpu')
    >>> find("cuda:77")
    Traceback (most recent call last):
        ...
    ValueError: device=cuda:77 is not there; torch finds cpu...
    """
    there = present()
    if name in there or (name == "cuda" and "cuda:0" in there):
        return torch.device(name)
    raise ValueError(f"device={name} is not there; torch finds {', '.join(there)} on this machine.")


def place_of(model: object) -> torch.device:
    """Where a model is; what has no parameters, as other libraries' learners, is not elsewhere."""
    first = next(model.parameters(), None) if isinstance(model, nn.Module) else None
    return CPU if first is None else first.device


def moved(value: T, device: torch.device) -> T:
    """The same value with every tensor in it on the device: batches, states, whatever is nested."""
    there: T = _moved(value, device)
    return there


def _moved(value: Any, device: torch.device) -> Any:
    """The same, where a type follows from the value alone."""
    if isinstance(value, Tensor):
        return value.to(device)
    if isinstance(value, Mapping):
        return {key: _moved(one, device) for key, one in value.items()}
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*(one.to(device) if isinstance(one, Tensor) else one for one in value))
    if isinstance(value, (list, tuple)):
        return type(value)(_moved(one, device) for one in value)
    if is_dataclass(value) and not isinstance(value, type):
        tensors = {
            one.name: getattr(value, one.name).to(device)
            for one in fields(value)
            if isinstance(getattr(value, one.name), Tensor)
        }
        return replace(value, **tensors)
    return value


def ask(model: object, call: Callable[..., Tensor], *inputs: Tensor) -> Tensor:
    """What a model, or one of its methods, makes of inputs; both are on the processor."""
    device = place_of(model)
    return moved(call(*moved(inputs, device)), CPU)


def random_state(device: torch.device) -> Tensor | None:
    """Where the random numbers of a device stand, beside those of the processor."""
    if device.type == "cuda":
        return torch.cuda.get_rng_state(device)
    return torch.mps.get_rng_state() if device.type == "mps" else None


def set_random_state(device: torch.device, state: Tensor | None) -> None:
    """Go on with them from there."""
    if state is not None and device.type == "cuda":
        torch.cuda.set_rng_state(state, device)
    if state is not None and device.type == "mps":
        torch.mps.set_rng_state(state)


def wait_for(device: torch.device) -> None:
    """Until the device has done what it was told, so that a clock says how long that took."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    if device.type == "mps":
        torch.mps.synchronize()
