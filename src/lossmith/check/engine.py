"""Run the laws on one loss, here or in a guarded child, and report."""

from __future__ import annotations

import contextlib
import inspect
import pickle
import random
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import torch

from lossmith.check.adapters import Unfit
from lossmith.check.laws import laws as all_laws
from lossmith.check.laws.base import Broken, Law, NotApplicable, Raised, Untested, error_text
from lossmith.check.report import Finding, Interrupted, Report, Status
from lossmith.check.subject import Subject, make_subject
from lossmith.check.trial import Trial
from lossmith.core.words import did_you_mean

LAW_SHARE = 0.4
# Told which law begins, how many are done, how many there are.
Progress = Callable[[str, int, int], None]


def check_loss(
    loss: Any,
    *,
    family: str | None = None,
    inputs: str | None = None,
    args: Mapping[str, Any] | str | None = None,
    knobs: Mapping[str, Any] | None = None,
    laws: Iterable[str] | None = None,
    seed: int = 0,
    seconds: float = 20.0,
    memory_mb: int = 4096,
    isolate: bool | None = None,
    on_law: Progress | None = None,
) -> Report:
    """Try every law on a loss and report what held and what broke.

    Args:
        loss: a function, an object, a class, or text: ``"module:attribute"``,
            ``"file.py:attribute"`` or the name of an objective of this library.
        family: what it is for; decides what its inputs most likely are.
        inputs: a kind of inputs (``"scores+relevance"``), or which argument is what
            (``"class, logits"``, ``"logits=input, class=target"``).
        args: values for its constructor or knobs: a mapping, or text such as ``"margin=0.5"``.
        knobs: two values for each knob that the dead-knob law shall turn.
        laws: the names of those to try; all by default.
        seed: of every example; the same seed gives the same report.
        seconds: for the whole check; what is left over is reported as untested.
        memory_mb: how much a guarded check may grow by.
        isolate: run in a child process that may hang or die; the default does so for text.
        on_law: told of every law as it begins.

    >>> report = check_loss("info_nce", laws=["gradient", "order"], isolate=False)
    >>> report.ok, report["order"].status
    (True, 'held')
    """
    start = time.monotonic()
    wanted = chosen(laws)
    settings = {"loss": loss, "family": family, "inputs": inputs, "args": args, "knobs": knobs}
    settings["seed"] = seed
    guarded = isinstance(loss, str) if isolate is None else isolate
    about = {"loss": name_of(loss), "family": family or "", "inputs": inputs or "", "notes": []}
    known: dict[str, Any] = {}
    found: dict[str, Finding] = {}

    def report(status: Status, reason: str) -> Report:
        what = {**about, **known}
        rest = (found.get(law.name) or finding_of(law, status, reason) for law in wanted)
        spent = round(time.monotonic() - start, 3)
        return Report(
            what["loss"], what["family"], what["inputs"], seed, spent, tuple(rest),
            tuple(what["notes"]),
        )  # fmt: skip

    try:
        if guarded:
            from lossmith.check.guard import guarded_check

            reason = guarded_check(settings, wanted, seconds, memory_mb, on_law, known, found)
            return report("untested", reason)
        subject = make_subject(**settings)
        known.update(about_subject(subject))
        for finding in run_laws(subject, wanted, time.thread_time() + seconds, on_law):
            found[finding.law] = finding
        return report("untested", "out of time")
    except Unfit as unfit:
        known.update(inputs="", notes=[str(unfit)])
        return report("not applicable", str(unfit))
    except KeyboardInterrupt as stop:
        raise Interrupted(report("untested", "interrupted")) from stop


def chosen(names: Iterable[str] | None) -> list[Law]:
    """The laws of these names, or all."""
    known = all_laws()
    if names is None:
        return list(known.values())
    names = [names] if isinstance(names, str) else list(names)
    for name in names:
        if name not in known:
            raise ValueError(f"there is no law {name!r}.{did_you_mean(name, known)}")
    return [law for name, law in known.items() if name in names]


def name_of(loss: Any) -> str:
    """What a report calls a loss that could not be looked at."""
    if isinstance(loss, str):
        return loss
    return str(getattr(loss, "__qualname__", type(loss).__name__))


def about_subject(subject: Subject) -> dict[str, Any]:
    """What a report says of the loss itself."""
    return {
        "loss": subject.name,
        "family": subject.family,
        "inputs": subject.kind,
        "notes": list(subject.notes),
    }


def run_laws(
    subject: Subject,
    wanted: Iterable[Law],
    deadline: float,
    on_law: Progress | None = None,
) -> Iterator[Finding]:
    """The findings one by one; a loss that cannot be called leaves the rest untested."""
    wanted = list(wanted)
    mute = contextlib.nullcontext() if subject.ours else _quiet()
    with mute:
        if on_law is not None and wanted:
            on_law(wanted[0].name, 0, len(wanted))
        stopped = "" if subject.ours else _probe(subject)
        for done, law in enumerate(wanted):
            if on_law is not None:
                on_law(law.name, done, len(wanted))
            if stopped and law.name != "runs":
                yield finding_of(law, "untested", f"the loss does not run: {stopped}")
            elif time.thread_time() > deadline:
                yield finding_of(law, "untested", "out of time")
            else:
                yield try_law(law, subject, deadline)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _probe(subject: Subject) -> str:
    """Whether it runs at all (the reason, if not), and whether it draws random numbers."""
    example = Trial(subject, subject.seed).example()
    try:
        with undisturbed():
            first, second = (subject.plain(example).detach() for _ in range(2))
    except Exception as error:
        return error_text(error)
    if first.shape != second.shape or not torch.equal(first.nan_to_num(), second.nan_to_num()):
        subject.stochastic = True
    return ""


def try_law(law: Law, subject: Subject, deadline: float) -> Finding:
    """One law on one loss; no law may take more than its share of the time that is left."""
    start = time.monotonic()
    reason = _out_of_reach(law, subject)
    if reason:
        return finding_of(law, "not applicable", reason)
    try:
        with undisturbed():
            left = deadline - time.thread_time()
            detail = law.run(Trial(subject, subject.seed, time.thread_time() + LAW_SHARE * left))
        found = finding_of(law, "held", detail or "")
    except NotApplicable as said:
        found = finding_of(law, "not applicable", str(said))
    except Untested as said:
        found = finding_of(law, "untested", str(said))
    except Broken as broken:
        found = _broken(law, broken)
    except Raised as raised:
        found = finding_of(law, "broken", f"raises {raised}", got=str(raised), hint=law.hint)
    except Exception as error:
        found = finding_of(law, "untested", f"the check itself failed: {error_text(error)}")
    spent = round(time.monotonic() - start, 4)
    return Finding(**{**found.__dict__, "seconds": spent})


@contextlib.contextmanager
def undisturbed() -> Iterator[None]:
    """Start from the usual global state, and leave it as it was, whatever a loss does to it."""
    kept = torch.is_grad_enabled(), torch.get_default_dtype(), torch.get_num_threads()
    numbers = random.getstate()
    try:
        with torch.random.fork_rng(devices=[]), torch.enable_grad():
            yield
    finally:
        torch.set_grad_enabled(kept[0])
        torch.set_default_dtype(kept[1])
        torch.set_num_threads(kept[2])
        random.setstate(numbers)


def _out_of_reach(law: Law, subject: Subject) -> str:
    if law.ours and not subject.ours:
        return "a convention of this library"
    if subject.spec is not None:
        exempt = subject.spec.exempt
        reason = exempt.get(law.name) or exempt.get(law.name.replace("-", " "))
        if reason:
            return reason
    if subject.family not in law.families:
        return f"a law of {', '.join(law.families)}"
    return ""


def _broken(law: Law, broken: Broken) -> Finding:
    failure = broken.failure
    return finding_of(
        law,
        "broken",
        failure.detail,
        example=broken.example,
        expected=failure.expected,
        got=failure.got,
        hint=broken.hint or law.hint,
    )


def finding_of(law: Law, status: Any, detail: str = "", **more: Any) -> Finding:
    """A finding with the law's own sentences."""
    return Finding(law.name, status, law.why, law.how, detail, **more)


def can_travel(loss: Any) -> bool:
    """Whether a loss can be sent to a child process."""
    if isinstance(loss, str):
        return True
    try:
        pickle.dumps(loss)
    except Exception:
        return False
    return not (inspect.isfunction(loss) and loss.__module__ == "__main__")
