from __future__ import annotations

import io

from fake_run import run_one
from fake_study import study
from rich.console import Console

from lossmith.compare.progress import Bars, Lines, progress


def runs(tmp_path):
    return study(tmp_path, "a b", 1, epochs=4).plan.runs()


def shown(bars):
    console = Console(file=io.StringIO(), width=120)
    console.print(bars.each)
    console.print(bars.overall)
    return console.file.getvalue()


def test_bars_show_each_running_training_and_the_whole(tmp_path):
    bars = Bars(4, 1, "accuracy")
    first, second = runs(tmp_path)
    outcome = run_one(first.job)
    bars.started(first)
    bars.started(second)
    bars.epoch(first, outcome.epochs[1], 4)
    text = shown(bars)
    assert "a seed 0" in text and "2/4" in text and "0/4" in text
    assert f"accuracy {outcome.epochs[1].test['accuracy']:.4f}" in text
    assert bars.overall.tasks[0].completed == 1 + 2 / 4
    bars.finished(first, outcome)
    bars.failed(second, "it broke", "")
    text = shown(bars)
    assert "seed 0" not in text and "3/4 trainings, 1 failed" in text


def test_a_training_that_starts_again_has_one_bar(tmp_path):
    bars = Bars(2, 0, "accuracy")
    first, _ = runs(tmp_path)
    bars.started(first)
    bars.started(first)
    assert len(bars.each.tasks) == 1


def test_brackets_in_a_name_are_no_markup(tmp_path):
    bars = Bars(2, 0, "accuracy")
    bars.started(study(tmp_path, "a(k=[1,2])", 1).plan.runs()[0])
    assert "a(k=[1, 2]) seed 0" in shown(bars)


def test_lines_go_to_stderr_and_quiet_says_nothing(tmp_path, capsys):
    first, second = runs(tmp_path)
    for quiet in (False, True):
        with progress(2, 0, "accuracy", quiet=quiet) as watch:
            assert isinstance(watch, Lines)
            watch.finished(first, run_one(first.job))
            watch.failed(second, "it broke", "")
        said = capsys.readouterr()
        assert said.out == ""
        lines = said.err.splitlines()
        assert len(lines) == (0 if quiet else 2)


def test_what_is_there_already_is_said(capsys):
    with progress(5, 2, "accuracy", quiet=False):
        pass
    assert capsys.readouterr().err == "2 of 5 trainings are there already\n"
