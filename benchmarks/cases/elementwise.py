"""Losses whose cost is reading their inputs: against torch's own, compiled, and tiny."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.case import Case, Contender, Inputs, Size

Loss = Callable[[Tensor, Tensor], Tensor]


def rows_of(kind: str) -> Callable[[Size], Inputs]:
    """Predictions and what they are held against."""

    def make(size: Size) -> Inputs:
        generator = torch.Generator().manual_seed(0)
        shape = (size["rows"], size["columns"])
        x = torch.randn(shape, generator=generator)
        labels = {
            "class": lambda: torch.randint(shape[1], shape[:1], generator=generator),
            "binary": lambda: torch.randint(2, shape, generator=generator).float(),
            "distribution": lambda: torch.randn(shape, generator=generator).softmax(-1),
            "number": lambda: torch.randn(shape, generator=generator),
        }
        return {"x": x.requires_grad_(), "y": labels[kind]()}

    return make


def step(loss: Loss) -> Callable[[Inputs], float]:
    """Forward and backward."""

    def run(inputs: Inputs) -> float:
        inputs["x"].grad = None
        value = loss(inputs["x"], inputs["y"])
        value.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        return value.item()

    return run


def compiled(loss: Loss) -> Contender:
    """The loss after torch.compile, which is not timed."""
    kept: list[Loss] = []

    def run(inputs: Inputs) -> float:
        if not kept:
            loss(inputs["x"], inputs["y"])  # what is made once is made before the compiler looks on
            kept.append(torch.compile(loss, fullgraph=True))
        return step(kept[0])(inputs)

    def prepare(inputs: Inputs) -> Inputs:
        run(inputs)
        return inputs

    return Contender(run, prepare=prepare, quick=False)


def ours(module: str, **knobs: Any) -> Loss:
    """The module face, made once."""
    made: list[nn.Module] = []

    def loss(x: Tensor, y: Tensor) -> Tensor:
        if not made:
            import lossmith as lm

            made.append(getattr(lm, module)(**knobs))
        value: Tensor = made[0](x, y)
        return value

    return loss


def bytes_moved(inputs: Inputs) -> Tensor:
    """Read both inputs and write a gradient, and nothing else."""
    with torch.no_grad():
        return torch.add(inputs["x"], inputs["y"], out=torch.empty_like(inputs["x"]))


def _negative_log_sigmoid(x: Tensor, y: Tensor) -> Tensor:
    return -F.logsigmoid(x - y).mean()


def _soft_cross_entropy(x: Tensor, y: Tensor) -> Tensor:
    return F.cross_entropy(x, y.softmax(-1))


def _kl(x: Tensor, y: Tensor) -> Tensor:
    return F.kl_div(x.log_softmax(-1), y, reduction="batchmean")


def _list_mle(x: Tensor, y: Tensor) -> Tensor:
    """The likelihood of the order by y, where nothing is tied."""
    ordered = x.gather(-1, y.argsort(dim=-1))
    return (ordered.logcumsumexp(dim=-1) - ordered).sum(dim=-1).mean()


# name, our module and knobs, inputs, torch's own for the same thing
PAIRS: tuple[tuple[str, str, dict[str, Any], str, Loss], ...] = (
    ("cross_entropy", "CrossEntropy", {}, "class", nn.CrossEntropyLoss()),
    ("kl_divergence", "KLDivergence", {}, "distribution", _kl),
    ("binary_cross_entropy", "BinaryCrossEntropy", {}, "binary", nn.BCEWithLogitsLoss()),
    ("epsilon_insensitive", "EpsilonInsensitive", {"epsilon": 0.0}, "number", nn.L1Loss()),
    ("bpr", "BPR", {}, "number", _negative_log_sigmoid),
    ("listnet", "ListNet", {}, "number", _soft_cross_entropy),
    ("list_mle", "ListMLE", {}, "number", _list_mle),
)
LARGE: tuple[Size, ...] = ({"rows": 1024, "columns": 256}, {"rows": 8192, "columns": 512})
TINY: tuple[Size, ...] = ({"rows": 8, "columns": 4},)


def _large(name: str, module: str, knobs: dict[str, Any], kind: str, torchs: Loss) -> Case:
    contenders = {
        "lossmith": Contender(step(ours(module, **knobs))),
        "torch": Contender(step(torchs)),
        "lossmith compiled": compiled(ours(module, **knobs)),
        "torch compiled": compiled(torchs),
    }
    return Case(
        name=f"{name}, bandwidth",
        target="no slower than torch's own; compiled, at most 1.3 x the bytes over the bandwidth",
        inputs=rows_of(kind),
        contenders=contenders,
        sizes=LARGE,
        quick=LARGE[:1],
        floor=bytes_moved if kind != "class" else None,
        at_most={"torch": 1.0, **({} if kind == "class" else {"lossmith compiled / floor": 1.3})},
    )


def _tiny(name: str, module: str, knobs: dict[str, Any], kind: str, torchs: Loss) -> Case:
    return Case(
        name=f"{name}, overhead",
        target="a module call on tiny inputs at most 2 x torch's own",
        inputs=rows_of(kind),
        contenders={
            "lossmith": Contender(step(ours(module, **knobs))),
            "torch": Contender(step(torchs)),
        },
        sizes=TINY,
        quick=TINY,
        at_most={"torch": 2.0},
    )


CASES = (*(_large(*pair) for pair in PAIRS), *(_tiny(*pair) for pair in PAIRS))
