# Written by tools/generate.py from the registry; do not edit.
from typing import Literal

from torch import Tensor

from lossmith.core.module import Objective
from lossmith.core.reduce import Divisor, Reduction

class CrossEntropy(Objective):
    def __init__(
        self,
        *,
        class_weight: Tensor | None = ...,
        ignore_index: int = ...,
        label_smoothing: float = ...,
        reduction: Reduction = ...,
    ) -> None: ...
    def forward(  # type: ignore[override]  # the base takes anything
        self,
        logits: Tensor,
        target: Tensor,
        *,
        mask: Tensor | None = ...,
        weight: Tensor | None = ...,
        divisor: Divisor | None = ...,
    ) -> Tensor: ...
    __call__ = forward

class KLDivergence(Objective):
    def __init__(
        self,
        *,
        reduction: Reduction = ...,
    ) -> None: ...
    def forward(  # type: ignore[override]  # the base takes anything
        self,
        logits: Tensor,
        target_probs: Tensor,
        *,
        mask: Tensor | None = ...,
        weight: Tensor | None = ...,
        divisor: Divisor | None = ...,
    ) -> Tensor: ...
    __call__ = forward

class BinaryCrossEntropy(Objective):
    def __init__(
        self,
        *,
        pos_weight: float | Tensor | None = ...,
        reduction: Reduction = ...,
    ) -> None: ...
    def forward(  # type: ignore[override]  # the base takes anything
        self,
        logits: Tensor,
        target: Tensor,
        *,
        mask: Tensor | None = ...,
        weight: Tensor | None = ...,
        divisor: Divisor | None = ...,
    ) -> Tensor: ...
    __call__ = forward

class MarginBinaryCrossEntropy(Objective):
    def __init__(
        self,
        *,
        margin: float = ...,
        continuous: bool = ...,
        reduction: Reduction = ...,
    ) -> None: ...
    def forward(  # type: ignore[override]  # the base takes anything
        self,
        logits: Tensor,
        target: Tensor,
        *,
        mask: Tensor | None = ...,
        weight: Tensor | None = ...,
        divisor: Divisor | None = ...,
    ) -> Tensor: ...
    __call__ = forward

class MarginCrossEntropy(Objective):
    def __init__(
        self,
        *,
        margin: float = ...,
        continuous: bool = ...,
        ignore_index: int = ...,
        reduction: Reduction = ...,
    ) -> None: ...
    def forward(  # type: ignore[override]  # the base takes anything
        self,
        logits: Tensor,
        target: Tensor,
        *,
        mask: Tensor | None = ...,
        weight: Tensor | None = ...,
        divisor: Divisor | None = ...,
    ) -> Tensor: ...
    __call__ = forward

class Hinge(Objective):
    def __init__(
        self,
        *,
        power: Literal[1, 2] = ...,
        reduction: Reduction = ...,
    ) -> None: ...
    def forward(  # type: ignore[override]  # the base takes anything
        self,
        scores: Tensor,
        target: Tensor,
        *,
        mask: Tensor | None = ...,
        weight: Tensor | None = ...,
        divisor: Divisor | None = ...,
    ) -> Tensor: ...
    __call__ = forward

def from_text(text: str) -> Objective: ...
