"""A check in a child process that may hang, exhaust memory or exit, while the report survives.

The child writes each finding as a line of JSON as soon as it is made. Where the child dies or
hangs, the law at work is reported with what happened, and the remaining laws go on in a fresh
child.
"""

from __future__ import annotations

import contextlib
import json
import os
import pickle
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
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
from lossmith.core.load import LoadError

HANG_SHARE = 0.6  # of the time that is left: what one law may take before it counts as hanging
MOST_DEATHS = 4  # each costs a fresh start
START_SECONDS = 60.0  # for importing torch and the loss; not part of the check's own time


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
    about: dict[str, Any],
    found: dict[str, Finding],
) -> str:
    """Fill in what is known about the loss and every law's outcome, whatever the loss does.

    Returns why the laws that are missing from ``found`` are. Both are filled as the findings come,
    so that an interrupt leaves them there.
    """
    if not can_travel(settings["loss"]):
        raise ValueError(
            f"{name_of(settings['loss'])} cannot be sent to another process; name it as text "
            '("file.py:name"), or leave isolate out.'
        )
    left, deaths, reason = seconds, 0, "out of time"

    def heard(child: _Child) -> None:
        about.update(child.about or {})
        found.update((finding.law, finding) for finding in child.findings)
        if on_law is not None:
            on_law(child.law, len(found), len(wanted))

    while left > 0:
        rest = [law for law in wanted if law.name not in found]
        if not rest:
            break
        child, used = _run_child(settings, rest, left, memory_mb, heard)
        left -= used
        about.update(child.about or {})
        if child.error is not None:
            _raise(child.error)
        found.update((finding.law, finding) for finding in child.findings)
        if child.about is None:
            reason = f"the loss could not be loaded: it {child.ended}"
            break
        if child.law in found:
            break  # it came to its end
        at_work = next(law for law in rest if law.name == (child.law or law.name))
        found[at_work.name] = _died(at_work, child.ended, used)
        deaths += 1
        if not child.findings and at_work.name == "runs":
            reason = f"the loss does not run: it {child.ended}"
            break
        if deaths == MOST_DEATHS:
            reason = f"{deaths} laws ended their process; the rest was not tried"
            break
    if not about:
        about.update(notes=[reason])
    return reason


def _died(law: Law, ended: str, seconds: float) -> Finding:
    return finding_of(
        law,
        "broken",
        f"the loss {ended}",
        expected="a value",
        got=ended,
        hint="Look for a loop without an end, a tensor of every pair, or a call of exit.",
        seconds=round(seconds, 3),
    )


def _raise(error: dict[str, str]) -> None:
    kinds: dict[str, type[Exception]] = {"Unfit": Unfit, "LoadError": LoadError}
    kinds["ValueError"] = ValueError
    raise kinds.get(error["type"], RuntimeError)(error["text"])


def _run_child(
    settings: dict[str, Any],
    rest: list[Law],
    seconds: float,
    memory_mb: int,
    heard: Callable[[_Child], None],
) -> tuple[_Child, float]:
    """One child over these laws, until it ends or has to be ended; and the seconds it used."""
    task = {
        "settings": settings,
        "laws": [law.name for law in rest],
        "seconds": seconds,
        "memory_mb": memory_mb,
    }
    process = subprocess.Popen(
        [sys.executable, "-c", _START],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    assert process.stdin is not None and process.stdout is not None
    lines: queue.Queue[bytes | None] = queue.Queue()
    threading.Thread(target=_pump, args=(process.stdout, lines), daemon=True).start()
    child, used = _Child(), 0.0
    try:
        with contextlib.suppress(BrokenPipeError):
            process.stdin.write(pickle.dumps(sys.path) + pickle.dumps(task))
            process.stdin.close()
        used = _listen(child, process, lines, seconds, heard, memory_mb)
    finally:
        _end(process)
    return child, used


_START = (
    "import pickle, sys; sys.path[:] = pickle.load(sys.stdin.buffer); "
    "from lossmith.check.guard import child_main; child_main(sys.stdin.buffer)"
)


def _pump(stream: IO[bytes], lines: queue.Queue[bytes | None]) -> None:
    for line in stream:
        lines.put(line)
    lines.put(None)


@dataclass
class _Clock:
    """How long a child has been at one law: by its processor time, so that load does not count."""

    pid: int
    limit: float
    wall: float = field(default_factory=time.monotonic)
    used: float = 0.0

    def __post_init__(self) -> None:
        self.used = _processor_seconds(self.pid)

    def spent(self) -> float:
        """Processor seconds; of one that sleeps, a third of the seconds that passed."""
        return max(
            _processor_seconds(self.pid) - self.used, (time.monotonic() - self.wall) / SLEEPING
        )


SLEEPING = 3.0


def _listen(
    child: _Child,
    process: subprocess.Popen[bytes],
    lines: queue.Queue[bytes | None],
    seconds: float,
    heard: Callable[[_Child], None],
    memory_mb: int,
) -> float:
    """Follow a child until it ends or hangs; the seconds that it used of its budget."""
    clock, total = _Clock(process.pid, START_SECONDS), _Clock(process.pid, seconds)
    while True:
        try:
            line = lines.get(timeout=0.1)
        except queue.Empty:
            if clock.spent() > clock.limit:
                child.ended = f"did not return within {clock.limit:.1f} seconds"
                return total.spent()
            continue
        if line is None:
            child.ended = _how_ended(process.wait(), memory_mb)
            return total.spent()
        said = json.loads(line)
        if "error" in said:
            child.error = said["error"]
            return total.spent()
        if "about" in said:
            child.about = said["about"]
            total = _Clock(process.pid, seconds)
        elif "law" in said:
            child.law = said["law"]
            heard(child)
        elif "finding" in said:
            child.findings.append(Finding(**said["finding"]))
        clock = _Clock(process.pid, max(HANG_SHARE * (seconds - total.spent()), 0.3))


def _processor_seconds(pid: int) -> float:
    """User and system time of a process, where the system tells."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, IndexError, AttributeError):
        return 0.0


def _how_ended(code: int, memory_mb: int) -> str:
    if code == OUT_OF_MEMORY:
        return f"needed more than {memory_mb} MB of memory"
    if code < 0:
        name = signal.Signals(-code).name
        return f"was killed by {name}" + (" (out of memory?)" if name == "SIGKILL" else "")
    return f"ended the process with exit code {code}"


def _end(process: subprocess.Popen[bytes]) -> None:
    """End the child and whatever it started: its own session, by its own id."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
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

    # Batches of a few rows have nothing to share out, and threads that wait for each other spin:
    # on a busy machine that took six times the processor time.
    torch.set_num_threads(1)
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
        time.thread_time() + task["seconds"],
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
        pages = Path("/proc/self/statm").read_text().split()[place]
        return int(pages) * os.sysconf("SC_PAGE_SIZE") / 2**20
    except (OSError, ValueError, AttributeError):
        return 0.0


def _virtual_mb() -> float:
    return _statm(0)


def _resident_mb() -> float:
    return _statm(1)
