"""The resident memory of this process, where the system tells it (Linux)."""

from __future__ import annotations

import math
from pathlib import Path

_STATUS = Path("/proc/self/status")
_CLEAR = Path("/proc/self/clear_refs")


def forget_peak_memory() -> None:
    """Let the peak start anew from what is resident now, where the system can."""
    try:
        _CLEAR.write_text("5")
    except OSError:
        return


def peak_memory_mb() -> float:
    """The largest resident memory since :func:`forget_peak_memory`; NaN where it is unknown."""
    return _status("VmHWM")


def resident_memory_mb() -> float:
    """The memory that is resident now; NaN where it is unknown."""
    return _status("VmRSS")


def _status(name: str) -> float:
    try:
        lines = _STATUS.read_text().splitlines()
    except OSError:
        return math.nan
    value = next((line.split()[1] for line in lines if line.startswith(f"{name}:")), "nan")
    return float(value) / 1024
