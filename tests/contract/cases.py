"""Every objective of the registry, with each kind of inputs and each way its modes can be set."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from lossmith.check.examples import Example
from lossmith.check.subject import Subject, make_subject
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

    @property
    def subject(self) -> Subject:
        return make_subject(self.spec.function, inputs=self.inputs, args=self.modes)

    def example(self, seed: int = 0) -> Example:
        return self.subject.example(seed)

    def __call__(self, example: Example, **more: Any) -> Tensor:
        given = {**example.needed, **self.modes, **more}
        value: Tensor = self.spec.function(*example.predictions, *example.labels, **given)
        return value


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
