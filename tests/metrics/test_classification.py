import math

import pytest
import torch
from sklearn.metrics import accuracy_score, f1_score
from sklearn.metrics import log_loss as sklearn_log_loss

from lossmith.metrics.classification import accuracy, calibration, log_loss, macro_f1

ALL = [accuracy, macro_f1, log_loss, calibration]


def random_case(seed, classes=4, examples=60, dtype=torch.float64):
    """Logits with ties (rounded to halves) and targets that may leave a class out."""
    generator = torch.Generator().manual_seed(seed)
    logits = (torch.randn(examples, classes, generator=generator) * 4).round() / 2
    target = torch.randint(0, classes - seed % 2, (examples,), generator=generator)
    return logits.to(dtype), target


def first_argmax(row):
    return max(range(len(row)), key=lambda c: (row[c], -c))


def looped_calibration(probabilities, target):
    bins = [[] for _ in range(15)]
    for row, label in zip(probabilities, target, strict=True):
        confidence, predicted = max(row), first_argmax(row)
        place = next(b for b in range(15) if confidence <= (b + 1) / 15)
        bins[place].append((confidence, float(predicted == label)))
    error = 0.0
    for held in bins:
        if held:
            confidence = sum(c for c, _ in held) / len(held)
            right = sum(r for _, r in held) / len(held)
            error += len(held) / len(target) * abs(right - confidence)
    return error


@pytest.mark.parametrize("seed", range(10))
def test_equal_to_scikit_learn(seed):
    logits, target = random_case(seed)
    predicted = [first_argmax(row) for row in logits.tolist()]
    probabilities = logits.softmax(-1).numpy()
    labels = list(range(logits.shape[1]))
    assert accuracy(logits, target).item() == pytest.approx(accuracy_score(target, predicted))
    expected = f1_score(target.numpy(), predicted, average="macro")
    assert macro_f1(logits, target).item() == pytest.approx(expected, rel=1e-12)
    expected = sklearn_log_loss(target.numpy(), probabilities, labels=labels)
    assert log_loss(logits, target).item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("seed", range(10))
def test_calibration_equals_a_plain_loop(seed):
    logits, target = random_case(seed, classes=2 + seed % 3)
    expected = looped_calibration(logits.softmax(-1).tolist(), target.tolist())
    assert calibration(logits, target).item() == pytest.approx(expected, rel=1e-12)


def test_calibration_bins_hold_their_upper_edge():
    # Confidence 0.6 = 9/15 closes bin 9; 0.61 opens bin 10. In one bin the two gaps would cancel.
    p = torch.tensor([0.6, 0.61], dtype=torch.float64)
    logits = torch.stack([torch.zeros(2, dtype=torch.float64), torch.logit(p)], -1)
    apart = (abs(1 - 0.6) + abs(0 - 0.61)) / 2
    assert calibration(logits, torch.tensor([1, 0])).item() == pytest.approx(apart)
    closed = torch.tensor([0.59, 0.6], dtype=torch.float64)
    logits = torch.logit(closed)
    together = abs((1 - 0.59) + (0 - 0.6)) / 2
    assert calibration(logits, torch.tensor([1, 0])).item() == pytest.approx(together)


def test_perfect_predictions_are_perfect():
    target = torch.tensor([0, 1, 2, 1])
    logits = 100.0 * torch.nn.functional.one_hot(target).double()
    assert accuracy(logits, target) == macro_f1(logits, target) == 1
    assert log_loss(logits, target) < 1e-40
    assert calibration(logits, target) == 0


@pytest.mark.parametrize("function", ALL)
@pytest.mark.parametrize("seed", range(4))
def test_binary_logits_are_the_two_column_form(function, seed):
    logits, target = random_case(seed, classes=2)
    x = logits[:, 1]
    columns = torch.stack([torch.zeros_like(x), x], -1)
    assert (x == 0).any()
    torch.testing.assert_close(function(x, target), function(columns, target), rtol=0, atol=0)
    as_floats = function(x, target.float())
    torch.testing.assert_close(as_floats, function(x, target), rtol=0, atol=0)


def test_the_binary_threshold_is_zero_and_zero_says_no():
    assert accuracy(torch.tensor([0.0, 1e-30, -1e-30]), torch.tensor([0, 1, 0])) == 1


def test_ties_go_to_the_lowest_class():
    logits = torch.tensor([[1.0, 1.0, 0.0], [0.0, 1.0, 1.0]])
    assert accuracy(logits, torch.tensor([0, 1])) == 1
    assert accuracy(logits, torch.tensor([1, 2])) == 0


def test_log_loss_of_a_sure_mistake_is_not_clipped():
    assert log_loss(torch.tensor([-1000.0]), torch.tensor([1])) == 1000
    assert log_loss(torch.zeros(3, 5), torch.tensor([0, 1, 2])).item() == pytest.approx(math.log(5))


def test_a_class_neither_true_nor_predicted_is_left_out_of_macro_f1():
    logits = torch.tensor([[5.0, 0.0, 0.0, 0.0], [0.0, 5.0, 0.0, 0.0]])
    assert macro_f1(logits, torch.tensor([0, 1])) == 1
    # Class 2 is true and never predicted: it counts with 0, beside 1 and 0 (class 1 is wrong).
    assert macro_f1(logits, torch.tensor([0, 2])).item() == pytest.approx((1 + 0 + 0) / 3)


@pytest.mark.parametrize("function", ALL)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_lower_precision_is_computed_in_float64(function, dtype):
    logits, target = random_case(3, dtype=dtype)
    value = function(logits, target)
    assert value.dtype == torch.float64
    torch.testing.assert_close(value, function(logits.double(), target), rtol=0, atol=0)


@pytest.mark.parametrize("function", ALL)
def test_nothing_to_judge_is_nan(function):
    assert function(torch.zeros(0, 3), torch.zeros(0, dtype=torch.long)).isnan()
    assert function(torch.zeros(0), torch.zeros(0)).isnan()


@pytest.mark.parametrize("function", ALL)
@pytest.mark.parametrize(
    ("logits", "target", "message"),
    [
        (torch.zeros(2, 1), torch.tensor([0, 1]), r"logits \(2, 1\) .* Try logits.squeeze\(-1\)"),
        (torch.zeros(2, 3, 4), torch.zeros(2, 3), r"logits \(2, 3, 4\) must be \[N\] .*\[N, C\]"),
        (torch.zeros(2, 3), torch.zeros(3), r"target \(3,\) must have the shape of logits \(2, 3"),
        (torch.zeros(2), torch.zeros(2, 1), r"logits \(2,\) and target \(2, 1\)"),
        (torch.zeros(2, 3), torch.tensor([0, 3]), r"target\[1\] is 3; expected a class index"),
        (torch.zeros(2), torch.tensor([0.0, 0.5]), r"target\[1\] is 0.5; expected 0 or 1"),
        (torch.tensor([0.0, math.nan]), torch.zeros(2), r"logits\[1\] is nan; expected a number"),
    ],
)
def test_errors_say_what_was_wrong(function, logits, target, message):
    with pytest.raises(ValueError, match=message):
        function(logits, target)


def test_integer_logits_are_refused():
    with pytest.raises(TypeError, match="logits must be floating point"):
        accuracy(torch.tensor([1, 0]), torch.tensor([1, 0]))
