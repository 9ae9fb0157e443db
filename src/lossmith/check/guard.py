"""A check in a child process that may hang, exhaust memory or exit, while the report survives.

The child writes each finding as a line of JSON as soon as it is made. Where the child dies or
hangs, the law at work is reported with what happened, and the remaining laws go on in a fresh
child.
"""

from __future__ import annotations

import json
import os
import pickle
import queue
import signal
import subprocess
import sys
import threading
import time
from dataclasses import asdict, dataclass, field
from typing import IO, Any

from lossmith.check.adapters import Unfit
from lossmith.check.engine import (
    Progress,
    about_subject,
    can_travel,
    chosen,
    finding_of,
    name_of,
    run_laws,
)
from lossmith.check.laws.base import Law
from lossmith.check.report import Finding

START_SECONDS = 60.0  # for importing torch and the loss; not part of the check's own time
LAW_SHARE = 0.4  # of the time that is left: what one law may take before it counts as hanging


@dataclass
class _Child:
    """What one child has said so far, and how it ended."""

    about: dict[str, Any] | None = None
    findings: list[Finding] = field(default_factory=list)
    law: str = ""  # at work
    error: dict[str, str] | None = None
    ended: str = ""


def guarded_check(
    settings: dict[str, Any],
    wanted: list[Law],
    seconds: float,
    memory_mb: int,
    on_law: Progress | None,
) -> tuple[dict[str, Any], list[Finding]]:
    """The check of :func:`check_loss`, with every law's outcome whatever the loss does."""
    if not can_travel(settings["loss"]):
        raise ValueError(
            f"{name_of(settings['loss'])} cannot be sent to another process; name it as text "
            '("file.py:name"), or leave isolate out.'
        )
    found: dict[str, Finding] = {}
    about: dict[str, Any] | None = None
    left = seconds
    while True:
        rest = [law for law in wanted if law.name not in found]
        if not rest or (about is not None and left <= 0):
            break
        start = time.monotonic()
        child = _run_child(settings, rest, max(left, 0.1), memory_mb, on_law, len(found), len(wanted))
        about = child.about or about
        if child.error is not None:
            _raise(child.error)
        found.update((finding.law, finding) for finding in child.findings)
        if child.about is None:
            about = {"loss": name_of(settings["loss"]), "family": settings["family"] or "",
                     "inputs": settings["inputs"] or "",
                     "notes": [f"the loss could not be loaded: {child.ended}"]}  # fmt: skip
            break
        left -= time.monotonic() - start
        if child.law and child.law not in found:
            at_work = next(law for law in wanted if law.name == child.law)
            found[child.law] = finding_of(
                at_work,
                "broken",
                f"the loss {child.ended}",
                expected="a value",
                got=child.ended,
                hint="Look for a loop without an end, a tensor that grows with every pair, or a "
                "call of exit.",
                seconds=round(time.monotonic() - start, 3),
            )
    reason = "out of time" if child.about is not None else f"the loss could not be loaded: {child.ended}"
    return about, [found.get(law.name) or finding_of(law, "untested", reason) for law in wanted]


def _raise(error: dict[str, str]) -> None:
    kinds: dict[str, type[Exception]] = {"Unfit": Unfit, "ValueError": ValueError}
    raise kinds.get(error["type"], RuntimeError)(error["text"])


def _run_child(
    settings: dict[str, Any],
    rest: list[Law],
    seconds: float,
    memory_mb: int,
    on_law: Progress | None,
    done: int,
    total: int,
) -> _Child:
    """One child over these laws, until it ends or has to be ended."""
    task = {
        "settings": settings,
        "laws": [law.name for law in rest],
        "seconds": seconds,
        "memory_mb": memory_mb,
        "path": [str(entry) for entry in sys.path],
    }
    process = subprocess.Popen(
        [sys.executable, "-c", _START],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "OMP_NUM_THREADS": "2"},
        start_new_session=True,
    )
    assert process.stdin is not None and process.stdout is not None
    lines: queue.Queue[bytes | None] = queue.Queue()
    threading.Thread(target=_pump, args=(process.stdout, lines), daemon=True).start()
    child = _Child()
    try:
        process.stdin.write(pickle.dumps(sys.path) + pickle.dumps(task))
        process.stdin.close()
        _listen(child, process, lines, seconds, on_law, done, total, memory_mb)
    except BrokenPipeError:
        child.ended = _how_ended(process.wait(), memory_mb)
    finally:
        _end(process)
    return child


_START = (
    "import pickle, sys; sys.path[:] = pickle.load(sys.stdin.buffer); "
    "from lossmith.check.guard import child_main; child_main(sys.stdin.buffer)"
)


def _pump(stream: IO[bytes], lines: queue.Queue[bytes | None]) -> None:
    for line in stream:
        lines.put(line)
    lines.put(None)


def _listen(
    child: _Child,
    process: subprocess.Popen[bytes],
    lines: queue.Queue[bytes | None],
    seconds: float,
    on_law: Progress | None,
    done: int,
    total: int,
    memory_mb: int,
) -> None:
    wait, until = START_SECONDS, 0.0
    while True:
        try:
            line = lines.get(timeout=wait)
        except queue.Empty:
            child.ended = f"did not return within {wait:.1f} seconds"
            return
        if line is None:
            child.ended = _how_ended(process.wait(), memory_mb)
            return
        said = json.loads(line)
        if "error" in said:
            child.error = said["error"]
            return
        if "about" in said:
            child.about = said["about"]
            until = time.monotonic() + seconds
        elif "law" in said:
            child.law = said["law"]
            if on_law is not None:
                on_law(child.law, done + len(child.findings), total)
        elif "finding" in said:
            child.findings.append(Finding(**said["finding"]))
        wait = max(LAW_SHARE * (until - time.monotonic()), 0.3)


def _how_ended(code: int, memory_mb: int) -> str:
    if code == OUT_OF_MEMORY:
        return f"needed more than {memory_mb} MB of memory"
    if code < 0:
        name = signal.Signals(-code).name
        return f"was killed by {name}" + (" (out of memory?)" if name == "SIGKILL" else "")
    return f"ended the process with exit code {code}"


def _end(process: subprocess.Popen[bytes]) -> None:
    """End the child and whatever it started: its own session, by its own id."""
    if process.poll() is None or process.returncode is not None:
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            pass
    process.wait()
    if process.stdout is not None and not process.stdout.closed:
        process.stdout.close()


# --- the child ------------------------------------------------------------------------------------

OUT_OF_MEMORY = 77  # the exit code of a child that found itself over its bound


def child_main(stream: IO[bytes]) -> None:
    """Read a task, run it, write findings to what was stdout; prints of the loss go nowhere."""
    task = pickle.load(stream)
    out = os.fdopen(os.dup(1), "w", buffering=1)
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)

    def say(**what: Any) -> None:
        out.write(json.dumps(what) + "\n")
        out.flush()

    import torch

    from lossmith.check.subject import make_subject

    torch.set_num_threads(2)
    _watch_memory(task["memory_mb"])
    try:
        subject = make_subject(**task["settings"])
    except Exception as error:
        say(error={"type": type(error).__name__, "text": str(error)})
        return
    say(about=about_subject(subject))
    findings = run_laws(
        subject,
        chosen(task["laws"]),
        time.monotonic() + task["seconds"],
        lambda law, done, total: say(law=law),
    )
    for finding in findings:
        say(finding=asdict(finding))


def _watch_memory(memory_mb: int) -> None:
    """End this process once it has grown by the bound; a limit of the system catches what leaps."""
    base = _resident_mb()
    try:
        import resource

        used = _virtual_mb()
        bound = int((used + 2 * memory_mb) * 2**20)
        resource.setrlimit(resource.RLIMIT_AS, (bound, bound))
    except (ImportError, ValueError, OSError):
        pass  # without such limits the watch below still stands

    def watch() -> None:
        while True:
            if _resident_mb() - base > memory_mb:
                os._exit(OUT_OF_MEMORY)
            time.sleep(0.02)

    threading.Thread(target=watch, daemon=True).start()


def _statm(place: int) -> float:
    try:
        with open("/proc/self/statm") as file:
            return int(file.read().split()[place]) * os.sysconf("SC_PAGE_SIZE") / 2**20
    except (OSError, ValueError, AttributeError):
        return 0.0


def _virtual_mb() -> float:
    return _statm(0)


def _resident_mb() -> float:
    return _statm(1)
