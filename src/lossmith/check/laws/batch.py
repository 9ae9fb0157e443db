"""What a loss owes the batch: every row counts once, and nothing else counts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from lossmith.check.examples import Example
from lossmith.check.laws.base import (
    Failure,
    NotApplicable,
    close,
    law,
    show,
)
from lossmith.check.shrink import without
from lossmith.check.trial import Trial, finite, same, showed

# Kinds whose rows are each other's negatives: a part of the batch is another problem.
TOGETHER = ("queries+positives", "two views", "embeddings+labels")
JUNK = (float("nan"), float("inf"), -1e30)


@law(
    name="order",
    place=3,
    why="The order of a batch is an accident of the loader; a loss that looks at it mixes rows.",
    how="Shuffle the rows of predictions and labels together: the value must stay.",
    hint="Look for a view or reshape across the batch, and for state kept from row to row.",
)
def order(trial: Trial) -> None:
    def differs(example: Example) -> Failure | None:
        rows = example.batch_size
        shuffle = torch.randperm(rows, generator=torch.Generator().manual_seed(trial.seed))
        for places in (shuffle, torch.arange(rows).flip(0)):
            a, b = trial.value(example), trial.value(_reordered(example, places))
            if a.dim() and a.shape[:1] == (rows,):
                a = a[places]
            if not trial.same(a, b):
                return Failure(
                    f"rows in the order {places.tolist()} cost another", show(a), show(b)
                )
        return None

    trial.hold(differs, trial.examples(3, 4))


def _reordered(example: Example, places: Tensor) -> Example:
    def pick(value: Any) -> Any:
        return value[places] if isinstance(value, Tensor) else [value[i] for i in places.tolist()]

    return replace(
        example,
        predictions=example.row_wise(pick),
        labels=tuple(map(pick, example.labels)),
    )


@law(
    name="item-order",
    place=3,
    why="A loss that reads the order of a list off its input learns that order, first of all "
    "among equal grades.",
    how="Reverse and shuffle the items of each list together with their grades, equal grades "
    "included: the value must stay.",
    hint="Break ties by a definition (average, or each against all that are not better), not by "
    "the position a sort leaves.",
    families=("ranking",),
)
def item_order(trial: Trial) -> None:
    subject = trial.subject
    if subject.kind != "scores+relevance":
        raise NotApplicable("there are no lists of graded items")
    if subject.spec is not None and "item permutation" not in subject.spec.invariances:
        raise NotApplicable("does not promise it")

    def differs(example: Example) -> Failure | None:
        size = example.predictions[0].shape[-1]
        shuffle = torch.randperm(size, generator=torch.Generator().manual_seed(trial.seed))
        for places in (torch.arange(size).flip(0), shuffle):
            moved = replace(
                example,
                predictions=tuple(p[..., places] for p in example.predictions),
                labels=tuple(v[..., places] for v in example.labels),
            )
            a, b = trial.value(example), trial.value(moved)
            if not trial.same(a, b) and not (a.dim() > 1 and trial.same(a[..., places], b)):
                return Failure(
                    f"items in the order {places.tolist()} cost another", show(a), show(b)
                )
        return None

    trial.hold(differs, [*trial.examples(3), *(_tied(e) for e in trial.examples(3, 4))])


def _tied(example: Example) -> Example:
    return replace(example, labels=tuple(v // 2 for v in example.labels))


def some_masked(mask: Tensor) -> Tensor:
    """A mask of that shape with every third entry out."""
    return torch.arange(mask.numel()).view(mask.shape) % 3 != 1


@law(
    name="padding",
    place=3,
    why="Padding is there because tensors are rectangles; it may not cost, teach or count.",
    how="Fill what is masked (or ignored) with NaN, inf and -1e30: value and gradient must stay, "
    "with gradient 0 there; and a batch with a masked row or item must cost what it costs without.",
    hint="Replace masked entries with torch.where before any other operation, leave them out of "
    "every normaliser, and divide by the number of real ones.",
)
def padding(trial: Trial) -> None:
    if trial.subject.takes("mask") and trial.example().mask is not None:
        trial.hold(lambda example: _masked_matters(trial, example), trial.examples(4))
        trial.hold(lambda example: _masked_counts(trial, example), trial.examples(4))
        return
    index = trial.subject.ignore_index
    if index is None:
        raise NotApplicable("takes no mask and ignores no label")
    trial.hold(lambda example: _ignored_matters(trial, example, index), trial.examples(4))


def _masked_matters(trial: Trial, example: Example) -> Failure | None:
    assert example.mask is not None
    mask = some_masked(example.mask)
    clean = trial.gradients(example, mask=mask)
    for junk in JUNK:
        dirty = trial.gradients(_poisoned(example, mask, junk), mask=mask)
        inert = all(not g[~mask].any() for g in dirty[1] if g.shape[: mask.dim()] == mask.shape)
        if not same(dirty, clean) or not inert:
            return Failure(
                f"{junk} where mask is {show(mask)} changes the result",
                showed(clean),
                showed(dirty),
            )
    return None


def _poisoned(example: Example, mask: Tensor, junk: float) -> Example:
    """Junk wherever the mask says that there is nothing."""

    def dead(value: Tensor) -> Tensor:
        return ~mask.view(*mask.shape, *[1] * (value.dim() - mask.dim()))

    def covered(value: Any) -> bool:
        return isinstance(value, Tensor) and value.shape[: mask.dim()] == mask.shape

    predictions = [
        torch.where(dead(p), torch.tensor(junk, dtype=p.dtype), p) if covered(p) else p
        for p in example.predictions
    ]
    labels = [
        torch.where(dead(v), torch.tensor(77, dtype=v.dtype), v)
        if covered(v) and v.dtype is not torch.bool
        else v
        for v in example.labels
    ]
    return replace(example, predictions=tuple(predictions), labels=tuple(labels))


def _masked_counts(trial: Trial, example: Example) -> Failure | None:
    """A masked last row, or last item of every list, against a batch that never had it."""
    mask = example.mask
    assert mask is not None
    if trial.subject.kind in ("positive+draws", "positive+catalogue"):
        return (
            None  # the mask says which items may be negatives; the positive is there all the same
        )
    cases = [(0, "row")]
    if mask.dim() > 1 and not trial.subject.args.get("average"):
        cases.append((1, "item"))
    for axis, word in cases:
        if mask.shape[axis] < 2:
            continue
        hidden = mask.clone()
        hidden.select(axis, -1).fill_(False)
        shorter = without(example, axis, mask.shape[axis] - 1)
        got, wanted = trial.value(example, mask=hidden), trial.value(shorter, mask=shorter.mask)
        if got.dim():
            got, wanted = got.sum(), wanted.sum()
        if not close(got, wanted):
            return Failure(f"the last {word}, masked, is counted", show(wanted), show(got))
    return None


def _ignored_matters(trial: Trial, example: Example, index: int) -> Failure | None:
    target = example.labels[0]
    real = some_masked(target)
    labels = (torch.where(real, target, index), *example.labels[1:])
    clean = trial.gradients(replace(example, labels=labels))
    for junk in JUNK:
        p = example.predictions[0]
        dirty_logits = torch.where(real.unsqueeze(-1), p, torch.tensor(junk, dtype=p.dtype))
        dirty = trial.gradients(replace(example, predictions=(dirty_logits,), labels=labels))
        if not same(dirty, clean):
            return Failure(
                f"logits of {junk} in rows with label {index} change the result",
                showed(clean),
                showed(dirty),
            )
    return None


@law(
    name="nothing-valid",
    place=3,
    why="A batch with nothing to learn happens: all padding, no label, one grade; NaN there ends "
    "the training, and a constant without a graph raises in backward().",
    how="Mask everything (or one list), ignore every label, observe none, give equal grades: 0 "
    "and connected where nothing counts, finite everywhere.",
    hint="Divide by the count only where it is positive: total / torch.where(count > 0, count, 1).",
)
def nothing_valid(trial: Trial) -> str:
    tried = []
    for what, strict, example, more in _nothings(trial):
        tried.append(what)

        def wrong(
            example: Example, strict: bool = strict, what: str = what, more: dict[str, Any] = more
        ) -> Failure | None:
            if "mask" in more:
                assert example.mask is not None
                more = {**more, "mask": _hidden(example.mask, strict)}
            value, gradients = trial.graph(example, **more)
            known = [g for g in gradients if g is not None]
            if not finite(value, known):
                return Failure(
                    f"{what}: not a number", "0" if strict else "a number", showed((value, known))
                )
            if strict and bool(value.any()):
                return Failure(f"{what}: costs something", "0", show(value))
            if strict and not known:
                return Failure(
                    f"{what}: is cut from the graph", "0, connected to the predictions", show(value)
                )
            if strict and any(bool(g.any()) for g in known):
                return Failure(f"{what}: teaches something", "gradient 0", showed((value, known)))
            return None

        trial.hold(wrong, [example])
    if not tried:
        raise NotApplicable("takes no mask, ignores no label and has no grades")
    return f"tried {'; '.join(dict.fromkeys(tried))}"


def _hidden(mask: Tensor, everything: bool) -> Tensor:
    hidden = torch.zeros_like(mask)
    if not everything:
        hidden[1:] = True
    return hidden


def _nothings(trial: Trial) -> Iterator[tuple[str, bool, Example, dict[str, Any]]]:
    subject, example = trial.subject, trial.example().to(torch.float64)
    if subject.takes("mask") and example.mask is not None:
        words = ("mean", "sum", "none") if subject.ours else ("mean",)
        for word in words:
            more = {"mask": None, **({"reduction": word} if subject.takes("reduction") else {})}
            yield "everything masked", True, example, more
        yield "one row masked whole", False, example, {"mask": None}
    index = subject.ignore_index
    if index is not None:
        target = torch.full_like(example.labels[0], index)
        yield (
            f"every label {index}",
            True,
            replace(example, labels=(target, *example.labels[1:])),
            {},
        )
    if subject.kind == "logits+partial":
        nothing = torch.full_like(example.labels[0], -1)
        yield "every label -1", True, replace(example, labels=(nothing,)), {}
    if subject.kind == "scores+relevance":
        for grade in (0, 1):
            equal = torch.full_like(example.labels[0], grade)
            yield f"every grade {grade}", False, replace(example, labels=(equal,)), {}
    if subject.kind == "embeddings+labels":
        for what, labels in (
            ("every label the same", torch.zeros_like(example.labels[0])),
            ("every label another", torch.arange(len(example.labels[0]))),
        ):
            yield what, False, replace(example, labels=(labels,)), {}
