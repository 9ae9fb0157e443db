"""``--processes``: several real processes, which start, stop and fail as one command does."""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import pytest
import torch
from safetensors.torch import load_file

from lossmith.cli.app import run
from lossmith.training import launch as launching
from lossmith.training.checkpoint import Keeper
from lossmith.training.job import RequestError
from lossmith.training.launch import LAUNCHER, PARTED, launch
from lossmith.training.run import Training

pytest.importorskip("accelerate")

# What each of the processes below begins with; it writes its id into a file of its own.
START = """
import os, signal, sys, time
from pathlib import Path
rank = int(os.environ["RANK"])
def note(name, text=""):
    Path(f"new-{rank}").write_text(str(text))
    Path(f"new-{rank}").replace(f"{name}-{rank}")
"""
WAIT = "note('pid', os.getpid())\ntime.sleep(60)"
# In a process of its own: signals to it are not signals to the tests.
SCRIPT = """
import json, sys
from lossmith.training.launch import launch
end = launch([sys.executable, "-c", sys.argv[1]], 2)
print(json.dumps([end.code, end.words, end.asked]))
"""


@pytest.fixture(autouse=True)
def _alone(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)


def launched(code: str, count: int = 2) -> launching.End:
    return launch([sys.executable, "-c", START + code], count)


def there(path: Path, seconds: float = 60) -> bytes:
    """The content of a file, once it is there."""
    end = time.monotonic() + seconds
    while not path.exists():
        assert time.monotonic() < end, f"no {path}"
        time.sleep(0.02)
    return path.read_bytes()


def gone(pid: int, seconds: float = 20) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            if Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z":
                return True
            os.kill(pid, 0)
        except (ProcessLookupError, FileNotFoundError):
            return True
        time.sleep(0.02)
    return False


def test_each_finds_its_place_in_the_environment_and_a_share_of_the_processors(monkeypatch):
    monkeypatch.setattr(launching, "processors", lambda: 7)
    names = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR")
    code = f"note('found', ' '.join(os.environ[n] for n in ({names} + ('OMP_NUM_THREADS',))))"
    assert launched(code, 3).code == 0
    for rank in range(3):
        assert Path(f"found-{rank}").read_text() == f"{rank} {rank} 3 3 127.0.0.1 2"
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    assert launched(code, 2).code == 0
    assert Path("found-1").read_text().endswith(" 5")


def test_only_the_first_is_heard(capfd):
    end = launched("print('told', rank); print('warned', rank, file=sys.stderr)")
    assert (end.code, end.words) == (0, "")
    out, err = capfd.readouterr()
    assert (out, err) == ("told 0\n", "warned 0\n")


def test_a_mistake_that_all_find_is_told_by_the_first_however_late_it_comes(capfd):
    end = launched("time.sleep(0.5 - rank / 2); sys.exit(f'no file {rank}')")
    assert (end.code, end.words) == (1, "")
    assert capfd.readouterr().err == "no file 0\n"


def test_what_one_of_the_others_fails_with_is_shown(capfd):
    end = launched(
        "if rank == 1: raise ArithmeticError('odd')\n"
        f"time.sleep(0.2); sys.exit({PARTED})"
    )  # fmt: skip
    assert end.code == 1 and end.words.endswith("ArithmeticError: odd")
    assert launched(f"sys.exit(7 if rank else {PARTED})").words == (
        "Process 2 of 2 ended with exit code 7, silently."
    )
    lost = launched(f"sys.exit({PARTED})")
    assert (lost.code, lost.words) == (1, "The processes of the training lost each other.")
    assert not capfd.readouterr().err


def test_one_that_leaves_by_itself_does_not_leave_the_others_behind(monkeypatch):
    monkeypatch.setattr(launching, "PATIENCE", 0.5)
    end = launched("if rank == 0: " + WAIT.replace("\n", "; ") + "\nsys.exit('left')")
    assert (end.code, end.words) == (1, "left")


@pytest.mark.parametrize("rank", [0, 1])
def test_a_killed_one_ends_the_others_with_one_sentence(rank, capfd):
    began = time.monotonic()
    end = launched(f"if rank == {rank}: os.kill(os.getpid(), signal.SIGKILL)\n{WAIT}")
    assert end.code == 1 and time.monotonic() - began < 30
    assert end.words == (
        f"Process {rank + 1} of 2 was ended by SIGKILL (as the system does when memory runs out), "
        "and the others with it."
    )
    assert capfd.readouterr() == ("", "")


def test_one_that_will_not_leave_is_ended(monkeypatch):
    monkeypatch.setattr(launching, "GRACE", 0.2)
    stubborn = "signal.signal(signal.SIGTERM, signal.SIG_IGN); note('deaf')\n"
    dies = "while not Path('deaf-0').exists(): time.sleep(0.01)\nos.kill(os.getpid(), 9)\n"
    code = f"if rank == 0: {stubborn}else:\n  " + dies.replace("\n", "\n  ") + f"\n{WAIT}"
    assert launched(code).words.startswith("Process 2 of 2 was ended by SIGKILL")


COUNT = """
heard = []
signal.signal(signal.SIGTERM, lambda *_: heard.append(1))
note('pid', os.getpid())
end = time.monotonic() + 60
while not heard and time.monotonic() < end:
    time.sleep(0.01)
time.sleep(0.5)
note('heard', len(heard))
sys.exit(130)
"""


@pytest.mark.parametrize("how", ["Ctrl-C of a terminal", "SIGINT", "SIGTERM"])
def test_a_stop_reaches_each_once(how, tmp_path):
    """Of a terminal it goes to all processes of the group, of which the launcher hands it on."""
    words = [sys.executable, "-c", SCRIPT, START + COUNT]
    with subprocess.Popen(words, stdout=subprocess.PIPE, start_new_session=True) as process:
        for rank in range(2):
            there(tmp_path / f"pid-{rank}")
        if how == "Ctrl-C of a terminal":
            os.killpg(process.pid, signal.SIGINT)
        else:
            process.send_signal(getattr(signal, how))
        out, _ = process.communicate(timeout=60)
    assert out == b'[130, "", false]\n' and process.returncode == 0
    assert [(tmp_path / f"heard-{rank}").read_text() for rank in range(2)] == ["1", "1"]


def test_before_any_of_them_listens_a_stop_is_told_by_the_launcher(tmp_path):
    words = [sys.executable, "-c", SCRIPT, START + WAIT]
    with subprocess.Popen(words, stdout=subprocess.PIPE) as process:
        for rank in range(2):
            there(tmp_path / f"pid-{rank}")
        process.send_signal(signal.SIGTERM)
        out, _ = process.communicate(timeout=60)
    assert out == b'[130, "", true]\n'


def test_where_the_launcher_is_killed_they_stop(tmp_path):
    code = "from lossmith.training.launch import follow; follow()\n" + WAIT
    with subprocess.Popen([sys.executable, "-c", SCRIPT, START + code]) as process:
        found = [int(there(tmp_path / f"pid-{rank}")) for rank in range(2)]
        process.kill()
    assert all(map(gone, found))


def test_two_signals_at_once_are_one_stop_of_a_launched_process(monkeypatch):
    nothing = cast(Training, None)  # is asked for nothing before a step
    keeper = Keeper(Path("c.pt"), nothing, {}, every=1e9)
    monkeypatch.setenv(LAUNCHER, "1")
    keeper._ask(signal.SIGTERM, None)
    keeper._ask(signal.SIGTERM, None)
    keeper.since -= 2
    with pytest.raises(KeyboardInterrupt):
        keeper._ask(signal.SIGTERM, None)


def test_without_accelerate_it_says_what_to_install(monkeypatch):
    monkeypatch.setattr(launching.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(RequestError, match=r'pip install "lossmith\[distributed\]"'):
        launched("raise AssertionError")


def test_the_launcher_is_there_without_torch():
    code = "import sys, lossmith.training.launch, lossmith.cli.train; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


# Whole trainings. The model of the second process alone does what the command asks of it.
PROBE = """
import os, signal
from torch import nn
class Probe(nn.Module):
    def __init__(self, vocabulary, outputs):
        super().__init__()
        self.bag, self.steps = nn.EmbeddingBag(vocabulary, outputs, padding_idx=0), 0
    def forward(self, ids):
        self.steps += 1
        if os.environ.get("RANK") == "1" and self.steps == 3:
            if DEED == "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            if DEED == "raise":
                raise LookupError("odd")
        return self.bag(ids)
"""


LOSS = "binary_cross_entropy"


@contextlib.contextmanager
def train(data: str, *words: str, **how) -> Iterator[subprocess.Popen[str]]:
    """A training that has begun; however the test ends, it ends with it."""
    line = ["train", "classification", data, "--loss", LOSS, "--batch-size", "16", *words]
    with subprocess.Popen(
        [sys.executable, "-m", "lossmith", *line],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **how,
    ) as process:  # fmt: skip
        try:
            yield process
        finally:
            process.kill()


def test_a_training_is_stopped_goes_on_and_has_the_weights_of_one_process(reviews, tmp_path):
    epochs = ["--epochs", "20", "--set", "dropout=0"]
    words = [*epochs, "--out", "two", "--processes", "2", "--checkpoint-every", "0"]
    with train(reviews, *words, start_new_session=True) as process:
        there(tmp_path / "two" / "checkpoint.pt", 120)
        os.killpg(process.pid, signal.SIGINT)
        out, err = process.communicate(timeout=120)
    assert (process.returncode, out) == (130, "")
    *_, told, again = err.splitlines()
    assert told == "Interrupted. A checkpoint is written. This goes on:"
    assert "Traceback" not in err and "--processes 2" in again
    assert run([*shlex.split(again)[1:], "--quiet"]) == 0
    assert run(["train", "classification", reviews, "--loss", LOSS, "--batch-size", "16",
                *epochs, "--out", "one", "--quiet"]) == 0  # fmt: skip
    one, two = (load_file(Path(name, "model.safetensors")) for name in ("one", "two"))
    for key, value in one.items():
        torch.testing.assert_close(two[key], value, rtol=0, atol=1e-4, msg=key)


@pytest.mark.parametrize("deed", ["kill", "raise"])
def test_one_process_that_fails_ends_the_training(deed, reviews, tmp_path):
    (tmp_path / "probe.py").write_text(PROBE.replace("DEED", repr(deed)))
    words = ["--model", "probe.py:Probe", "--out", "m", "--processes", "2", "--quiet"]
    with train(reviews, *words) as process:
        out, err = process.communicate(timeout=120)
    assert (process.returncode, out) == (1, "")
    if deed == "kill":
        assert err.startswith("Process 2 of 2 was ended by SIGKILL") and err.count("\n") == 1
    else:
        assert err.startswith("The training failed: ") and err.count("LookupError: odd") == 1
        assert err.count("\n") == 1


def test_a_mistake_is_one_message(reviews, tmp_path):
    with train(reviews, "--set", "dropuot=1", "--out", "m", "--processes", "2") as process:
        out, err = process.communicate(timeout=120)
    assert (process.returncode, out) == (2, "")
    assert err == "Error: there is no setting 'dropuot'. Did you mean 'dropout'?\n"


def test_more_processes_than_processors_are_warned_of(monkeypatch, capfd):
    done = launching.End(0)
    monkeypatch.setattr("lossmith.cli.train.launch", lambda command, count: done)
    monkeypatch.setattr("lossmith.cli.train.processors", lambda: 4)
    line = ["train", "classification", "d.csv", "--loss", "hinge", "--out", "m", "--processes"]
    assert run([*line, "4"]) == 0 and not capfd.readouterr().err
    assert run([*line, "4", "--set", "threads=2"]) == 0
    assert capfd.readouterr().err == (
        "warning: 4 processes of threads=2 wait for each other on 4 processors.\n"
    )


def test_one_launcher_is_enough(monkeypatch, capfd):
    monkeypatch.setenv("WORLD_SIZE", "2")
    line = ["train", "classification", "d.csv", "--loss", "hinge", "--out", "m"]
    assert run([*line, "--processes", "2"]) == 2
    assert "leave --processes out" in " ".join(capfd.readouterr().err.replace("│", "").split())
