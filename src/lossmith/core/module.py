"""The module face: one small ``nn.Module`` per objective, made from its metadata."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from lossmith.core.spec import Spec, objectives


class Objective(nn.Module):
    """An objective with its knobs held; calling it calls the function of the same name.

    A knob that is a tensor (class weights) is a buffer, so it moves with ``.to(device)``.
    """

    spec: ClassVar[Spec]

    def __init__(self, **knobs: Any) -> None:
        super().__init__()
        # torch.compile cannot read the type hints that list the choices; the function checks them.
        self.spec.check_knobs(knobs, choices=not torch.compiler.is_compiling())
        self._knob_names = tuple(name for name in self.spec.knobs if name in knobs)
        for name in self._knob_names:
            value = knobs[name]
            if isinstance(value, Tensor) and not isinstance(value, nn.Parameter):
                self.register_buffer(name, value, persistent=False)
            else:
                setattr(self, name, value)

    def __getattr__(self, name: str) -> Any:
        # A knob that was not given has the function's default.
        if name in self.spec.knobs:
            default = self.spec.knobs[name].default
            if default is not self.spec.knobs[name].empty:
                return default
        return super().__getattr__(name)

    def forward(self, *inputs: Any, **batch: Any) -> Tensor:
        """Call the function; a keyword given here wins over the knob of that name."""
        knobs = {name: getattr(self, name) for name in self._knob_names}
        value: Tensor = self.spec.function(*inputs, **{**knobs, **batch})
        return value

    @property
    def given(self) -> Mapping[str, object]:
        """The knobs that were given, by name."""
        return {name: getattr(self, name) for name in self._knob_names}

    @property
    def text(self) -> str:
        """The text that :func:`from_text` reads back: ``"warp(margin=0.5)"``."""
        return self.spec.text(self.given)

    def extra_repr(self) -> str:
        """Every knob, so that a printed model says what it trains for."""
        shown = {}
        for name, parameter in self.spec.knobs.items():
            value = getattr(self, name, parameter.default)
            shown[name] = "?" if value is parameter.empty else repr(value)
        return ", ".join(f"{name}={value}" for name, value in shown.items())


def module_class(spec: Spec) -> type[Objective]:
    """The module face of one objective."""
    return type(
        spec.module_name,
        (Objective,),
        {
            "spec": spec,
            "__module__": "lossmith.modules",
            "__doc__": f"Module face of :func:`lossmith.{spec.name}`: same knobs, same numbers.",
        },
    )


def module_classes() -> dict[str, type[Objective]]:
    """Every module face by its name."""
    return {spec.module_name: module_class(spec) for spec in objectives()}
