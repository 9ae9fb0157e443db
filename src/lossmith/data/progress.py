"""A progress bar that stays silent for short work and where nobody is looking."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator, Sized
from typing import TypeVar

T = TypeVar("T")
PATIENCE = 1.0  # seconds of work before a bar is worth its place on the screen


def track(things: Iterable[T], description: str, *, show: bool | None = None) -> Iterator[T]:
    """Yield the things; after a second, show on stderr how far it is, if that is a terminal.

    >>> list(track("ab", "Counting"))
    ['a', 'b']
    """
    if show is None:
        show = sys.stderr.isatty()
    if not show:
        yield from things
        return
    # rich takes a tenth of a second to import, which silent work should not pay.
    from rich.console import Console
    from rich.progress import Progress

    total = len(things) if isinstance(things, Sized) else None
    # What the caller prints meanwhile stays on its own stream.
    bar = Progress(
        console=Console(stderr=True), transient=True, redirect_stdout=False, redirect_stderr=False
    )
    task = bar.add_task(description, total=total)
    started, running = time.monotonic(), False
    try:
        for thing in things:
            if not running and time.monotonic() - started > PATIENCE:
                bar.start()
                running = True
            yield thing
            bar.advance(task)
    finally:
        if running:
            bar.stop()
