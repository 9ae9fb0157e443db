"""A stand-in for a GPU: tensors that say they are elsewhere, and will not mix with the others.

It computes on the processor, so the numbers are real; what it tells is where each tensor is. It
does not tell what a GPU computes, nor how fast. The device it has borrowed is "meta", which any
build of torch lets tensors be on and lets autograd work with.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing
from torch.utils._pytree import tree_flatten, tree_map, tree_map_only

THERE = torch.device("meta")
COPIES = (torch.ops.aten._to_copy.default, torch.ops.aten.copy_.default)


class MixedError(RuntimeError):
    """Tensors of two devices in one operation."""


class There(Tensor):
    """A tensor on the device, whose numbers are in ``inner``."""

    inner: Tensor

    @staticmethod
    def __new__(cls, inner: Tensor) -> There:
        return torch.Tensor._make_wrapper_subclass(
            cls,
            inner.shape,
            strides=inner.stride(),
            storage_offset=inner.storage_offset(),
            dtype=inner.dtype,
            layout=inner.layout,
            device=THERE,
            requires_grad=False,
        )

    def __init__(self, inner: Tensor) -> None:
        self.inner = inner

    def __repr__(self) -> str:
        return f"There({self.inner})"

    def tolist(self) -> Any:
        return self.inner.tolist()

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None) -> Any:
        return _run(func, args, kwargs or {})


class _Mode(TorchDispatchMode):
    def __torch_dispatch__(self, func, types, args=(), kwargs=None) -> Any:
        return _run(func, args, kwargs or {})


class _Made(TorchFunctionMode):
    """``torch.tensor(numbers, device=...)`` never comes to the other mode."""

    def __torch_function__(self, func, types, args=(), kwargs=None) -> Any:
        kwargs = dict(kwargs or {})
        made = func in (torch.tensor, torch.as_tensor) and not isinstance(args[0], Tensor)
        if made and torch.device(kwargs.get("device") or "cpu") == THERE:
            return There(func(*args, **{**kwargs, "device": "cpu"}))
        return func(*args, **kwargs)


def _run(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    flat, _ = tree_flatten((args, kwargs))
    there = [one for one in flat if isinstance(one, There)]
    # A single number of the processor is let in, as a GPU does.
    here = [o for o in flat if isinstance(o, Tensor) and not isinstance(o, There) and o.dim()]
    if there and here and func not in COPIES:
        raise MixedError(f"{func}: {len(there)} tensors on {THERE}, {len(here)} on the processor")
    asked = kwargs.get("device")
    away = bool(there) if asked is None else torch.device(asked).type == THERE.type
    if func is torch.ops.aten.copy_.default:
        away = isinstance(args[0], There)
    generator = kwargs.get("generator")
    if away and generator is not None and generator.device.type == "cpu":
        raise MixedError(f"{func}: a generator of the processor draws for {THERE}")
    inside = dict(kwargs)
    if asked is not None:
        inside["device"] = torch.device("cpu")
    args_inside, inside = tree_map_only(There, lambda one: one.inner, (args, inside))
    found = func(*args_inside, **inside)
    if not away:
        return found
    wrapped = tree_map(lambda one: There(one) if isinstance(one, Tensor) else one, found)
    if not there or func in COPIES[:1]:
        return wrapped
    return return_and_correct_aliasing(func, args, kwargs, wrapped)


@contextlib.contextmanager
def device(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let the stand-in be what ``device=cuda`` finds."""
    with monkeypatch.context() as patch:
        for module in ("tasks.task", "training.fit", "training.folder"):
            patch.setattr(f"lossmith.{module}.find", lambda name: torch.device(FOUND[name]))
        before = torch.__future__.get_overwrite_module_params_on_conversion()
        torch.__future__.set_overwrite_module_params_on_conversion(True)
        try:
            with _Made(), _Mode(), warnings.catch_warnings():
                # Of a true meta tensor it would be true.
                warnings.filterwarnings("ignore", ".*which is a no-op", UserWarning)
                yield
        finally:
            torch.__future__.set_overwrite_module_params_on_conversion(before)


FOUND = {"cpu": "cpu", "cuda": "meta"}
