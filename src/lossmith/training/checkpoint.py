"""Where a training stands, in a file, so that a kill costs the last minute and not the run."""

from __future__ import annotations

import contextlib
import io
import math
import signal
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import FrameType
from typing import Any

import torch

from lossmith.data.errors import DataError
from lossmith.training.distributed import Processes
from lossmith.training.files import write_whole
from lossmith.training.launch import launched
from lossmith.training.run import Training

VERSION = 1
ONE = 1.0  # seconds within which two signals to a launched process are one


def save(path: Path, training: Training, identity: Mapping[str, Any]) -> None:
    """Write all that the rest of the training depends on; the file is whole or the old one."""
    content = io.BytesIO()
    values = {"version": VERSION, "identity": dict(identity), "training": training.state()}
    torch.save(values, content)
    write_whole(path, content.getvalue())


def load(path: Path) -> dict[str, Any]:
    """What :func:`save` wrote; only tensors and plain values are read, never code."""
    try:
        values: dict[str, Any] = torch.load(path, weights_only=True)
        if values["version"] == VERSION:
            return values
        problem = f"was written by another version of lossmith (format {values['version']})"
    except Exception as error:  # whatever a damaged file makes of the reader
        problem = f"cannot be read ({type(error).__name__})"
    raise DataError(
        problem,
        path=path,
        expected="the checkpoint of a training that was broken off",
        fix="Start over with --fresh, which trains from the beginning.",
    )


class Keeper:
    """Writes a checkpoint every so many seconds of training, and when it is asked to stop.

    :meth:`step` is called between two steps, where the state is whole. The first Ctrl-C or
    SIGTERM asks for a stop at the next of these; the second stops at once. Whoever ends all
    processes of a job tells those of a launch directly, and so does their launcher: that is one.
    """

    def __init__(
        self,
        path: Path,
        training: Training,
        identity: Mapping[str, Any],
        *,
        every: float,
        processes: Processes | None = None,
    ) -> None:
        self.path, self.training, self.identity = path, training, identity
        self.every, self.last = every, time.monotonic()
        self.processes = processes or Processes()
        self.asked = False
        self.since = -math.inf  # when it was

    def step(self) -> None:
        """Write if it is time; raise KeyboardInterrupt if a stop was asked for."""
        stop = self.processes.any(self.asked)  # all of them, between the same two steps
        if stop or time.monotonic() - self.last >= self.every:
            if self.processes.first:
                save(self.path, self.training, self.identity)
            self.last = time.monotonic()
        if stop:
            raise KeyboardInterrupt

    @contextlib.contextmanager
    def listening(self) -> Iterator[None]:
        """Let Ctrl-C and SIGTERM ask for a stop."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        # What a shell in the background was told to ignore stays ignored.
        heard = [number for number in _SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
        before = {number: signal.signal(number, self._ask) for number in heard}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _ask(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if self.asked and not (launched() and now - self.since < ONE):
            raise KeyboardInterrupt
        self.asked, self.since = True, now


_SIGNALS = (signal.SIGINT, signal.SIGTERM)
