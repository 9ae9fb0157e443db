"""What a loss sees in one batch: who teaches, who cannot, and how low it can go."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor

from lossmith.check.examples import Example
from lossmith.check.laws.base import number
from lossmith.check.subject import Subject, make_subject
from lossmith.check.trial import leaf, slopes

ACTIVE = 1e-6  # of the largest row: a row with less gradient than this does not teach
HARDEST = 0.1
NEAR = 0.999  # a cosine above this is a collapse when it is the mean, a duplicate in a pair


@dataclass(frozen=True)
class Explanation:
    """Numbers about one batch, and what they warn of."""

    loss: str
    value: float
    rows: int
    active: float  # share of rows that receive gradient
    hardest: float  # share of the gradient that the hardest tenth of the rows receives
    duplicates: tuple[tuple[int, int], ...] = ()  # pairs of rows that are the same
    false_negatives: tuple[tuple[int, int], ...] = ()  # (query, row) as near as the query's own
    floor: float | None = None  # the value that an in-batch softmax cannot go below
    similarity: float | None = None  # mean cosine between different rows
    warnings: tuple[str, ...] = field(default=())

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return asdict(self)

    def text(self) -> str:
        """A few lines for a terminal or a log."""
        lines = [
            f"{self.loss} costs {number(self.value)} over {self.rows} rows",
            f"  {self.active:.0%} of the rows receive gradient",
            f"  the hardest tenth receives {self.hardest:.0%} of it",
        ]
        if self.similarity is not None:
            lines.append(f"  mean cosine between different rows: {self.similarity:.3f}")
        if self.duplicates:
            lines.append(f"  {len(self.duplicates)} pairs of rows are the same")
        if self.false_negatives:
            lines.append(f"  {len(self.false_negatives)} negatives are as near as the positive")
        if self.floor is not None:
            lines.append(f"  duplicates keep the loss above {number(self.floor)}")
        return "\n".join([*lines, *(f"  warning: {warning}" for warning in self.warnings)])


def explain_batch(
    loss: Any,
    *batch: Any,
    family: str | None = None,
    inputs: str | None = None,
    args: Mapping[str, Any] | str | None = None,
) -> Explanation:
    """Explain what a loss makes of one batch: its tensors in the order of the loss.

    >>> same = torch.eye(4)[[0, 0, 1, 2]]
    >>> found = explain_batch("info_nce", same, same)
    >>> found.duplicates, round(found.floor, 4)  # 2 of 4 rows have a double: ln 2 for each
    (((0, 1),), 0.3466)
    """
    subject = make_subject(loss, family=family, inputs=inputs, args=args)
    example = _example(subject, batch)
    traced = leaf(example)
    value = subject(traced)
    gradients = slopes(value, traced)
    rows = example.batch_size
    pull = torch.zeros(rows, dtype=torch.float64)
    for g in gradients:
        if g is not None and len(g) == rows:
            pull += g.detach().double().abs().reshape(rows, -1).sum(-1).cpu()
    active = _active_share(pull)
    hardest = _hardest_share(pull)
    duplicates, false_negatives, floor, similarity = _embeddings(subject.kind, example)
    mean = float(value.detach().mean())
    return Explanation(
        subject.name,
        mean,
        rows,
        active,
        hardest,
        duplicates,
        false_negatives,
        floor,
        similarity,
        tuple(_warnings(subject, mean, active, similarity, len(duplicates))),
    )


def _example(subject: Subject, batch: tuple[Any, ...]) -> Example:
    """The user's tensors in the places of an example's."""
    model = subject.example()
    count, wanted = len(model.predictions), len(model.predictions) + len(model.labels)
    if len(batch) < wanted:
        raise ValueError(
            f"{subject.name} takes {wanted} arguments ({subject.kind}); got {len(batch)}."
        )
    needed = {name: value for name, value in model.needed.items() if name not in subject.args}
    return Example(tuple(batch[:count]), tuple(batch[count:wanted]), needed)


def _active_share(pull: Tensor) -> float:
    top = float(pull.max()) if len(pull) else 0.0
    return float((pull > ACTIVE * top).double().mean()) if top > 0 else 0.0


def _hardest_share(pull: Tensor) -> float:
    total = float(pull.sum()) if len(pull) else 0.0
    few = max(1, math.ceil(HARDEST * len(pull)))
    return float(pull.sort(descending=True).values[:few].sum()) / total if total > 0 else 0.0


Pairs = tuple[tuple[int, int], ...]


def _embeddings(kind: str, example: Example) -> tuple[Pairs, Pairs, float | None, float | None]:
    """What the geometry of embeddings says; nothing for other kinds."""
    if kind not in ("queries+positives", "two views", "embeddings+labels", "pair+same", "triplet"):
        return (), (), None, None
    unit = [p.detach().double() / p.detach().double().norm(dim=-1, keepdim=True).clamp(min=1e-30)
            for p in example.predictions]  # fmt: skip
    rows = len(unit[0])
    among = unit[0] @ unit[0].T
    apart = ~torch.eye(rows, dtype=torch.bool, device=among.device)
    similarity = float(among[apart].mean()) if rows > 1 else None
    if kind not in ("queries+positives", "two views"):
        return (), (), None, similarity
    twin = (unit[1] @ unit[1].T > 1.0 - 1e-6) & apart
    duplicates = tuple((int(i), int(j)) for i, j in twin.nonzero() if i < j)
    across = unit[0] @ unit[1].T
    rivals = (across >= across.diagonal().unsqueeze(-1) - 1e-6) & apart
    candidates = tuple((int(i), int(j)) for i, j in rivals.nonzero())
    # k equal candidates share the probability of one: -log(1 / k) for each query that has them.
    floor = float((1.0 + twin.sum(-1)).log().mean()) if duplicates else None
    return duplicates, candidates, floor, similarity


def _warnings(
    subject: Subject, value: float, active: float, similarity: float | None, duplicates: int
) -> list[str]:
    said = []
    if not math.isfinite(value):
        said.append("the value is not a number")
    if active < 0.1:
        said.append("almost no row receives gradient: the batch is solved, or the loss is stuck")
    if similarity is not None and similarity > NEAR:
        said.append("collapse: all embeddings point the same way")
    margin = _margin(subject)
    if margin and abs(value - margin) < 1e-2 * margin and subject.kind in ("triplet", "pair+same"):
        said.append(
            f"the value is the margin, {number(margin)}: both distances are equal, as when all "
            "embeddings are the same"
        )
    if duplicates:
        said.append("duplicates are each other's negatives; mask them, or deduplicate the batch")
    return said


def _margin(subject: Subject) -> float | None:
    value = subject.args.get("margin", getattr(subject.loss, "margin", None))
    if value is None and "margin" in subject.parameters:
        value = subject.parameters["margin"].default
    return float(value) if isinstance(value, (int, float)) else None
