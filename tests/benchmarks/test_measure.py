"""Interleaving, and what becomes of a contender that fails."""

from __future__ import annotations

from typing import Any

from benchmarks.measure import Effort, interleave, machine, rounds

EFFORT = Effort(most=6, least=3, seconds=10.0, timeout=1.0)


class Scripted:
    """Answers from a list; the last one again and again."""

    def __init__(self, log: list[str], *answers: dict[str, Any]) -> None:
        self.log, self.answers = log, list(answers)

    def run(self, contender: str, timeout: float) -> dict[str, Any]:
        self.log.append(contender)
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


def took(seconds: float) -> dict[str, Any]:
    return {"wall": seconds, "cpu": 2 * seconds, "value": 0.5}


def test_every_round_has_every_name_once_in_a_shuffled_repeatable_order() -> None:
    found = list(rounds(["a", "b", "c"], 20, seed=0))
    assert all(sorted(one) == ["a", "b", "c"] for one in found)
    assert len({tuple(one) for one in found}) > 3
    assert found == list(rounds(["a", "b", "c"], 20, seed=0))
    assert found != list(rounds(["a", "b", "c"], 20, seed=1))


def test_single_runs_take_turns_after_one_run_that_is_not_kept() -> None:
    log: list[str] = []
    racing = {name: Scripted(log, took(9.0), took(1.0)) for name in "ab"}
    found = interleave(racing, EFFORT)
    assert log[:2] == ["a", "b"]
    turns = log[2:]
    assert all(sorted(turns[i : i + 2]) == ["a", "b"] for i in range(0, len(turns), 2))
    assert found["a"] == {"wall": [1.0] * 6, "cpu": [2.0] * 6, "value": 0.5}


def test_a_slow_contender_sits_out_once_its_budget_is_spent() -> None:
    log: list[str] = []
    racing = {"slow": Scripted(log, took(4.0)), "fast": Scripted(log, took(0.1))}
    found = interleave(racing, EFFORT)
    assert found["slow"]["wall"] == [4.0, 4.0, 4.0, None, None, None]
    assert found["fast"]["wall"] == [0.1] * 6


def test_it_stops_when_everybody_has_spent_the_budget() -> None:
    log: list[str] = []
    found = interleave({"slow": Scripted(log, took(4.0))}, EFFORT)
    assert found["slow"]["wall"] == [4.0] * 3


def test_a_failure_is_kept_and_the_others_go_on() -> None:
    log: list[str] = []
    racing = {
        "never": Scripted(log, {"error": "MemoryError: no"}),
        "once": Scripted(log, took(1.0), took(1.0), {"error": "killed"}),
        "absent": Scripted(log, {"unavailable": "no such data"}),
        "good": Scripted(log, took(1.0)),
    }
    found = interleave(racing, EFFORT)
    assert found["never"]["error"] == "MemoryError: no"
    assert found["never"]["wall"] == []
    assert found["once"]["error"] == "killed"
    assert found["once"]["wall"] == [1.0, None, None, None, None, None]
    assert found["absent"]["error"] == "no such data"
    assert found["good"]["wall"] == [1.0] * 6
    assert log.count("never") == 1
    assert log.count("once") == 3


def test_the_machine_is_named() -> None:
    found = machine()
    assert found["processor"]
    assert found["cores"] >= 1
