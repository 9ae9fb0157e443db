"""How a loss counts: small and empty batches, reductions, the parts of a batch."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch

from lossmith.check.examples import Example
from lossmith.check.ideals import ideal
from lossmith.check.laws.base import (
    Broken,
    Failure,
    NotApplicable,
    Raised,
    close,
    law,
    number,
    show,
)
from lossmith.check.laws.batch import TOGETHER, some_masked
from lossmith.check.subject import Subject
from lossmith.check.trial import Trial, finite, showed


@law(
    name="empty-batch",
    place=4,
    why="A filter, a last shard or a rank without data leaves a batch of none.",
    how="Call it on a batch of no rows: 0, connected to the graph, or an error that says so.",
    hint="Divide by max(count, 1).",
)
def empty_batch(trial: Trial) -> str | None:
    example = next(trial.examples(0)).rows(0, 0)
    try:
        value, gradients = trial.graph(example)
    except Raised as raised:
        if trial.subject.ours:
            raise
        return f"refuses it: {raised}"
    if value.numel() == 0:
        return "returns nothing for nothing"
    connected = (all if trial.subject.ours else any)(g is not None for g in gradients)
    if bool((value != 0).any()) or not connected:
        what = show(value) + ("" if connected else ", cut from the graph")
        failure = Failure("an empty batch is no connected zero", "0, connected to the graph", what)
        raise Broken(failure, trial.subject.named(example))
    return None


@law(
    name="single",
    place=4,
    why="Small and last batches are batches: a guard that returns 0 for them wastes their rows.",
    how="One perfectly wrong row (two where rows need each other) must cost something, be finite "
    "and have a gradient.",
    hint="Return 0 for no pair, not for one.",
)
def single(trial: Trial) -> None:
    kind = trial.subject.kind

    def silent(example: Example) -> Failure | None:
        value, gradients = trial.gradients(example)
        if not finite(value, gradients):
            return Failure("a small batch is not a number", "a number", showed((value, gradients)))
        if not bool((value != 0).any()) or not any(bool(g.any()) for g in gradients):
            return Failure(
                "a small wrong batch costs nothing",
                "a cost with a gradient",
                showed((value, gradients)),
            )
        return None

    for seed in range(3):
        example = next(trial.examples(seed))
        small = _few(example, kind)
        # A little off the exact extreme, where a symmetric loss has no direction.
        wrong = ideal(kind, small, 2.0, False)
        if wrong is None:
            raise NotApplicable(f"no perfectly wrong prediction is known for {kind}")
        if kind == "scores+relevance" and bool(small.labels[0].amax() == small.labels[0].amin()):
            continue
        noise = torch.Generator().manual_seed(seed)
        wrong = wrong.with_predictions(
            *(
                p + 0.05 * torch.randn(p.shape, generator=noise, dtype=p.dtype)
                for p in wrong.predictions
            )
        )
        trial.hold(silent, [wrong])


def _few(example: Example, kind: str) -> Example:
    if kind == "embeddings+labels":
        return example.rows(0, 3)  # two of a label and one of another
    return example.rows(
        0, 2 if kind in (*TOGETHER, "pair+same", "pair+sign", "distance+sign") else 1
    )


@law(
    name="reductions",
    place=4,
    why="A reduction that does not do what it says makes per-row weights and logging wrong.",
    how='reduction="none" must sum to "sum", and the mean divide by a whole number of units.',
    hint="Compute one cost per unit and reduce it at one place.",
)
def reductions(trial: Trial) -> str | None:
    subject = trial.subject
    if not subject.takes("reduction"):
        raise NotApplicable("has no reduction")
    if subject.ours:
        return _our_reductions(trial)

    def wrong(example: Example) -> Failure | None:
        none, total, mean = (
            trial.value(example, reduction=word) for word in ("none", "sum", _mean_of(subject))
        )
        if none.numel() == 1 and example.batch_size > 1:
            return Failure('reduction="none" returns one number', "one per row", show(none))
        if not close(none.sum(), total):
            return Failure('"none" does not sum to "sum"', show(none.sum()), show(total))
        rows = len(none)
        if subject.kind == "logits+distribution":  # a divergence is a sum over the classes
            if not close(mean, total / rows):
                units = float(total / mean)
                what = f"the mean divides by {number(units)}, not by the {rows} rows"
                return Failure(what, show(total / rows), show(mean))
            return None
        units = float(total / mean) if float(mean) else 1.0
        if abs(units - round(units)) > 1e-4 or not 1 <= round(units) <= none.numel():
            what = f'"mean" is the sum divided by {number(units)}'
            return Failure(what, "a whole number of rows or entries", show(mean))
        return None

    hint = 'Use reduction="batchmean".' if "kl" in subject.name.lower() else ""
    trial.hold(wrong, trial.examples(0), hint)
    return None


def _mean_of(subject: Subject) -> str:
    """What an object calls its mean: "batchmean", "sum_over_batch_size", or just so."""
    own = getattr(subject.loss, "reduction", None)
    return own if isinstance(own, str) and own not in ("none", "sum") else "mean"


def our_divisor(trial: Trial, count: float) -> Any:
    """A divisor in the form the objective takes: a number, one per class, one per term."""
    subject = trial.subject
    if subject.args.get("average") == "classes":
        return torch.full((3,), count)
    if subject.kind == "logits+keywords+marked":
        return (count, count, count)
    return count


def _our_reductions(trial: Trial) -> str | None:
    example, subject = next(trial.examples(0)), trial.subject
    none, total = (trial.value(example, reduction=word) for word in ("none", "sum"))
    if not close(none.sum(), total):
        trial.break_on(example, Failure("none does not sum to sum", show(total), show(none.sum())))
    count = our_divisor(trial, 7.0)
    if subject.args.get("average") == "classes":
        return "a divisor per class weighs the classes anew; its own tests hold the identity"
    by = trial.value(example, divisor=count)
    if not close(by, total / 7.0):
        trial.break_on(
            example, Failure("divisor=7 is not a seventh of the sum", show(total / 7), show(by))
        )
    try:
        trial.value(example, reduction="sum", divisor=count)
    except Raised as raised:
        if isinstance(raised.error, ValueError) and "divisor" in str(raised.error):
            return None
    failure = Failure("a sum with a divisor", "a ValueError about divisor", "no such error")
    raise Broken(failure)


@law(
    name="micro-batches",
    place=4,
    why="With gradient accumulation or data parallelism, the parts of a batch must train the model "
    "that the whole batch trains.",
    how="Cut a batch (some of it masked or ignored) at every row: with a shared divisor, or a sum, "
    "or weighted by rows, the parts must add up to the whole.",
    hint="Offer a divisor (a count known before the pass) or a sum; normalise within rows, not "
    "across them.",
)
def micro_batches(trial: Trial) -> str | None:
    subject = trial.subject
    if subject.kind in TOGETHER and not subject.ours:
        raise NotApplicable("the other rows of the batch are part of each row's problem")
    shared, how = _shared(trial)

    def differs(example: Example) -> Failure | None:
        rows = example.batch_size
        whole = trial.value(example, **_with_mask(example), **shared)
        if whole.dim():
            raise NotApplicable("does not reduce")
        for cut in range(1, rows):
            parts = [example.rows(0, cut), example.rows(cut, rows)]
            costs = [trial.value(p, **_with_mask(p), **shared) for p in parts]
            shares = [1.0, 1.0] if shared else [cut / rows, 1 - cut / rows]
            added = costs[0] * shares[0] + costs[1] * shares[1]
            if not close(added, whole):
                return Failure(
                    f"parts of {cut} and {rows - cut} rows do not add up{how}",
                    show(whole),
                    f"{show(costs[0])} and {show(costs[1])}, together {show(added)}",
                )
        return None

    examples = [_ignored_once(trial, e) for e in trial.examples(2, 5)]
    trial.hold(differs, examples)
    return how.strip(", ") or "weighted by rows"


def _shared(trial: Trial) -> tuple[dict[str, Any], str]:
    subject = trial.subject
    if subject.takes("divisor"):
        count = our_divisor(trial, 11.0) if subject.ours else 11.0
        return {"divisor": count}, ", with a shared divisor"
    if subject.takes("reduction"):
        return {"reduction": "sum"}, ', with reduction="sum"'
    return {}, ""


def _with_mask(example: Example) -> dict[str, Any]:
    return {} if example.mask is None else {"mask": example.mask}


def _ignored_once(trial: Trial, example: Example) -> Example:
    """The batch with some of it left out, in the way that the loss has."""
    index = trial.subject.ignore_index
    if example.mask is not None:
        example = replace(example, mask=some_masked(example.mask))
    if index is None:
        return example
    target = example.labels[0].clone()
    target.view(-1)[:2] = index
    return replace(example, labels=(target, *example.labels[1:]))
