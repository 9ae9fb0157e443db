"""What a child does, in this process, on a case that costs nothing."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from benchmarks.case import Case, Contender, Inputs, Size, UnavailableError
from benchmarks.registry import load_cases
from benchmarks.worker import Bench, answer


def inputs(size: Size) -> Inputs:
    if size["n"] == 13:
        raise UnavailableError("no thirteen here")
    return {"x": torch.ones(size["n"], requires_grad=True)}


def double(given: Inputs) -> Any:
    value = (2 * given["x"]).sum()
    value.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
    return value


def fail(given: Inputs) -> Any:
    raise RuntimeError("first line\nsecond line")


CASE = Case(
    name="fake",
    target="none",
    inputs=inputs,
    contenders={
        "lossmith": Contender(double),
        "prepared": Contender(lambda model: model(2.0), prepare=lambda given: lambda x: 3 * x),
        "broken": Contender(fail),
    },
    sizes=({"n": 2}, {"n": 3}),
    floor=lambda given: given["x"].detach().sum(),
)


@pytest.fixture
def bench() -> Bench:
    made = Bench(CASE)
    assert answer(made, {"do": "size", "size": {"n": 3}}) == {}
    return made


def run(bench: Bench, contender: str) -> dict[str, Any]:
    return answer(bench, {"do": "run", "contender": contender})


def test_a_run_is_timed_and_its_value_told(bench: Bench) -> None:
    found = run(bench, "lossmith")
    assert found["value"] == 6.0
    assert found["wall"] >= 0
    assert found["cpu"] >= 0
    assert run(bench, "prepared")["value"] == 6.0
    assert run(bench, "floor")["value"] == 3.0


def test_gradients_do_not_pile_up(bench: Bench) -> None:
    run(bench, "lossmith")
    run(bench, "lossmith")
    gradient = bench.inputs["x"].grad
    assert gradient is not None
    assert gradient.tolist() == [2.0, 2.0, 2.0]


def test_a_failure_is_an_answer(bench: Bench) -> None:
    assert run(bench, "broken") == {"error": "RuntimeError: first line"}
    assert run(bench, "nobody") == {"error": "KeyError: 'nobody'"}
    found = answer(bench, {"do": "size", "size": {"n": 13}})
    assert found == {"unavailable": "no thirteen here"}


@pytest.mark.parametrize("n", [2, 3])
def test_memory_is_above_the_inputs(bench: Bench, n: int) -> None:
    found = answer(bench, {"do": "memory", "contender": "lossmith", "size": {"n": n}})
    assert found["gradients"] == pytest.approx(n * 4 / 2**20)
    assert found["memory"] is None or 0 <= found["memory"] < 100


def test_every_case_is_sound() -> None:
    for name, case in load_cases().items():
        assert case.sizes, name
        assert case.target, name
        assert any(one.split()[0] == "lossmith" for one in case.contenders), name
        assert all(size.keys() == case.sizes[0].keys() for size in case.sizes), name
