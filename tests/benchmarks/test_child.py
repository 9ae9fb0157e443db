"""The pipe to a child: answers, death, timeouts, and a new start."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.child import ROOT, Child

FAKE = """
import json, os, sys, time
for line in sys.stdin:
    request = json.loads(line)
    if request["do"] == "size":
        print(json.dumps({}), flush=True)
    elif request["contender"] == "dies":
        sys.exit("no such thing")
    elif request["contender"] == "killed":
        os.kill(os.getpid(), 9)
    elif request["contender"] == "sleeps":
        time.sleep(60)
    else:
        print(json.dumps({"wall": 1.0, "pid": os.getpid()}), flush=True)
"""


@contextmanager
def child() -> Iterator[Child]:
    made = Child(Path(sys.executable), "fake", "main", threads=1)
    made.command = [sys.executable, "-c", FAKE]
    try:
        yield made
    finally:
        made.close()


def test_it_lives_on_between_runs() -> None:
    with child() as one:
        assert one.set_size({"n": 1}, 30) == {}
        assert one.run("good", 30) == one.run("good", 30)


def test_death_is_told_with_its_last_words_and_it_starts_again() -> None:
    with child() as one:
        before = one.run("good", 30)
        assert one.run("dies", 30) == {
            "error": "the process ended with exit code 1 and said: no such thing"
        }
        after = one.run("good", 30)
        assert after["pid"] != before["pid"]


def test_a_signal_is_named() -> None:
    with child() as one:
        assert one.run("killed", 30) == {"error": "the process was killed by signal 9"}


def test_waiting_ends() -> None:
    with child() as one:
        assert one.set_size({}, 30) == {}
        assert one.run("sleeps", 0.2) == {"error": "stopped after 0.2 s"}
        assert "wall" in one.run("good", 30)


def test_stand_ins_have_every_name() -> None:
    code = (
        "from benchmarks.standins import install_stand_ins; install_stand_ins(['absent'])\n"
        "from absent.transforms import Mode\n"
        "import absent.ops, sys\n"
        "class Mine(absent.ops.Thing): pass\n"
        "assert Mode.NEAREST is not None\n"
        "try:\n"
        "    import absent_too\n"
        "except ModuleNotFoundError:\n"
        "    print('as it should be')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout == "as it should be\n", done.stderr
