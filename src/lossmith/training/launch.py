"""Several processes of one command on this machine, which train together as torchrun's would.

The first of them talks to the user; what the others say is kept, for where one of them fails alone.
All stay in the process group of the launcher, ignore Ctrl-C and hear from it, by SIGTERM. Nothing
here needs torch: the processes read the data, and the launcher waits.
"""

from __future__ import annotations

import contextlib
import importlib.util
import math
import os
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from types import FrameType
from typing import IO

from lossmith.training.job import RequestError

LAUNCHER = "LOSSMITH_LAUNCHER"  # its process id, in the environment of what it started
PARTED = 75  # what a process exits with that had no fault but that another was gone
STOPPED = 130
NEEDS = 'a training in several processes needs accelerate. Try pip install "lossmith[distributed]".'
OFTEN = 0.05  # seconds between two looks at the processes
GRACE = 5.0  # seconds for the others to leave where one was killed
PATIENCE = 30.0  # and where one left by itself, of which the first may be about to say why


def processors() -> int:
    """Those that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def launched() -> bool:
    """Whether this process is one of several that :func:`launch` started."""
    return LAUNCHER in os.environ


@dataclass(frozen=True)
class End:
    """How a launch ended."""

    code: int
    words: str = ""  # what the first process did not say
    asked: bool = False  # whether a stop was asked for and the first process did not say so


def launch(command: Sequence[str], count: int) -> End:
    """Run a command in several processes, until all of them have ended."""
    if os.name != "posix":
        raise RequestError("--processes needs Linux or macOS. Elsewhere, use torchrun.")
    if importlib.util.find_spec("accelerate") is None:
        raise RequestError(NEEDS)
    with contextlib.ExitStack() as stack:
        heard = [stack.enter_context(tempfile.TemporaryFile()) for _ in range(count)]
        group = _Group(command, heard)
        stack.enter_context(group.listening())
        stack.callback(group.kill)
        group.start()
        group.wait()
        return group.end()


class _Group:
    """The processes that were started, by rank."""

    def __init__(self, command: Sequence[str], heard: Sequence[IO[bytes]]) -> None:
        self.command, self.heard, self.count = command, heard, len(heard)
        self.processes: list[subprocess.Popen[bytes]] = []
        self.ended: list[int] = []  # ranks, in that order
        self.asked = 0  # how often the user asked for a stop

    def start(self) -> None:
        """Start them all, unless a stop is asked for."""
        together = _environment(self.count)
        for rank in range(self.count):
            if self.asked:
                return
            first = rank == 0
            with ignore_interrupt():  # they inherit that
                process = subprocess.Popen(
                    self.command,
                    env={**together, "RANK": str(rank), "LOCAL_RANK": str(rank)},
                    stdout=None if first else subprocess.DEVNULL,
                    stderr=None if first else self.heard[rank],
                )
            self.processes.append(process)

    def wait(self) -> None:
        """Hand on what the user asks for; where one has failed, see that the others end."""
        told, limit = 0, math.inf
        while self._look():
            now = time.monotonic()
            if self.asked > told:
                told = self.asked
                self._send(signal.SIGTERM if told < 3 else signal.SIGKILL)
            if limit == math.inf and (failed := self._failed()) is not None:
                killed = failed < 0
                limit = now + (GRACE if killed else PATIENCE)
                if killed and not told:
                    self._send(signal.SIGTERM)
            elif now > limit:
                self._send(signal.SIGKILL)
            time.sleep(OFTEN)

    def end(self) -> End:
        """What came of it, and what is left to say."""
        codes = [process.returncode for process in self.processes]
        first = codes[0] if codes else -signal.SIGTERM
        if first in (0, STOPPED):
            return End(first)
        if self.asked:
            return End(STOPPED, asked=True)
        failed = [rank for rank in self.ended if codes[rank] not in (0, STOPPED, PARTED)]
        if not failed:
            said = "\n".join(filter(None, map(self._said, range(1, self.count))))
            return End(1, said or "The processes of the training lost each other.")
        rank, code = failed[0], codes[failed[0]]
        if code < 0:
            return End(1, self._killed(rank, code))
        if first > 0 and first != PARTED:
            return End(first)
        name = f"Process {rank + 1} of {self.count}"
        return End(code, self._said(rank) or f"{name} ended with exit code {code}, silently.")

    @contextlib.contextmanager
    def listening(self) -> Iterator[None]:
        """Count how often Ctrl-C or SIGTERM ask for a stop; what is ignored stays ignored."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        def ask(number: int, frame: FrameType | None) -> None:
            self.asked += 1

        numbers = (signal.SIGINT, signal.SIGTERM)
        kept = {one: signal.getsignal(one) for one in numbers}
        for number, handler in kept.items():
            if handler is not signal.SIG_IGN:
                signal.signal(number, ask)
        try:
            yield
        finally:
            for number, handler in kept.items():
                signal.signal(number, handler)

    def kill(self) -> None:
        """Leave none behind, whatever went wrong here."""
        self._send(signal.SIGKILL)
        for process in self.processes:
            process.wait()

    def _look(self) -> bool:
        """Note who has ended; whether any has not."""
        news = [
            rank
            for rank, process in enumerate(self.processes)
            if rank not in self.ended and process.poll() is not None
        ]
        # Those that a kill has left can abort before the next look.
        self.ended += sorted(
            news, key=lambda rank: self.processes[rank].returncode != -signal.SIGKILL
        )
        return len(self.ended) < len(self.processes)

    def _failed(self) -> int | None:
        """The exit code of one after which the others have no work: a failure, or the first."""
        for rank in self.ended:
            code = self.processes[rank].returncode
            if rank == 0 or code not in (0, STOPPED):
                return code
        return None

    def _send(self, number: int) -> None:
        for process in self.processes:
            process.send_signal(number)  # to one that has ended, nothing is sent

    def _said(self, rank: int) -> str:
        self.heard[rank].seek(0)
        return self.heard[rank].read().decode("utf-8", "replace").strip()

    def _killed(self, rank: int, code: int) -> str:
        memory = " (as the system does when memory runs out)" if code == -signal.SIGKILL else ""
        return (
            f"Process {rank + 1} of {self.count} was ended by {signal.Signals(-code).name}"
            f"{memory}, and the others with it."
        )


def _environment(count: int) -> dict[str, str]:
    """What all of them find in their environment, as torchrun would leave it."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    return {
        "OMP_NUM_THREADS": str(max(1, processors() // count)),
        **os.environ,
        "WORLD_SIZE": str(count),
        "LOCAL_WORLD_SIZE": str(count),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        LAUNCHER: str(os.getpid()),
    }


def follow() -> None:
    """In a process that was launched: stop, as if asked to, when the launcher is gone."""
    launcher = int(os.environ[LAUNCHER])

    def watch() -> None:
        while os.getppid() == launcher:
            time.sleep(10 * OFTEN)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True).start()


@contextlib.contextmanager
def ignore_interrupt() -> Iterator[None]:
    """Let what is started here ignore Ctrl-C from its first instruction on."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
