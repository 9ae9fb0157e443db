"""A small legitimate batch for every kind of inputs that an objective may declare."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from lossmith.core.spec import Inputs


@dataclass(frozen=True)
class Example:
    """Predictions (which receive gradient), labels, and what else the call needs."""

    predictions: tuple[Tensor, ...]
    labels: tuple[Any, ...] = ()
    needed: Mapping[str, Any] = field(default_factory=dict)  # knobs without a default
    mask: Tensor | None = None  # all True, in the shape that the objective takes
    weight: Tensor | None = None  # all ones, likewise
    shared: tuple[int, ...] = ()  # predictions that every row uses whole: an output layer
    # What a perfect model would give: True once the predictions are right.
    solved: Callable[[tuple[Tensor, ...]], bool] = lambda predictions: True

    def rows(self, start: int, stop: int) -> Example:
        """Some rows of the batch."""

        def cut(value: Any) -> Any:
            return value if value is None else value[start:stop]

        return replace(
            self,
            predictions=self.row_wise(cut),
            labels=tuple(map(cut, self.labels)),
            mask=cut(self.mask),
            weight=cut(self.weight),
        )

    def row_wise(self, change: Callable[[Tensor], Tensor]) -> tuple[Tensor, ...]:
        """The predictions changed, but for those that every row uses whole."""
        return tuple(p if i in self.shared else change(p) for i, p in enumerate(self.predictions))

    def with_predictions(self, *predictions: Tensor) -> Example:
        """The batch with other predictions."""
        return replace(self, predictions=predictions)

    def with_labels(self, *labels: Any) -> Example:
        """The batch with other labels."""
        return replace(self, labels=labels)

    def to(self, dtype: torch.dtype) -> Example:
        """The batch with predictions of another type."""
        return self.with_predictions(*(p.to(dtype) for p in self.predictions))

    @property
    def batch_size(self) -> int:
        """How many rows it has."""
        return len(self.predictions[0])


Maker = Callable[[int], Example]
EXAMPLES: dict[str, Maker] = {}


def example_of(*kinds: Inputs) -> Callable[[Maker], Maker]:
    """Register what makes a batch, from a seed, of these kinds of inputs."""

    def register(maker: Maker) -> Maker:
        EXAMPLES.update(dict.fromkeys(kinds, maker))
        return maker

    return register


def _ones(*shape: int) -> dict[str, Any]:
    return {"mask": torch.ones(*shape, dtype=torch.bool), "weight": torch.ones(*shape)}


def _randn(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def _randint(seed: int, high: int, *shape: int) -> Tensor:
    return torch.randint(high, shape, generator=torch.Generator().manual_seed(seed + 1000))


@example_of("logits+class")
def _class_example(seed: int) -> Example:
    target = _randint(seed, 4, 6)
    return Example(
        (_randn(seed, 6, 4),),
        (target,),
        **_ones(6),
        solved=lambda p: bool((p[0].argmax(-1) == target).all()),
    )


@example_of("logits+distribution")
def _distribution_example(seed: int) -> Example:
    target = (2 * _randn(seed + 1, 6, 4)).softmax(-1)
    return Example(
        (_randn(seed, 6, 4),),
        (target,),
        **_ones(6),
        solved=lambda p: bool((p[0].softmax(-1) - target).abs().max() < 0.05),
    )


@example_of("logits+binary")
def _binary_example(seed: int) -> Example:
    target = _randint(seed, 2, 6, 3).float()
    return Example(
        (_randn(seed, 6, 3),),
        (target,),
        **_ones(6, 3),
        solved=lambda p: bool(((p[0] > 0) == (target > 0)).all()),
    )


@example_of("logits+partial")
def _partial_example(seed: int) -> Example:
    labels = _randint(seed, 3, 6, 3).float() - 1
    labels[0] = torch.tensor([1.0, 0.0, -1.0])
    return Example(
        (_randn(seed, 6, 3),),
        (labels,),
        **_ones(6, 3),
        solved=lambda p: bool((((p[0] > 0) == (labels > 0)) | (labels == -1)).all()),
    )


@example_of("prediction+number")
def _number_example(seed: int) -> Example:
    target = _randn(seed + 1, 6)
    return Example(
        (_randn(seed, 6),),
        (target,),
        {"epsilon": 0.1},
        **_ones(6),
        solved=lambda p: bool(((p[0] - target).abs() < 0.15).all()),
    )


@example_of("pair+same")
def _pair_example(seed: int) -> Example:
    same = torch.tensor([1.0, 0.0, 1.0, 0.0, 1.0, 0.0])

    def solved(p: tuple[Tensor, ...]) -> bool:
        gap = (p[0] - p[1]).norm(dim=-1)
        return bool(gap[same == 1].max() < gap[same == 0].min())

    # Close enough together that the pairs that differ are inside the margin.
    x1 = _randn(seed, 6, 4)
    return Example((x1, x1 + 0.1 * _randn(seed + 1, 6, 4)), (same,), **_ones(6), solved=solved)


@example_of("triplet")
def _triplet_example(seed: int) -> Example:
    def solved(p: tuple[Tensor, ...]) -> bool:
        return bool(((p[0] - p[1]).norm(dim=-1) < (p[0] - p[2]).norm(dim=-1)).all())

    points = (_randn(seed, 6, 4), _randn(seed + 1, 6, 4), _randn(seed + 2, 6, 4))
    return Example(points, **_ones(6), solved=solved)


def _nearest_is_own(p: tuple[Tensor, ...]) -> bool:
    unit = [x / x.norm(dim=-1, keepdim=True) for x in p]
    return bool(((unit[0] @ unit[1].T).argmax(-1) == torch.arange(len(p[0]))).all())


@example_of("queries+positives", "two views")
def _queries_example(seed: int) -> Example:
    vectors = (_randn(seed, 6, 8), _randn(seed + 1, 6, 8))
    return Example(vectors, **_ones(6), solved=_nearest_is_own)


@example_of("scores+relevance")
def _relevance_example(seed: int) -> Example:
    relevance = torch.stack(
        [torch.randperm(5, generator=torch.Generator().manual_seed(seed + i)) for i in range(4)]
    )

    def solved(p: tuple[Tensor, ...]) -> bool:
        # The best item first: what every ranking objective must reach.
        return bool((p[0].argmax(-1) == relevance.argmax(-1)).all())

    return Example(
        (_randn(seed, 4, 5),),
        (relevance,),
        mask=torch.ones(4, 5, dtype=torch.bool),
        weight=torch.ones(4),
        solved=solved,
    )


@example_of("positive+negative")
def _positive_negative_example(seed: int) -> Example:
    return Example(
        (_randn(seed, 6), _randn(seed + 1, 6)),
        **_ones(6),
        solved=lambda p: bool((p[0] > p[1]).all()),
    )


@example_of("positive+draws")
def _draws_example(seed: int) -> Example:
    return Example(
        (_randn(seed, 6), _randn(seed + 1, 6, 8)),
        (),
        {"num_items": 100},
        mask=torch.ones(6, 8, dtype=torch.bool),
        weight=torch.ones(6),
        solved=lambda p: bool((p[0] > p[1].amax(-1)).all()),
    )


@example_of("positive+catalogue")
def _catalogue_example(seed: int) -> Example:
    # Most items are below the positive, so that violators are rare and late trials matter.
    positive, catalogue = 2.0 + _randn(seed, 6), _randn(seed + 1, 6, 60)
    return Example(
        (positive, catalogue),
        mask=torch.ones(6, 60, dtype=torch.bool),
        weight=torch.ones(6),
        solved=lambda p: bool((p[0] > p[1].amax(-1)).all()),
    )


@example_of("logits+keywords")
def _keywords_example(seed: int) -> Example:
    keywords: list[list[Any]] = [[1], [2, (3, 4)], [0, 5]]

    def solved(p: tuple[Tensor, ...]) -> bool:
        # Some keyword of each sequence is said where it is likeliest, phrases whole.
        said = p[0].argmax(-1).tolist()
        return all(
            any(_occurs(row, k if isinstance(k, tuple) else (k,)) for k in wanted)
            for row, wanted in zip(said, keywords, strict=True)
        )

    return Example(
        (_randn(seed, 3, 5, 7),),
        (keywords,),
        mask=torch.ones(3, 5, dtype=torch.bool),
        weight=torch.ones(3),
        solved=solved,
    )


def _occurs(row: list[int], phrase: tuple[int, ...]) -> bool:
    n = len(phrase)
    return any(tuple(row[i : i + n]) == phrase for i in range(len(row) - n + 1))


@example_of("logits+marked")
def _marked_example(seed: int) -> Example:
    target = _randint(seed, 7, 3, 5)
    marked = _randint(seed + 1, 2, 3, 5).bool()
    marked[:, 0] = True
    return Example(
        (_randn(seed, 3, 5, 7),),
        (target, marked),
        **_ones(3, 5),
        solved=lambda p: bool(((p[0].argmax(-1) == target) | ~marked).all()),
    )


@example_of("logits+keywords+marked")
def _hybrid_example(seed: int) -> Example:
    marked = _marked_example(seed)
    target, where = marked.labels
    # Keywords that the reference says, so that the three terms do not pull apart.
    keywords = [[int(row[0])] for row in target]
    return replace(marked, labels=(target, keywords, where), weight=torch.ones(3))


@example_of("embeddings+labels")
def _labelled_example(seed: int) -> Example:
    labels = torch.tensor([0, 1, 0, 1, 2, 2, 0, 1])

    def solved(p: tuple[Tensor, ...]) -> bool:
        # Everybody's nearest neighbour, by angle, has the same label.
        unit = p[0] / p[0].norm(dim=-1, keepdim=True)
        similarity = unit @ unit.T - 3.0 * torch.eye(len(unit), dtype=unit.dtype)
        return bool((labels[similarity.argmax(-1)] == labels).all())

    return Example((_randn(seed, 8, 8),), (labels,), **_ones(8), solved=solved)


@example_of("pair+sign")
def _signed_pair_example(seed: int) -> Example:
    sign = torch.tensor([1.0, -1.0, 1.0, -1.0, 1.0, -1.0])

    def solved(p: tuple[Tensor, ...]) -> bool:
        cosine = torch.cosine_similarity(p[0], p[1], dim=-1)
        return bool(cosine[sign == 1].min() > cosine[sign == -1].max())

    x1 = _randn(seed, 6, 4)
    return Example((x1, x1 + 0.5 * _randn(seed + 1, 6, 4)), (sign,), solved=solved)


@example_of("distance+sign")
def _distance_example(seed: int) -> Example:
    sign = torch.tensor([1.0, -1.0, 1.0, -1.0, 1.0, -1.0])
    return Example(
        (_randn(seed, 6),),
        (sign,),
        solved=lambda p: bool(p[0][sign == 1].max() < p[0][sign == -1].min()),
    )


@example_of("two scores+sign")
def _two_scores_example(seed: int) -> Example:
    sign = torch.tensor([1.0, -1.0, 1.0, -1.0, 1.0, -1.0])
    return Example(
        (_randn(seed, 6), _randn(seed + 1, 6)),
        (sign,),
        solved=lambda p: bool((sign * (p[0] - p[1]) >= 0).all()),
    )


@example_of("hidden+head+class")
def _head_example(seed: int) -> Example:
    target = _randint(seed, 5, 6)
    return Example(
        (_randn(seed, 6, 4), _randn(seed + 1, 5, 4)),
        (target,),
        **_ones(6),
        shared=(1,),
        solved=lambda p: bool(((p[0] @ p[1].T).argmax(-1) == target).all()),
    )


@example_of("log_probs+rewards")
def _samples_example(seed: int) -> Example:
    rewards = torch.stack(
        [torch.randperm(4, generator=torch.Generator().manual_seed(seed + i)) for i in range(5)]
    ).float()

    def solved(p: tuple[Tensor, ...]) -> bool:
        # Free numbers are no distribution: what ends above the rest is not told apart.
        best, worst = rewards.argmax(-1, keepdim=True), rewards.argmin(-1, keepdim=True)
        return bool((p[0].gather(-1, best) > p[0].gather(-1, worst)).all())

    return Example(
        (_randn(seed, 5, 4),),
        (rewards,),
        mask=torch.ones(5, 4, dtype=torch.bool),
        weight=torch.ones(5),
        solved=solved,
    )
