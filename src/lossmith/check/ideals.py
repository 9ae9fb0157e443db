"""Predictions that are as right, or as wrong, as a kind of inputs allows."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from lossmith.check.examples import Example

# (example, how sure, right or wrong) -> predictions.
Ideal = Callable[[Example, float, bool], tuple[Tensor, ...]]
IDEALS: dict[str, Ideal] = {}


def ideal_of(*kinds: str) -> Callable[[Ideal], Ideal]:
    """Register how the best and the worst predictions of these kinds are made."""

    def register(ideal: Ideal) -> Ideal:
        IDEALS.update(dict.fromkeys(kinds, ideal))
        return ideal

    return register


def ideal(kind: str, example: Example, sure: float, right: bool) -> Example | None:
    """The example with perfect (or perfectly wrong) predictions; None where the kind has none."""
    make = IDEALS.get(kind)
    if make is None:
        return None
    like = example.predictions
    made = make(example, sure, right)
    return example.with_predictions(*(p.to(x.dtype) for p, x in zip(made, like, strict=True)))


@ideal_of("logits+class", "logits+marked")
def _class(example: Example, sure: float, right: bool) -> tuple[Tensor, ...]:
    (logits, target) = example.predictions[0], example.labels[0]
    classes = logits.shape[-1]
    wanted = target if right else (target + 1) % classes
    return (sure * torch.nn.functional.one_hot(wanted, classes),)


@ideal_of("logits+distribution")
def _distribution(example: Example, sure: float, right: bool) -> tuple[Tensor, ...]:
    log_q = example.labels[0].log()
    return (log_q if right else -sure * log_q,)


@ideal_of("logits+binary", "logits+partial")
def _binary(example: Example, sure: float, right: bool) -> tuple[Tensor, ...]:
    label = example.labels[0]
    side = torch.where(label > 0.5, 1.0, -1.0)
    return ((sure if right else -sure) * side,)


@ideal_of("prediction+number")
def _number(example: Example, sure: float, right: bool) -> tuple[Tensor, ...]:
    return (example.labels[0] + (0.0 if right else sure),)


@ideal_of("pair+same", "pair+sign")
def _pair(example: Example, sure: float, right: bool) -> tuple[Tensor, ...]:
    x1, together = example.predictions[0], example.labels[0] > 0
    near = together if right else ~together
    return x1, torch.where(near.unsqueeze(-1), x1, -x1)


@ideal_of("distance+sign")
def _signed_distance(example: Example, sure: float, right: bool) -> tuple[Tensor, ...]:
    near = (example.labels[0] > 0) == right
    return (torch.where(near, 0.0, sure),)


@ideal_of("two scores+sign")
def _two_scores(example: Example, sure: float, right: bool) -> tuple[Tensor, ...]:
    side = example.labels[0] * (0.5 * sure if right else -0.5 * sure)
    return side, -side


@ideal_of("triplet")
def _triplet(example: Example, sure: float, right: bool) -> tuple[Tensor, ...]:
    anchor = example.predictions[0]
    return (anchor, anchor, -anchor) if right else (anchor, -anchor, anchor)


@ideal_of("queries+positives", "two views")
def _own(example: Example, sure: float, right: bool) -> tuple[Tensor, ...]:
    rows, size = example.predictions[0].shape
    one = torch.eye(rows, size)
    return one, one if right else one.roll(1, 0)


@ideal_of("embeddings+labels")
def _labelled(example: Example, sure: float, right: bool) -> tuple[Tensor, ...]:
    labels, size = example.labels[0], example.predictions[0].shape[-1]
    # Wrong: one direction for each place in the batch's groups, so that labels are mixed.
    place = labels if right else torch.arange(len(labels)) // 2
    return (torch.nn.functional.one_hot(place % size, size),)


@ideal_of("scores+relevance")
def _relevance(example: Example, sure: float, right: bool) -> tuple[Tensor, ...]:
    grade = example.labels[0].float()
    top = grade.amax(-1, keepdim=True).clamp(min=1e-9)
    return ((sure if right else -sure) * (grade / top - 0.5),)


@ideal_of("positive+negative")
def _scores(example: Example, sure: float, right: bool) -> tuple[Tensor, ...]:
    side = 0.5 * sure if right else -0.5 * sure
    return torch.full_like(example.predictions[0], side), torch.full_like(
        example.predictions[1], -side
    )


IDEALS["positive+draws"] = IDEALS["positive+catalogue"] = _scores


@ideal_of("hidden+head+class")
def _through_the_head(example: Example, sure: float, right: bool) -> tuple[Tensor, ...]:
    # Classes around a circle; opposite is as far from the right one as there is.
    head = example.predictions[1]
    angle = torch.arange(len(head)) * (2.0 * torch.pi / len(head))
    circle = torch.zeros_like(head)
    circle[:, 0], circle[:, 1] = angle.cos(), angle.sin()
    lead = 1.0 - math.cos(2.0 * math.pi / len(head))  # of a class over its neighbours
    own = circle[example.labels[0]]
    return (sure if right else -sure) / lead * own, circle


@ideal_of("log_probs+rewards")
def _samples(example: Example, sure: float, right: bool) -> tuple[Tensor, ...]:
    rewards = example.labels[0]
    return ((sure if right else -sure) * rewards,)


@ideal_of("logits+keywords")
def _keywords(example: Example, sure: float, right: bool) -> tuple[Tensor, ...]:
    logits, keywords = example.predictions[0], example.labels[0]
    said = torch.zeros_like(logits)
    for sequence, wanted in zip(said, keywords, strict=True):
        phrases = [k if isinstance(k, tuple) else (k,) for k in wanted]
        tokens = [token for phrase in phrases for token in phrase]
        other = next(t for t in range(logits.shape[-1]) if t not in tokens)
        tokens = tokens[: len(sequence)] if right else []
        tokens = [*tokens, *[other] * (len(sequence) - len(tokens))]
        sequence[torch.arange(len(sequence)), tokens] = sure
    return (said,)


@ideal_of("logits+keywords+marked")
def _reference_with_keywords(example: Example, sure: float, right: bool) -> tuple[Tensor, ...]:
    logits, (target, keywords, _) = example.predictions[0], example.labels
    if right:  # the reference says its keywords
        return (sure * torch.nn.functional.one_hot(target, logits.shape[-1]),)
    # One token for each sequence that is neither its keyword nor anywhere in its reference.
    said = torch.zeros_like(logits)
    for sequence, reference, wanted in zip(said, target, keywords, strict=True):
        taken = {*reference.tolist(), *wanted}
        sequence[:, next(t for t in range(logits.shape[-1]) if t not in taken)] = sure
    return (said,)
