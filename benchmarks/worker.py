"""The child process: it holds one case in one environment and runs what it is told to.

A request and its answer are one line of JSON each. It serves three requests: ``size`` builds the
inputs, ``run`` does one timed run of a contender, ``memory`` measures one in this process.
"""

from __future__ import annotations

import ctypes
import gc
import json
import math
import os
import resource
import sys
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from benchmarks.case import FLOOR, Case, Inputs, Size, UnavailableError
from benchmarks.environments import directive
from benchmarks.registry import load_cases
from benchmarks.standins import install_stand_ins
from lossmith.core.memory import forget_peak_memory, peak_memory_mb, resident_memory_mb

Answer = dict[str, Any]


class Bench:
    """One case, with the inputs of one size and what contenders prepared from them."""

    def __init__(self, case: Case) -> None:
        self.case = case
        self.inputs: Inputs = {}
        self.prepared: dict[str, Any] = {}

    def size(self, size: Size) -> Answer:
        """Build the inputs of a size; what was there before is dropped first."""
        self.inputs, self.prepared = {}, {}
        gc.collect()
        self.inputs = self.case.inputs(size)
        return {}

    def run(self, contender: str) -> Answer:
        """One run: its wall and CPU time and its value."""
        step, given = self.step(contender)
        drop_gradients(given)
        wall, cpu = time.perf_counter(), time.process_time()
        value = step(given)
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        return {"wall": wall, "cpu": cpu, "value": as_number(value)}

    def memory(self, contender: str, size: Size) -> Answer:
        """The peak of one run above what was resident when its inputs stood ready.

        A small run goes before, so that libraries, thread pools and kernels are loaded.
        """
        if self.case.sizes[0] != size:
            self.size(self.case.sizes[0])
            self.run(contender)
        else:
            warm = torch.randn(256, 256, requires_grad=True)
            (warm @ warm).sum().backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
            del warm
        self.size(size)
        step, given = self.step(contender)
        give_back_memory()
        forget_peak_memory()
        before = resident_memory_mb()
        step(given)
        above = peak_memory_mb() - before
        return {
            "memory": None if math.isnan(above) else max(0.0, above),
            "gradients": gradients_mb(given),
        }

    def step(self, contender: str) -> tuple[Callable[[Any], Any], Any]:
        """The function to time and its argument, prepared once."""
        if contender == FLOOR:
            assert self.case.floor is not None
            return self.case.floor, self.inputs
        one = self.case.contenders[contender]
        if contender not in self.prepared:
            prepare = one.prepare
            self.prepared[contender] = self.inputs if prepare is None else prepare(self.inputs)
        return one.run, self.prepared[contender]


def drop_gradients(given: Any) -> None:
    """Let every run start without gradients, as after ``zero_grad``."""
    for tensor in tensors(given):
        tensor.grad = None


def gradients_mb(given: Any) -> float:
    """What the gradients of the inputs take, which any implementation must write."""
    held = [tensor.grad for tensor in tensors(given) if tensor.grad is not None]
    return sum(gradient.numel() * gradient.element_size() for gradient in held) / 2**20


def tensors(given: Any) -> list[Tensor]:
    """The tensors that keep a gradient, where the inputs are a dictionary."""
    values = given.values() if isinstance(given, dict) else ()
    return [value for value in values if isinstance(value, Tensor) and value.is_leaf]


def as_number(value: Any) -> float | None:
    """The value as a number where it is one."""
    if isinstance(value, Tensor) and value.numel() == 1:
        value = value.detach().item()
    if isinstance(value, (int, float)) and math.isfinite(value):
        return float(value)
    return None


def give_back_memory() -> None:
    """Return what is free to the system, so that the next peak counts from the inputs."""
    gc.collect()
    try:
        ctypes.CDLL("libc.so.6").malloc_trim(0)
    except (OSError, AttributeError):
        return


def answer(bench: Bench, request: Answer) -> Answer:
    """Do what is asked; a failure is an answer too."""
    try:
        if request["do"] == "size":
            return bench.size(request["size"])
        if request["do"] == "memory":
            return bench.memory(request["contender"], request["size"])
        return bench.run(request["contender"])
    except UnavailableError as missing:
        return {"unavailable": str(missing)}
    # A peer may fail in any way, and the run goes on without it.
    except Exception as failure:
        first_line = (str(failure).strip().splitlines() or [""])[0]
        return {"error": f"{type(failure).__name__}: {first_line}"[:300]}


def main(case: str, environment: str, threads: int, cap_mb: int) -> None:
    """Serve until the input ends."""
    replies = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what a peer prints must not end up among the answers
    if cap_mb:
        resource.setrlimit(resource.RLIMIT_AS, (cap_mb << 20, cap_mb << 20))
    torch.set_num_threads(threads)
    install_stand_ins(directive(environment, "stand-ins").split())
    bench = Bench(load_cases()[case])
    for line in sys.stdin:
        replies.write(json.dumps(answer(bench, json.loads(line))) + "\n")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
