from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import fake_study
import pytest
from fake_run import run_one, threads_seen
from fake_study import study

from lossmith.compare.execute import default_workers, execute
from lossmith.compare.plan import PlanError
from lossmith.compare.study import Interrupted


class Diary:
    """Writes down what it is told."""

    def __init__(self):
        self.begun, self.epochs, self.done, self.lost = [], [], {}, {}

    def started(self, run):
        self.begun.append(run.key)

    def epoch(self, run, epoch, total):
        self.epochs.append((run.key, epoch.number, total))

    def finished(self, run, outcome):
        self.done[run.key] = outcome

    def failed(self, run, reason, details):
        self.lost[run.key] = (reason, details)


def carried_out(tmp_path, workers=2, **asked):
    diary = Diary()
    execute(study(tmp_path, **asked).plan.runs(), run_one, workers=workers, watch=diary)
    return diary


@pytest.mark.parametrize("workers", [1, 2])
def test_every_run_comes_back_with_what_it_gives_alone(tmp_path, workers):
    diary = carried_out(tmp_path, workers)
    runs = study(tmp_path).plan.runs()
    assert diary.done == {run.key: run_one(run.job) for run in runs}
    assert sorted(diary.epochs) == sorted((r.key, n, 4) for r in runs for n in (1, 2, 3, 4))
    assert not diary.lost


def test_nothing_to_do_is_done_at_once(tmp_path):
    execute([], run_one, workers=2, watch=Diary())


def test_a_failed_run_is_reported_and_the_others_go_on(tmp_path):
    diary = carried_out(tmp_path, trouble="raise b 1")
    assert diary.lost.keys() == {("b", 1)} and len(diary.done) == 5
    reason, details = diary.lost["b", 1]
    assert reason == "ValueError: the loss is on strike" and "Traceback" in details


def test_a_run_whose_worker_was_killed_is_tried_once_more(tmp_path):
    log = tmp_path / "log"
    diary = carried_out(tmp_path, log=str(log), trouble="kill-once b 1")
    assert len(diary.done) == 6 and not diary.lost
    assert log.read_text().count("b 1 ") == 2


@pytest.mark.parametrize("workers", [1, 2])
def test_a_run_that_kills_its_worker_twice_has_failed(tmp_path, workers):
    log = tmp_path / "log"
    diary = carried_out(tmp_path, workers, log=str(log), trouble="kill b 1")
    assert diary.lost.keys() == {("b", 1)} and len(diary.done) == 5
    assert "killed 2 times (exit code -9" in diary.lost["b", 1][0]
    assert log.read_text().count("b 1 ") == 2


def test_a_killed_last_run_is_tried_again_by_a_worker_that_was_idle(tmp_path):
    diary = carried_out(tmp_path, seeds=1, log=str(tmp_path / "log"), trouble="kill-once b 0")
    assert len(diary.done) == 2


def test_workers_have_the_threads_they_were_given(tmp_path):
    diary = Diary()
    runs = study(tmp_path, "a", 1, threads=3).plan.runs()
    execute(runs, threads_seen, workers=1, watch=diary)
    assert diary.done["a", 0] == "3"


def test_a_worker_that_cannot_start_is_an_error_and_not_a_failed_run(tmp_path):
    with pytest.raises(RuntimeError, match="__main__"):
        execute(study(tmp_path).plan.runs(), Unreadable(), workers=1, watch=Diary())


class Unreadable:
    """Pickles well and cannot be read back."""

    def __reduce__(self):
        return os._exit, (7,)


def test_as_many_workers_as_fit_the_processors(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    assert default_workers(study(tmp_path, seeds=10).plan.runs()) == 8
    assert default_workers(study(tmp_path, seeds=10, threads=3).plan.runs()) == 2
    assert default_workers(study(tmp_path, seeds=10, threads=99).plan.runs()) == 1
    assert default_workers(study(tmp_path, "a", 3).plan.runs()) == 3
    assert default_workers([]) == 1


def test_a_study_trains_only_what_is_missing(tmp_path):
    log = tmp_path / "log"
    one = study(tmp_path / "r", seeds=2, log=str(log))
    first = one.run(quiet=True)
    assert len(log.read_text().splitlines()) == 4
    second = one.run(quiet=True)
    assert len(log.read_text().splitlines()) == 4
    assert second.outcomes == first.outcomes
    study(tmp_path / "r", seeds=3, log=str(log)).run(quiet=True)
    assert len(log.read_text().splitlines()) == 6
    one.run(quiet=True, fresh=True)
    assert len(log.read_text().splitlines()) == 10


def test_a_study_with_a_failed_run_is_judged_on_the_rest(tmp_path):
    report = study(tmp_path / "r", trouble="raise b 1").run(quiet=True)
    assert report.failures == {("b", 1): "ValueError: the loss is on strike"}
    assert report.comparisons[0].effect.n == 2
    assert "b gave no number for 1 of 3 seeds." in report.verdict
    assert (tmp_path / "r" / "runs" / "b" / "seed-1.error.txt").exists()


def test_no_jobs_are_a_mistake(tmp_path):
    with pytest.raises(PlanError, match="jobs=0"):
        study(tmp_path / "r").run(jobs=0)


def begin(folder: Path, log: Path, *more: str) -> subprocess.Popen[str]:
    """The command line over the fake task; returns when two runs are finished."""
    script = Path(fake_study.__file__)
    words = ["compare", "classification", "reviews.csv", "--losses", "a,b", "--seeds", "4"]
    words += ["--out", str(folder), "--jobs", "2", "--set", f"log={log}", *more]
    return subprocess.Popen(
        [sys.executable, str(script), *words],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip


def wait_for(condition, seconds=20.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


def finished(folder: Path) -> int:
    return len(list(folder.glob("runs/*/seed-*.json")))


def workers_in(log: Path) -> set[int]:
    return {int(line.split()[2]) for line in log.read_text().splitlines()}


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    # A process that ended and was not yet waited for is over too.
    status = Path(f"/proc/{pid}/stat")
    return not status.exists() or status.read_text().rsplit(")", 1)[1].split()[0] != "Z"


def test_after_a_kill_the_workers_end_and_the_same_command_finishes_the_rest(tmp_path):
    folder, log = tmp_path / "r", tmp_path / "log"
    process = begin(folder, log, "--set", "delay=0.1")
    wait_for(lambda: finished(folder) >= 2)
    process.kill()
    process.communicate()
    wait_for(lambda: not any(alive(pid) for pid in workers_in(log)))
    kept = {path: path.read_bytes() for path in folder.glob("runs/*/seed-*.json")}
    assert 2 <= len(kept) < 8

    log.write_text("")
    again = begin(folder, log, "--set", "delay=0.1")
    _, errors = again.communicate(timeout=30)
    assert again.returncode == 0, errors
    assert len(log.read_text().splitlines()) == 8 - len(kept)
    assert all(path.read_bytes() == content for path, content in kept.items())
    whole = study(tmp_path / "whole", seeds=4).run(quiet=True)
    resumed = study(folder, seeds=4, delay=0.1, log=str(log)).run(quiet=True)
    assert resumed.outcomes == whole.outcomes


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_keeps_what_is_finished_and_says_how_to_go_on(tmp_path, number):
    folder, log = tmp_path / "r", tmp_path / "log"
    process = begin(folder, log, "--set", "delay=0.1", "--fresh")
    wait_for(lambda: finished(folder) >= 2)
    if number == signal.SIGINT:
        os.killpg(process.pid, number)  # as a terminal does: the workers get it too
    else:
        process.send_signal(number)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "Interrupted" in errors and "of 8 trainings are finished" in errors
    assert "lossmith compare classification reviews.csv" in errors and "--fresh" not in errors
    assert "Traceback" not in errors
    assert finished(folder) >= 2
    assert not any(alive(pid) for pid in workers_in(log))


def test_an_interrupt_in_python_says_how_far_it_came(tmp_path, monkeypatch):
    def interrupted(runs, run_one, *, workers, watch, successor):
        watch.finished(runs[0], run_one(runs[0].job))
        raise KeyboardInterrupt

    monkeypatch.setattr("lossmith.compare.study.execute", interrupted)
    with pytest.raises(Interrupted, match="1 of 6 trainings are finished"):
        study(tmp_path / "r").run(quiet=True)
