"""What run folders and model folders share: whole files, one command at a time, versions."""

from __future__ import annotations

import contextlib
import importlib.metadata
import math
import os
import platform
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from lossmith.training.job import RequestError

try:
    import fcntl
except ModuleNotFoundError:  # not a POSIX system: two commands in one folder are not kept apart
    fcntl = None  # type: ignore[assignment]


def write_whole(path: Path, content: bytes) -> None:
    """Write a file so that no reader and no kill ever meets a part of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=".unfinished-")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).chmod(0o666 & ~_umask())
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


@contextlib.contextmanager
def alone_in(folder: Path, command: str) -> Iterator[None]:
    """Keep a second command out; the system drops the lock when this process ends."""
    with contextlib.ExitStack() as stack:
        if fcntl is not None:
            descriptor = os.open(folder, os.O_RDONLY)
            stack.callback(os.close, descriptor)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise RequestError(
                    f"another {command} is running in {folder}; wait for it, or give another "
                    "folder with --out."
                ) from None
        yield


def unlike(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """What two sets of conditions disagree in, a line for each.

    >>> unlike({"loss": "bpr", "seed": 0}, {"loss": "warp", "seed": 0})
    ["loss: 'bpr' there, 'warp' asked for"]
    """
    return [
        f"{key}: {before.get(key)!r} there, {now.get(key)!r} asked for"
        for key in sorted({*before, *now})
        if before.get(key) != now.get(key)
    ]


def environment() -> dict[str, Any]:
    """The versions and the machine, as far as they can change a number."""
    values: dict[str, Any] = {
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "processors": os.cpu_count(),
    }
    for package in ("lossmith", "torch", "numpy"):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            values[package] = importlib.metadata.version(package)
    return values


def without_nan(value: Any) -> Any:
    """JSON has no NaN and no infinity; a reader in another language must not stumble."""
    if isinstance(value, Mapping):
        return {str(key): without_nan(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [without_nan(one) for one in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def _umask() -> int:
    """The permissions that a file made in the plain way would not have."""
    mask = os.umask(0)
    os.umask(mask)
    return mask
