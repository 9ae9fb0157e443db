"""Every objective of the registry, with each kind of inputs and each way its modes can be set."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lossmith.check.examples import EXAMPLES, Example
from lossmith.core.spec import Spec, objectives


@dataclass(frozen=True)
class Case:
    """One objective, one kind of inputs, one setting of its modes."""

    spec: Spec
    inputs: str
    modes: Mapping[str, Any]

    @property
    def id(self) -> str:
        return f"{self.spec.text(self.modes)}[{self.inputs}]"

    def example(self, seed: int = 0) -> Example:
        made = EXAMPLES[self.inputs](seed)
        takes = self.spec.parameters
        drop = {name: None for name in ("mask", "weight") if name not in takes}
        needed = {name: value for name, value in made.needed.items() if name in takes}
        return Example(**{**made.__dict__, **drop, "needed": needed})

    def __call__(self, example: Example, **more: Any) -> Tensor:
        given = {**example.needed, **self.modes, **more}
        value: Tensor = self.spec.function(*example.predictions, *example.labels, **given)
        return value

    def divisor(self, count: float) -> Any:
        """A divisor in the form the objective takes: a number, one per class, one per term."""
        if self.modes.get("average") == "classes":
            return torch.full((3,), count)
        if self.spec.name == "keyword_hybrid":
            return (count, count, count)
        return count

    def exempt(self, law: str) -> str | None:
        return self.spec.exempt.get(law)  # type: ignore[call-overload]  # any text may be asked


def _cases() -> Iterator[Case]:
    for spec in objectives():
        for inputs in spec.inputs:
            yield Case(spec, inputs, {})
            for name, parameter in spec.knobs.items():
                if name == "reduction" or parameter.default is inspect.Parameter.empty:
                    continue
                others: tuple[object, ...] = spec.choices.get(name, ())
                if isinstance(parameter.default, bool):
                    others = (True, False)
                for value in others:
                    if value != parameter.default:
                        yield Case(spec, inputs, {name: value})


CASES = list(_cases())
