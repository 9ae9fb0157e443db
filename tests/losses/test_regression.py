from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from lossmith.losses.regression import (
    absolute_error,
    epsilon_insensitive,
    huber,
    pinball,
    squared_error,
)


def random(seed: int, *shape: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64).requires_grad_()


def assert_same(ours: Tensor, theirs: Tensor, x: Tensor) -> None:
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)
    gradients = [
        torch.autograd.grad(value.sum(), x, retain_graph=True)[0] for value in (ours, theirs)
    ]
    torch.testing.assert_close(*gradients, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("power", [1, 2])
@pytest.mark.parametrize("epsilon", [0.0, 0.3, 1.5])
@pytest.mark.parametrize("seed", range(12))
def test_epsilon_insensitive_equals_a_loop(seed: int, epsilon: float, power: int) -> None:
    prediction, target = random(seed, 4, 3), random(seed + 100, 4, 3).detach()
    mask = random(seed + 200, 4, 3).detach() > -0.5
    weight = random(seed + 300, 4, 3).detach().exp()
    total, count = 0 * prediction.sum(), 0
    for i in range(4):
        for j in range(3):
            if mask[i, j]:
                error = prediction[i, j] - target[i, j]
                distance = error if error > 0 else -error
                if distance > epsilon:
                    total = total + weight[i, j] * (distance - epsilon) ** power
                count += 1
    ours = epsilon_insensitive(
        prediction, target, epsilon=epsilon, power=power, mask=mask, weight=weight
    )
    assert_same(ours, total / count, prediction)


def test_epsilon_insensitive_golden_values() -> None:
    prediction = torch.tensor([1.0, 2.5, -3.0], dtype=torch.float64)
    target = torch.tensor([1.4, 1.0, 1.0], dtype=torch.float64)
    value = epsilon_insensitive(prediction, target, epsilon=0.5)
    assert value.item() == pytest.approx((0 + (1.5 - 0.5) + (4 - 0.5)) / 3)
    value = epsilon_insensitive(prediction, target, epsilon=0.5, power=2)
    assert value.item() == pytest.approx((0 + (1.5 - 0.5) ** 2 + (4 - 0.5) ** 2) / 3)


def test_without_a_band_it_is_absolute_or_squared_error() -> None:
    prediction, target = random(1, 20), random(2, 20).detach()
    absolute = epsilon_insensitive(prediction, target, epsilon=0)
    assert_same(absolute, F.l1_loss(prediction, target), prediction)
    squared = epsilon_insensitive(prediction, target, epsilon=0, power=2)
    assert_same(squared, F.mse_loss(prediction, target), prediction)


@pytest.mark.parametrize("power", [1, 2])
@pytest.mark.parametrize("distance", [0.0, 0.2, -0.2, 0.5, -0.5])
def test_within_the_band_and_on_its_edge_nothing_pulls(distance: float, power: int) -> None:
    prediction = torch.tensor([distance], requires_grad=True)
    value = epsilon_insensitive(prediction, torch.zeros(1), epsilon=0.5, power=power)
    assert value.item() == 0.0
    assert torch.autograd.grad(value, prediction)[0].item() == 0.0


def test_outside_the_band_the_pull_is_towards_the_target() -> None:
    prediction = torch.tensor([3.0, -3.0], requires_grad=True)
    for power, pull in ((1, 1.0), (2, 5.0)):
        value = epsilon_insensitive(
            prediction, torch.zeros(2), epsilon=0.5, power=power, reduction="sum"
        )
        assert torch.autograd.grad(value, prediction)[0].tolist() == [pull, -pull]


def test_huge_errors_stay_finite() -> None:
    prediction = torch.tensor([1e30, -1e30], requires_grad=True)
    value = epsilon_insensitive(prediction, torch.zeros(2), epsilon=0.5, reduction="none")
    assert value.tolist() == pytest.approx([1e30, 1e30])
    assert torch.autograd.grad(value.sum(), prediction)[0].tolist() == [1.0, -1.0]


def test_whole_numbers_are_targets_too() -> None:
    prediction, target = random(3, 5), torch.tensor([0, 1, -2, 3, 4])
    expected = epsilon_insensitive(prediction, target.double(), epsilon=0.1)
    assert torch.equal(epsilon_insensitive(prediction, target, epsilon=0.1), expected)


def test_a_missing_target_is_left_out_with_a_mask() -> None:
    prediction, target = random(4, 3), torch.tensor([0.0, math.nan, 1.0]).double()
    value = epsilon_insensitive(prediction, target, epsilon=0.1, mask=~target.isnan())
    kept = epsilon_insensitive(prediction[::2], target[::2], epsilon=0.1)
    assert_same(value, kept, prediction)


# ---------------------------------------------------------------------------- the standard ones


def squared_loop(e: Tensor) -> Tensor:
    return e * e


def absolute_loop(e: Tensor) -> Tensor:
    return e if e > 0 else -e


def huber_loop(e: Tensor, delta: float) -> Tensor:
    distance = absolute_loop(e)
    return distance * distance / 2 if distance <= delta else delta * (distance - delta / 2)


def pinball_loop(e: Tensor, q: float) -> Tensor:
    short = -e  # how far the prediction is below the target
    return q * short if short > 0 else (q - 1) * short


STANDARD = [
    (squared_error, squared_loop, {}),
    (absolute_error, absolute_loop, {}),
    *[(huber, lambda e, d=d: huber_loop(e, d), {"delta": d}) for d in (0.2, 1.0, 5.0)],
    *[(pinball, lambda e, q=q: pinball_loop(e, q), {"quantile": q}) for q in (0.0, 0.1, 0.5, 0.9)],
]
standard = pytest.mark.parametrize(("function", "loop", "knobs"), STANDARD)


@standard
@pytest.mark.parametrize("seed", range(4))
def test_each_equals_a_loop(function, loop, knobs, seed: int) -> None:
    prediction, target = random(seed, 4, 3), random(seed + 100, 4, 3).detach()
    mask = random(seed + 200, 4, 3).detach() > -0.5
    weight = random(seed + 300, 4, 3).detach().exp()
    total, count = 0 * prediction.sum(), 0
    for i in range(4):
        for j in range(3):
            if mask[i, j]:
                total = total + weight[i, j] * loop(prediction[i, j] - target[i, j])
                count += 1
    ours = function(prediction, target, mask=mask, weight=weight, **knobs)
    assert_same(ours, total / count, prediction)


def test_each_equals_torch_and_its_limit_case() -> None:
    prediction, target = random(1, 20), random(2, 20).detach()
    squared, absolute = squared_error(prediction, target), absolute_error(prediction, target)
    assert_same(squared, F.mse_loss(prediction, target), prediction)
    assert_same(squared, epsilon_insensitive(prediction, target, epsilon=0, power=2), prediction)
    assert_same(absolute, F.l1_loss(prediction, target), prediction)
    assert_same(absolute, epsilon_insensitive(prediction, target, epsilon=0), prediction)
    for delta in (0.3, 1.0):
        ours = huber(prediction, target, delta=delta)
        assert_same(ours, F.huber_loss(prediction, target, delta=delta), prediction)
    assert_same(huber(prediction, target, delta=100.0), squared / 2, prediction)
    assert_same(huber(prediction, target, delta=1e-13) / 1e-13, absolute, prediction)
    assert_same(pinball(prediction, target), absolute / 2, prediction)


def test_golden_values_of_the_standard_ones() -> None:
    prediction = torch.tensor([1.0, 5.0], dtype=torch.float64)
    target = torch.tensor([2.0, 2.0], dtype=torch.float64)  # errors -1 and 3
    assert squared_error(prediction, target).item() == (1 + 9) / 2
    assert absolute_error(prediction, target).item() == (1 + 3) / 2
    assert huber(prediction, target, delta=2.0).item() == (1 / 2 + 2 * (3 - 2 / 2)) / 2
    value = pinball(prediction, target, quantile=0.75)
    assert value.item() == (0.75 * 1 + 0.25 * 3) / 2


def test_the_minimum_of_pinball_is_the_quantile() -> None:
    target = torch.arange(101.0, dtype=torch.float64)
    grid = torch.arange(0.0, 100.5, 0.5, dtype=torch.float64)
    for q, expected in ((0.1, 10.0), (0.5, 50.0), (0.9, 90.0)):
        costs = [pinball(x.expand(101), target, quantile=q) for x in grid]
        assert grid[int(torch.stack(costs).argmin())] == expected


@standard
def test_at_the_target_nothing_pulls(function, loop, knobs) -> None:
    prediction = torch.tensor([2.0], requires_grad=True)
    value = function(prediction, torch.tensor([2.0]), **knobs)
    assert value.item() == 0.0
    assert torch.autograd.grad(value, prediction)[0].item() == 0.0


def test_a_huge_error_has_a_bounded_pull_under_huber_and_pinball() -> None:
    prediction = torch.tensor([1e30, -1e30], requires_grad=True)
    for function, knobs, pulls in (
        (huber, {"delta": 2.0}, [2.0, -2.0]),
        (pinball, {"quantile": 0.9}, [0.1, -0.9]),
        (absolute_error, {}, [1.0, -1.0]),
    ):
        value = function(prediction, torch.zeros(2), reduction="sum", **knobs)
        assert value.isfinite()
        assert torch.autograd.grad(value, prediction)[0].tolist() == pytest.approx(pulls)


def test_errors_of_the_standard_ones_say_what_and_where() -> None:
    for function, _, knobs in STANDARD:
        with pytest.raises(ValueError, match=r"prediction \(4, 1\) and target \(4,\).*squeeze"):
            function(torch.zeros(4, 1), torch.zeros(4), **knobs)
        with pytest.raises(ValueError, match=r"target\[1\] is inf; expected a finite number"):
            function(torch.zeros(2), torch.tensor([0.0, math.inf]), **knobs)
    with pytest.raises(ValueError, match=r"delta must lie in \(0, inf\); got 0"):
        huber(torch.zeros(2), torch.zeros(2), delta=0)
    with pytest.raises(ValueError, match=r"quantile must lie in \[0, 1\]; got 1\.5"):
        pinball(torch.zeros(2), torch.zeros(2), quantile=1.5)


def test_gradients_pass_gradcheck() -> None:
    target = random(6, 8).detach()
    for power in (1, 2):
        assert torch.autograd.gradcheck(
            lambda x, power=power: epsilon_insensitive(x, target, epsilon=0.3, power=power),
            (random(5, 8),),
        )


def test_errors_say_what_and_where() -> None:
    with pytest.raises(ValueError, match=r"prediction \(4, 1\) and target \(4,\).*squeeze"):
        epsilon_insensitive(torch.zeros(4, 1), torch.zeros(4), epsilon=0.1)
    with pytest.raises(ValueError, match=r"target\[1\] is nan; expected a finite number; .*mask="):
        epsilon_insensitive(torch.zeros(2), torch.tensor([0.0, math.nan]), epsilon=0.1)
    with pytest.raises(ValueError, match=r"epsilon must lie in \[0, inf\); got -0\.1"):
        epsilon_insensitive(torch.zeros(2), torch.zeros(2), epsilon=-0.1)
    with pytest.raises(ValueError, match=r"power=3 is not a choice; expected one of 1, 2"):
        epsilon_insensitive(torch.zeros(2), torch.zeros(2), epsilon=0.1, power=3)
    with pytest.raises(TypeError, match=r"prediction must be floating point.*prediction\.float"):
        epsilon_insensitive(torch.zeros(2, dtype=torch.long), torch.zeros(2), epsilon=0.1)
