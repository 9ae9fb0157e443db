"""What a loss promises to leave as it is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

from lossmith.check.examples import Example
from lossmith.check.laws.base import Failure, NotApplicable, close, law, show
from lossmith.check.trial import Trial


@law(
    name="invariances",
    place=8,
    why="A promise in the metadata is what people build on.",
    how="Shift all predictions by 3.25, scale them by 1.75, reverse the items of each list: what "
    "is promised to stay must stay.",
    hint="Mend the formula, or take the promise back.",
)
def invariances(trial: Trial) -> str:
    spec = trial.subject.spec
    if spec is None or not spec.invariances:
        raise NotApplicable("promises none")
    changes: dict[str, Callable[[Tensor], Tensor]] = {
        "shift": lambda p: p + 3.25,
        "scale": lambda p: p * 1.75,
        "item permutation": lambda p: p.flip(-1) if p.dim() > 1 else p,
    }
    for name in spec.invariances:
        change = changes[name]

        def moves(example: Example, name: str = name, change: Any = change) -> Failure | None:
            moved = example.with_predictions(*map(change, example.predictions))
            if name == "item permutation":
                moved = moved.with_labels(*map(change, example.labels))
            a, b = trial.value(example), trial.value(moved)
            tolerance = 1e-7 if name == "item permutation" else 1e-9
            return (
                None if close(a, b, tolerance) else Failure(f"moves under {name}", show(a), show(b))
            )

        trial.hold(moves, trial.examples(14, 3))
    return f"holds: {', '.join(sorted(spec.invariances))}"
