"""The parent's side of a child process: ask, wait, and survive its death."""

from __future__ import annotations

import json
import os
import select
import subprocess
import tempfile
import time
from pathlib import Path
from typing import IO, Any

ROOT = Path(__file__).resolve().parent.parent


class Child:
    """One case in one environment; started when first asked, and again after it died."""

    def __init__(
        self, python: Path, case: str, environment: str, *, threads: int, cap_mb: int = 0
    ) -> None:
        words = [case, environment, str(threads), str(cap_mb)]
        self.command = [str(python), "-m", "benchmarks.worker", *words]
        self.environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "src")]),
            "OMP_NUM_THREADS": str(threads),
            "TOKENIZERS_PARALLELISM": "false",
        }
        self.process: subprocess.Popen[bytes] | None = None
        self.complaints: IO[bytes] | None = None
        self.size: dict[str, int] = {}

    def set_size(self, size: dict[str, int], timeout: float) -> dict[str, Any]:
        """Let it build the inputs of a size, now and after every new start."""
        self.size = size
        return self.ask({"do": "size", "size": size}, timeout)

    def run(self, contender: str, timeout: float) -> dict[str, Any]:
        """One timed run."""
        if self.process is None:
            failed = self.set_size(self.size, timeout)
            if failed:
                return failed
        return self.ask({"do": "run", "contender": contender}, timeout)

    def memory(self, contender: str, size: dict[str, int], timeout: float) -> dict[str, Any]:
        """The peak of one run; ask a fresh child."""
        return self.ask({"do": "memory", "contender": contender, "size": size}, timeout)

    def ask(self, request: dict[str, Any], timeout: float) -> dict[str, Any]:
        """Its answer, or an ``error`` where it died or took too long."""
        if self.process is None:
            # Closed with the process, in close().
            self.complaints = tempfile.TemporaryFile()  # noqa: SIM115 - closed by close()
            self.process = subprocess.Popen(
                self.command,
                cwd=ROOT,
                env=self.environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self.complaints,
            )
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(json.dumps(request).encode() + b"\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            return self.died()
        line = self.read_line(timeout)
        if line is None:
            self.close()
            return {"error": f"stopped after {timeout:g} s"}
        if not line.endswith(b"\n"):
            return self.died()
        found: dict[str, Any] = json.loads(line)
        return found

    def read_line(self, timeout: float) -> bytes | None:
        """One line, what came before the end, or None after the timeout."""
        assert self.process is not None and self.process.stdout is not None
        pipe, ends, line = self.process.stdout.fileno(), time.monotonic() + timeout, b""
        while not line.endswith(b"\n"):
            left = ends - time.monotonic()
            if left <= 0 or not select.select([pipe], [], [], left)[0]:
                return None
            piece = os.read(pipe, 1 << 16)
            if not piece:
                break
            line += piece
        return line

    def died(self) -> dict[str, Any]:
        """What to say of a child that is gone."""
        assert self.process is not None and self.complaints is not None
        code = self.process.wait()
        self.complaints.seek(0)
        said = self.complaints.read().decode(errors="replace").strip().splitlines() or ["nothing"]
        self.close()
        if code < 0:
            return {"error": f"the process was killed by signal {-code}"}
        return {"error": f"the process ended with exit code {code} and said: {said[-1]}"[:300]}

    def close(self) -> None:
        """End it."""
        if self.process is None:
            return
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout, self.complaints):
            if pipe is not None:
                pipe.close()
        self.process = None
