from __future__ import annotations

import math

import pytest
import torch
from sklearn.metrics import mean_absolute_error, mean_squared_error, r2_score

from lossmith.core.metric import find_metric
from lossmith.metrics.regression import mae, r2, rmse, within

METRICS = [find_metric(name, "regression") for name in ("mae", "rmse", "r2", "within@0.5")]


@pytest.mark.parametrize("seed", range(6))
def test_each_equals_scikit_learn_and_a_plain_loop(seed):
    generator = torch.Generator().manual_seed(seed)
    prediction = torch.randn(40, generator=generator)
    target = prediction + torch.randn(40, generator=generator) + 5
    x, y = prediction.double().numpy(), target.double().numpy()
    assert mae(prediction, target).item() == pytest.approx(mean_absolute_error(y, x), rel=1e-12)
    expected = math.sqrt(mean_squared_error(y, x))
    assert rmse(prediction, target).item() == pytest.approx(expected, rel=1e-12)
    assert r2(prediction, target).item() == pytest.approx(r2_score(y, x), rel=1e-12)
    near = [abs(a - b) <= 5 for a, b in zip(x.tolist(), y.tolist(), strict=True)]
    assert 0 < sum(near) < 40
    assert within(prediction, target, band=5.0).item() == sum(near) / 40


def test_r2_is_1_for_the_targets_and_0_for_their_mean():
    target = torch.tensor([1.0, 2.0, 6.0])
    assert r2(target, target).item() == 1
    assert r2(torch.full((3,), 3.0), target).item() == 0
    assert r2(target.flip(0), target).item() < 0


def test_an_error_of_exactly_the_band_is_within_it():
    prediction, target = torch.tensor([1.0, 1.0]), torch.tensor([1.5, 1.75])
    assert within(prediction, target, band=0.5).item() == 1 / 2
    assert within(target, target, band=0.0).item() == 1


def test_what_has_no_answer_is_nan():
    for metric in METRICS:
        assert metric.function(torch.zeros(0), torch.zeros(0)).isnan()
    assert r2(torch.tensor([1.0, 2.0]), torch.tensor([3.0, 3.0])).isnan()


def test_large_numbers_of_single_precision_do_not_overflow():
    prediction, target = torch.tensor([3e30, 0.0]), torch.tensor([0.0, 4e30])
    assert rmse(prediction, target).item() == pytest.approx(math.sqrt(12.5) * 1e30)


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)
@pytest.mark.parametrize(
    ("prediction", "target", "message"),
    [
        (torch.zeros(3, 1), torch.zeros(3), r"prediction \(3, 1\) and target \(3,\).*squeeze"),
        (torch.zeros(3, 1), torch.zeros(3, 1), r"prediction \(3, 1\) must be \[N\]"),
        (torch.tensor([math.nan]), torch.zeros(1), r"prediction\[0\] is nan; expected a number"),
        (torch.zeros(1), torch.tensor([math.inf]), r"target\[0\] is inf; expected a finite"),
    ],
)
def test_errors_say_what_was_wrong(metric, prediction, target, message):
    with pytest.raises(ValueError, match=message):
        metric.function(prediction, target)
