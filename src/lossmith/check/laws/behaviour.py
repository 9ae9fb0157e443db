"""What a loss must not do to its surroundings, and what it must let others do."""

from __future__ import annotations

import copy
import inspect
import pickle
import random
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from lossmith.check.examples import Example
from lossmith.check.laws.base import (
    Broken,
    Failure,
    NotApplicable,
    Raised,
    Untested,
    close,
    error_text,
    law,
    show,
)
from lossmith.check.trial import Trial, leaf, slopes


@law(
    name="mutation",
    place=7,
    why="A loss that writes into its inputs changes the metric computed next, and the next call.",
    how="Compare predictions and labels before and after the call, bit for bit.",
    hint="Copy before writing: no +=, masked_fill_, clamp_ or .data on an argument.",
)
def mutation(trial: Trial) -> None:
    def writes(example: Example) -> Failure | None:
        before = copy.deepcopy((example.predictions, example.labels))
        fresh = copy.deepcopy((example.predictions, example.labels))
        trial.value(example.with_predictions(*fresh[0]).with_labels(*fresh[1]))
        names = list(trial.subject.named(example))
        pairs = zip((*before[0], *before[1]), (*fresh[0], *fresh[1]), strict=True)
        for i, (old, new) in enumerate(pairs):
            kept = _alike(old, new)
            if not kept:
                return Failure(f"{names[i]} is changed by the call", show(old), show(new))
        return None

    trial.hold(writes, [trial.example(10)])


def _alike(old: Any, new: Any) -> bool:
    return torch.equal(old, new) if isinstance(old, Tensor) else bool(old == new)


@law(
    name="side-effects",
    place=7,
    why="A loss that moves the global random state changes dropout; one that leaves gradients "
    "switched off stops the training.",
    how="Compare the global grad mode, default dtype, thread count, random states and the object's "
    "own buffers before and after a call.",
    hint="Use with torch.no_grad(): around the lines that need it, and a generator of your own.",
)
def side_effects(trial: Trial) -> None:
    example = trial.example(10)
    before = _surroundings(trial)
    try:
        trial.subject.plain(leaf(example))
        after = _surroundings(trial)
        with torch.no_grad():
            trial.subject.plain(example)
            before["grad mode under no_grad"] = False
            after["grad mode under no_grad"] = torch.is_grad_enabled()
    except Exception as error:
        raise Raised(error) from error
    finally:
        torch.set_grad_enabled(True)
        torch.set_default_dtype(torch.float32)
    for name, old in before.items():
        if not _equal(old, after[name]):
            shown = "moved" if isinstance(old, (Tensor, tuple)) else repr(after[name])
            failure = Failure(
                f"the call changes the {name}",
                repr(old) if shown != "moved" else "unchanged",
                shown,
            )
            raise Broken(failure, trial.subject.named(example))


def _surroundings(trial: Trial) -> dict[str, Any]:
    state = {
        "global grad mode": torch.is_grad_enabled(),
        "default dtype": torch.get_default_dtype(),
        "number of threads": torch.get_num_threads(),
        "deterministic mode": torch.are_deterministic_algorithms_enabled(),
        "anomaly mode": torch.is_anomaly_enabled(),
        "global random state of torch": torch.get_rng_state(),
        "global random state of Python": random.getstate(),
    }
    loss = trial.subject.loss
    if isinstance(loss, nn.Module):
        for name, buffer in loss.named_buffers():
            state[f"buffer {name} of the loss"] = buffer.clone()
    return state


def _equal(a: Any, b: Any) -> bool:
    return torch.equal(a, b) if isinstance(a, Tensor) else bool(a == b)


@law(
    name="determinism",
    place=7,
    why="A curve that cannot be repeated cannot be compared.",
    how="Call it twice on the same batch: the same value, bit for bit.",
    hint="Take a generator, or draw outside the loss.",
)
def determinism(trial: Trial) -> None:
    example = trial.example(10)
    try:
        first, second = (trial.subject.plain(example).detach() for _ in range(2))
    except Exception as error:
        raise Raised(error) from error
    if not torch.equal(first, second) and not (first.isnan().any() and second.isnan().any()):
        failure = Failure("the same batch costs another value", show(first), show(second))
        raise Broken(failure, trial.subject.named(example))


@law(
    name="evaluation",
    place=7,
    why="The same number is logged on validation data, without gradients.",
    how="Call it under torch.no_grad() and torch.inference_mode(): the same value.",
    hint="Nothing in a forward pass may need requires_grad.",
)
def evaluation(trial: Trial) -> None:
    example = trial.example(10)
    plain = trial.value(leaf(example))
    for mode in (torch.no_grad, torch.inference_mode):
        with mode():
            value = trial.subject(example).detach()
            if not close(value.clone(), plain):
                failure = Failure(f"another value under {mode.__name__}", show(plain), show(value))
                raise Broken(failure, trial.subject.named(example))


@law(
    name="strides",
    place=7,
    why="Models hand over transposed and sliced tensors, which .view() refuses.",
    how="Give the same numbers laid out with other strides: the same value.",
    hint="Use reshape instead of view.",
)
def strides(trial: Trial) -> None:
    def differs(example: Example) -> Failure | None:
        plain = trial.value(example)
        spread = example.with_predictions(*map(_strided, example.predictions)).with_labels(
            *map(_strided, example.labels)
        )
        try:
            value = trial.value(spread)
        except Raised as raised:
            return Failure("non-contiguous tensors raise", show(plain), str(raised))
        return (
            None
            if close(value, plain)
            else Failure("other strides cost another", show(plain), show(value))
        )

    trial.hold(differs, [trial.example(10)])


def _strided(value: Any) -> Any:
    """The same numbers, every other element of a longer tensor."""
    if not isinstance(value, Tensor) or value.dim() == 0:
        return value
    return (
        torch.stack((value, value), dim=-1).transpose(0, -1).contiguous().transpose(0, -1)[..., 0]
    )


@law(
    name="compile",
    place=7,
    why="A graph break makes the device wait for the host at every step.",
    how='torch.compile(fullgraph=True, backend="aot_eager") must give the same value and gradient.',
    hint="Replace branches on values, .item() and boolean indexing with torch.where.",
)
def compile_(trial: Trial) -> None:
    example, subject = leaf(trial.example(11)), trial.subject

    def call(*predictions: Tensor) -> Tensor:
        return subject.plain(example.with_predictions(*predictions))

    torch.compiler.reset()
    compiled: Callable[..., Tensor] = torch.compile(call, fullgraph=True, backend="aot_eager")
    try:
        value = compiled(*example.predictions)
    except Exception as error:
        failure = Failure("does not compile into one graph", "one graph", _reason(error))
        raise Broken(failure, subject.named(example)) from error
    plain = call(*example.predictions)
    pairs = [(value, plain)]
    if plain.requires_grad:
        both = [slopes(v, example) for v in (value, plain)]
        pairs += [(a, b) for a, b in zip(*both, strict=True) if a is not None and b is not None]
    for got, wanted in pairs:
        if not close(got, wanted, 1.3e-6 if subject.ours else 1e-4, 1e-5):
            failure = Failure("compiled, it gives another result", show(wanted), show(got))
            raise Broken(failure, subject.named(example))


def _reason(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return " ".join(lines[:3])[:300]


@law(
    name="vmap",
    place=7,
    why="Per-example gradients and ensembles run a loss under torch.func.vmap and grad.",
    how="vmap(grad_and_value) over two batches must agree with a loop over them.",
    hint="Replace branches on values, .item() and in-place writes with torch.where.",
)
def vmap(trial: Trial) -> None:
    subject = trial.subject
    examples = list(trial.examples(12, 13))
    first = examples[0]

    def call(*predictions: Tensor) -> Tensor:
        return subject.plain(first.with_predictions(*predictions)).sum()

    stacked = [torch.stack(ps) for ps in zip(*(e.predictions for e in examples), strict=True)]
    everything = tuple(range(len(stacked)))
    try:
        grads, values = torch.func.vmap(torch.func.grad_and_value(call, argnums=everything))(
            *stacked
        )
    except Exception as error:
        raise Broken(
            Failure("does not run under vmap(grad)", "gradients", _reason(error)),
            subject.named(first),
        ) from error
    for i, example in enumerate(examples):
        value, gradients = trial.gradients(first.with_predictions(*example.predictions))
        pairs = [(values[i], value.sum()), *zip((g[i] for g in grads), gradients, strict=True)]
        for got, wanted in pairs:
            if not close(
                got, wanted, 1e-7 if subject.ours else None, 1e-7 if subject.ours else None
            ):
                failure = Failure("under vmap it gives another result", show(wanted), show(got))
                raise Broken(failure, subject.named(example))


@law(
    name="pickle",
    place=7,
    why="A loss travels to workers, spawned processes and checkpoints by pickle.",
    how="Pickle and unpickle it: the same value.",
    hint="Hold a named function or a word instead of a lambda, and no open files or locks.",
)
def pickle_(trial: Trial) -> None:
    subject = trial.subject
    loss = subject.loss
    name = getattr(loss, "__qualname__", "")
    if inspect.isfunction(loss) and ("<lambda>" in name or "<locals>" in name):
        raise NotApplicable("a function without a name of its own has no place to be found again")
    if getattr(type(loss), "__qualname__", "").find("<locals>") >= 0:
        raise NotApplicable("its class is local to a function, where pickle finds nothing")
    try:
        again = pickle.loads(pickle.dumps(loss))
    except Exception as error:
        raise Broken(Failure("cannot be pickled", "a copy", error_text(error))) from error
    example = trial.example(15)
    plain, copied = trial.value(example), Trial(subject.copy_with(again)).value(example)
    if not torch.equal(plain, copied):
        raise Broken(Failure("the copy gives another value", show(plain), show(copied)))


@law(
    name="device",
    place=7,
    why="A tensor made on the CPU, or a .cuda() in the loss, fails on every other device.",
    how="Run it on the meta device, where a tensor from elsewhere is an error.",
    hint="Make new tensors with device=logits.device, or from others (zeros_like, new_zeros).",
)
def device(trial: Trial) -> str | None:
    example = trial.example(0)

    def meta(value: Any) -> Any:
        return value.to("meta") if isinstance(value, Tensor) else value

    loss = trial.subject.loss
    if isinstance(loss, nn.Module):
        try:
            loss = copy.deepcopy(loss).to("meta")
        except Exception as error:
            raise Untested(f"the loss cannot be moved: {error_text(error)}") from error
    moved = example.with_predictions(*map(meta, example.predictions)).with_labels(
        *map(meta, example.labels)
    )
    try:
        result = trial.subject.copy_with(loss).plain(moved)
    except Exception as error:
        text = str(error)
        elsewhere = (
            "same device" in text or "not on the expected device" in text or "device meta" in text
        )
        if elsewhere or (isinstance(error, AssertionError) and "CUDA" in text):
            failure = Failure(
                "uses another device than its inputs", "the device of the inputs", error_text(error)
            )
            raise Broken(failure, trial.subject.named(example)) from error
        raise Untested(f"cannot be followed without values: {error_text(error)}") from error
    if result.device.type != "meta":
        failure = Failure("returns a value on another device", "meta", str(result.device))
        raise Broken(failure, trial.subject.named(example))
    return None
