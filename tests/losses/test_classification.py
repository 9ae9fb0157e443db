from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import pytest
import sklearn.metrics
import torch
import torch.nn.functional as F
from torch import Tensor

from lossmith.losses.classification import (
    binary_cross_entropy,
    cross_entropy,
    hinge,
    kl_divergence,
    margin_binary_cross_entropy,
    margin_cross_entropy,
)

exp, log, inf = math.exp, math.log, math.inf
SEEDS = range(12)


def random(seed: int, *shape: int, scale: float = 3.0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return (scale * torch.randn(*shape, generator=generator, dtype=torch.float64)).requires_grad_()


def whole(seed: int, low: int, high: int, *shape: int) -> Tensor:
    return torch.randint(low, high, shape, generator=torch.Generator().manual_seed(1000 + seed))


def uniform(seed: int, *shape: int) -> Tensor:
    generator = torch.Generator().manual_seed(2000 + seed)
    return torch.rand(*shape, generator=generator, dtype=torch.float64)


def assert_same(ours: Tensor, theirs: Tensor, x: Tensor, tolerance: float = 1e-10) -> None:
    """Equal values and equal gradients at x (for several values, of their weighted sum)."""
    torch.testing.assert_close(ours, theirs, rtol=tolerance, atol=tolerance)
    direction = torch.arange(1.0, ours.numel() + 1, dtype=ours.dtype).reshape(ours.shape)
    (our_gradient,) = torch.autograd.grad((ours * direction).sum(), x, retain_graph=True)
    (their_gradient,) = torch.autograd.grad((theirs * direction).sum(), x, retain_graph=True)
    torch.testing.assert_close(our_gradient, their_gradient, rtol=tolerance, atol=tolerance)


def gradient(value: Tensor, x: Tensor) -> Tensor:
    return torch.autograd.grad(value.sum(), x)[0]


def loop_log_softmax(row: Tensor) -> list[Tensor]:
    total = sum((x.exp() for x in row), torch.zeros((), dtype=row.dtype))
    return [(x.exp() / total).log() for x in row]


# cross_entropy


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("ignore_index", [-100, 2])
@pytest.mark.parametrize("label_smoothing", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("weighted", [False, True])
def test_cross_entropy_of_classes_equals_torch(
    weighted: bool, label_smoothing: float, ignore_index: int, reduction: str
) -> None:
    logits, target = random(1, 9, 4), whole(1, 0, 4, 9)
    target[3] = ignore_index
    knobs = {
        "label_smoothing": label_smoothing,
        "ignore_index": ignore_index,
        "reduction": reduction,
    }
    class_weight = uniform(1, 4) if weighted else None
    ours = cross_entropy(logits, target, class_weight=class_weight, **knobs)
    assert_same(ours, F.cross_entropy(logits, target, weight=class_weight, **knobs), logits)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("label_smoothing", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("weighted", [False, True])
def test_cross_entropy_of_probabilities_equals_torch(
    weighted: bool, label_smoothing: float, reduction: str
) -> None:
    logits, target = random(2, 9, 4), random(3, 9, 4).detach().softmax(-1)
    target[0] = torch.tensor([0.0, 1.0, 0.0, 0.0])
    knobs = {"label_smoothing": label_smoothing, "reduction": reduction}
    class_weight = uniform(2, 4) if weighted else None
    ours = cross_entropy(logits, target, class_weight=class_weight, **knobs)
    assert_same(ours, F.cross_entropy(logits, target, weight=class_weight, **knobs), logits)


@pytest.mark.parametrize("seed", SEEDS)
def test_cross_entropy_equals_a_loop(seed: int) -> None:
    logits, target = random(seed, 6, 3), whole(seed, 0, 3, 6)
    mask, weight, class_weight = uniform(seed, 6) > 0.3, uniform(seed + 1, 6), uniform(seed + 2, 3)
    total, count = torch.zeros((), dtype=torch.float64), 0.0
    for i, y in enumerate(target.tolist()):
        if not mask[i]:
            continue
        log_p = loop_log_softmax(logits[i])
        q = [0.8 * (c == y) + 0.2 / 3 for c in range(3)]
        total = total - weight[i] * sum(q[c] * class_weight[c] * log_p[c] for c in range(3))
        count += float(class_weight[y])
    value = cross_entropy(
        logits,
        target,
        class_weight=class_weight,
        label_smoothing=0.2,
        mask=mask,
        weight=weight,
    )
    assert_same(value, total / count, logits)


def test_cross_entropy_golden_values() -> None:
    logits = torch.tensor([[0.0, 1.0, 3.0], [2.0, 0.0, 0.0]], dtype=torch.float64)
    first, second = exp(0) + exp(1) + exp(3), exp(2) + 2
    value = cross_entropy(logits, torch.tensor([1, 0]))
    assert value.item() == pytest.approx(-(log(exp(1) / first) + log(exp(2) / second)) / 2)
    value = cross_entropy(logits, torch.tensor([1, 0]), class_weight=torch.tensor([3.0, 1.0, 1.0]))
    assert value.item() == pytest.approx(-(log(exp(1) / first) + 3 * log(exp(2) / second)) / 4)
    value = cross_entropy(logits[:1], torch.tensor([[0.25, 0.0, 0.75]], dtype=torch.float64))
    assert value.item() == pytest.approx(-(0.25 * log(1 / first) + 0.75 * log(exp(3) / first)))


def test_cross_entropy_of_two_classes_is_binary_cross_entropy() -> None:
    x, target = random(4, 7), whole(4, 0, 2, 7)
    two = torch.stack([torch.zeros_like(x), x], dim=-1)
    assert_same(cross_entropy(two, target), binary_cross_entropy(x, target), x)


def test_cross_entropy_takes_any_leading_dimensions() -> None:
    logits, target = random(5, 2, 3, 4), whole(5, 0, 4, 2, 3)
    flat = F.cross_entropy(logits.reshape(6, 4), target.reshape(6), reduction="none")
    assert_same(cross_entropy(logits, target, reduction="none"), flat.reshape(2, 3), logits)
    assert_same(cross_entropy(logits[0, 0], target[0, 0]), flat[0], logits)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int8, torch.int16, torch.int32])
def test_class_indices_may_be_of_any_integer_type(dtype: torch.dtype) -> None:
    logits, target = random(6, 4, 3), torch.tensor([2, 0, 1, 2])
    mask = torch.tensor([True, False, True, True])
    for loss in (cross_entropy, margin_cross_entropy, hinge):
        expected = loss(logits, target, mask=mask)
        assert torch.equal(loss(logits, target.to(dtype), mask=mask), expected)


@pytest.mark.parametrize("class_weight", [None, [1.0, 0.0, 2.0], [1.0, 3.0, 2.0]])
def test_an_impossible_class_costs_nothing(class_weight: list[float] | None) -> None:
    logits = torch.tensor([[0.5, -inf, 1.0], [2.0, -inf, 0.0]], requires_grad=True)
    weights = None if class_weight is None else torch.tensor(class_weight)
    value = cross_entropy(logits, torch.tensor([0, 2]), class_weight=weights)
    without = cross_entropy(
        logits[:, ::2], torch.tensor([0, 1]), class_weight=None if weights is None else weights[::2]
    )
    assert_same(value, without, logits, tolerance=1e-6)
    assert gradient(value, logits)[:, 1].tolist() == [0.0, 0.0]
    soft = torch.tensor([[0.25, 0.0, 0.75], [1.0, 0.0, 0.0]], requires_grad=True)
    for loss in (cross_entropy, kl_divergence):
        value = loss(logits, soft)
        reached = torch.autograd.grad(value, (logits, soft))
        assert all(tensor.isfinite().all() for tensor in (value, *reached))


def test_an_impossible_class_of_weight_zero_takes_part_in_no_smoothing() -> None:
    logits = torch.tensor([[0.0, -inf, 0.0]], requires_grad=True)
    weights = torch.tensor([1.0, 0.0, 1.0])
    value = cross_entropy(logits, torch.tensor([0]), class_weight=weights, label_smoothing=0.3)
    assert value.item() == pytest.approx(0.7 * log(2) + 0.3 * 2 * log(2) / 3)
    assert gradient(value, logits).isfinite().all()
    both = cross_entropy(logits, torch.tensor([1]), class_weight=weights)
    assert both.item() == 0.0


def test_smoothing_over_an_impossible_class_is_infinite_and_never_nan() -> None:
    logits = torch.tensor([[0.0, -inf, 0.0]], requires_grad=True)
    value = cross_entropy(logits, torch.tensor([0]), label_smoothing=0.3)
    assert value.item() == inf
    assert gradient(value, logits).isfinite().all()


def test_class_weights_divide_the_mean_by_the_weights_that_count() -> None:
    logits, target = random(7, 3, 2), torch.tensor([0, 1, 1])
    mask = torch.tensor([True, True, False])
    value = cross_entropy(logits, target, class_weight=torch.tensor([3.0, 0.5]), mask=mask)
    each = cross_entropy(logits, target, reduction="none")
    assert_same(value, (3.0 * each[0] + 0.5 * each[1]) / 3.5, logits)
    ignored = target.where(mask, -100)
    assert_same(
        value, cross_entropy(logits, ignored, class_weight=torch.tensor([3.0, 0.5])), logits
    )


def test_cross_entropy_errors_say_what_and_where() -> None:
    logits = torch.zeros(2, 3)
    with pytest.raises(ValueError, match=r"target\[1\] is 3; expected a class index in \[0, 2\]"):
        cross_entropy(logits, torch.tensor([0, 3]))
    with pytest.raises(TypeError, match=r"class indices of an integer type.*target\.long\(\)"):
        cross_entropy(logits, torch.tensor([0.0, 1.0]))
    with pytest.raises(ValueError, match=r"target \(3,\) must have the shape of logits \(2, 3\)"):
        cross_entropy(logits, torch.tensor([0, 1, 2]))
    with pytest.raises(ValueError, match=r"target\.sum\(-1\)\[1\] is 1\.5; expected 1"):
        cross_entropy(logits, torch.tensor([[1.0, 0.0, 0.0], [1.0, 0.5, 0.0]]))
    with pytest.raises(ValueError, match=r"target\[0, 1\] is -0\.5; expected a probability"):
        cross_entropy(logits, torch.tensor([[1.0, -0.5, 0.5], [1.0, 0.0, 0.0]]))
    with pytest.raises(ValueError, match=r"class_weight \(2,\) must be .* \(3,\) for logits"):
        cross_entropy(logits, torch.tensor([0, 1]), class_weight=torch.ones(2))
    with pytest.raises(ValueError, match=r"class_weight\[1\] is -1; expected a weight"):
        cross_entropy(logits, torch.tensor([0, 1]), class_weight=torch.tensor([1.0, -1.0, 1.0]))
    with pytest.raises(ValueError, match=r"label_smoothing must lie in \[0, 1\]; got 2"):
        cross_entropy(logits, torch.tensor([0, 1]), label_smoothing=2)


# kl_divergence


@pytest.mark.parametrize(("reduction", "torchs"), [("mean", "batchmean"), ("sum", "sum")])
def test_kl_divergence_equals_torch(reduction: str, torchs: str) -> None:
    logits, t = random(8, 5, 4), random(9, 5, 4).detach().softmax(-1)
    t[2] = torch.tensor([0.5, 0.0, 0.5, 0.0])
    theirs = F.kl_div(logits.log_softmax(-1), t, reduction=torchs)
    assert_same(kl_divergence(logits, t, reduction=reduction), theirs, logits)


@pytest.mark.parametrize("seed", SEEDS)
def test_kl_divergence_equals_a_loop(seed: int) -> None:
    logits, t = random(seed, 5, 3), random(seed + 100, 5, 3).detach().softmax(-1)
    t[0] = torch.tensor([0.0, 1.0, 0.0])
    mask, weight = uniform(seed, 5) > 0.3, uniform(seed + 1, 5)
    rows = []
    for i in range(5):
        log_p = loop_log_softmax(logits[i])
        terms = [t[i, c] * (log(t[i, c]) - log_p[c]) for c in range(3) if t[i, c] > 0]
        rows.append(sum(terms) * weight[i] * mask[i])
    ours = kl_divergence(logits, t, mask=mask, weight=weight, reduction="none")
    assert_same(ours, torch.stack(rows), logits)


def test_kl_divergence_is_nearly_zero_where_the_student_agrees() -> None:
    logits = random(10, 50, 1000).detach().float()
    assert kl_divergence(logits, logits.softmax(-1)).abs().item() < 1e-6


def test_kl_divergence_of_one_hot_targets_is_cross_entropy() -> None:
    logits, target = random(11, 6, 3), whole(11, 0, 3, 6)
    one_hot = F.one_hot(target, 3).double()
    assert_same(kl_divergence(logits, one_hot), cross_entropy(logits, target), logits)


def test_kl_divergence_reaches_the_teacher_too() -> None:
    logits, teacher = random(12, 4, 3), random(13, 4, 3)
    loss = kl_divergence(logits, teacher.softmax(-1))
    theirs = F.kl_div(logits.log_softmax(-1), teacher.softmax(-1), reduction="batchmean")
    assert_same(loss, theirs, teacher)


def test_kl_divergence_errors_say_what_and_where() -> None:
    with pytest.raises(ValueError, match=r"logits \(2, 3\) and target_probs \(3,\)"):
        kl_divergence(torch.zeros(2, 3), torch.ones(3) / 3)
    with pytest.raises(ValueError, match=r"target_probs\.sum\(-1\)\[0\] is 3; expected 1"):
        kl_divergence(torch.zeros(1, 3), torch.ones(1, 3))


# binary_cross_entropy


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("pos_weight", [None, 3.0, torch.tensor([0.5, 1.0, 4.0])])
def test_binary_cross_entropy_equals_torch(
    pos_weight: float | Tensor | None, reduction: str
) -> None:
    logits, target = random(14, 5, 3), uniform(14, 5, 3)
    target[0] = torch.tensor([0.0, 1.0, 1.0])
    as_tensor = None if pos_weight is None else torch.as_tensor(pos_weight)
    theirs = F.binary_cross_entropy_with_logits(
        logits, target, pos_weight=as_tensor, reduction=reduction
    )
    ours = binary_cross_entropy(logits, target, pos_weight=pos_weight, reduction=reduction)
    assert_same(ours, theirs, logits)


@pytest.mark.parametrize("seed", SEEDS)
def test_binary_cross_entropy_equals_a_loop(seed: int) -> None:
    logits, target = random(seed, 4, 2), uniform(seed, 4, 2)
    mask, weight = uniform(seed + 1, 4, 2) > 0.3, uniform(seed + 2, 4, 2)
    total, count = torch.zeros((), dtype=torch.float64), 0
    for i, j in itertools.product(range(4), range(2)):
        if mask[i, j]:
            p, y = 1 / (1 + (-logits[i, j]).exp()), target[i, j]
            total = total - weight[i, j] * (2.5 * y * p.log() + (1 - y) * (1 - p).log())
            count += 1
    ours = binary_cross_entropy(logits, target, pos_weight=2.5, mask=mask, weight=weight)
    assert_same(ours, total / count, logits)


def test_binary_cross_entropy_golden_values() -> None:
    logits = torch.tensor([2.0, -1.0], dtype=torch.float64)
    value = binary_cross_entropy(logits, torch.tensor([1, 1]), pos_weight=2.0)
    assert value.item() == pytest.approx((2 * log(1 + exp(-2)) + 2 * log(1 + exp(1))) / 2)


def test_binary_cross_entropy_reads_pos_weight_as_a_list_too() -> None:
    logits, target = random(15, 5, 3), uniform(15, 5, 3)
    listed = binary_cross_entropy(logits, target, pos_weight=[0.5, 1.0, 4.0])
    tensor = binary_cross_entropy(logits, target, pos_weight=torch.tensor([0.5, 1.0, 4.0]))
    assert torch.equal(listed, tensor)


def test_binary_cross_entropy_errors_say_what_and_where() -> None:
    with pytest.raises(ValueError, match=r"logits \(4, 1\) and target \(4,\).*logits\.squeeze"):
        binary_cross_entropy(torch.zeros(4, 1), torch.zeros(4))
    with pytest.raises(ValueError, match=r"target\[0, 1\] is -1; expected a label in \[0, 1\]"):
        binary_cross_entropy(torch.zeros(1, 2), torch.tensor([[0, -1]]))
    with pytest.raises(ValueError, match=r"target\[1\] is nan"):
        binary_cross_entropy(torch.zeros(2), torch.tensor([0.0, math.nan]))
    with pytest.raises(ValueError, match=r"pos_weight \(3, 1\) must be one number, or one for"):
        binary_cross_entropy(torch.zeros(3), torch.ones(3), pos_weight=torch.ones(3, 1))
    with pytest.raises(ValueError, match=r"pos_weight must lie in \(0, inf\); got 0"):
        binary_cross_entropy(torch.zeros(3), torch.ones(3), pos_weight=0)


# margin_binary_cross_entropy


def theta(x: float) -> float:
    return 0.5 if x == 0 else float(x > 0)


def loop_margin_binary(logits: Tensor, target: Tensor, m: float) -> Tensor:
    """Su's formula, a cell at a time, from probabilities."""
    costs = []
    for x, y in zip(logits.flatten(), target.flatten().tolist(), strict=True):
        p = 1 / (1 + (-x).exp())
        q = p.item()
        factor = 1 - theta(y - m) * theta(q - m) - theta(1 - m - y) * theta(1 - m - q)
        costs.append(-factor * (y * p.log() + (1 - y) * (1 - p).log()))
    return torch.stack(costs).reshape(logits.shape)


@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.parametrize("margin", [0.5, 0.6, 0.9, 1.0])
@pytest.mark.parametrize("seed", SEEDS)
def test_margin_binary_equals_the_published_formula(seed: int, margin: float, soft: bool) -> None:
    logits = random(seed, 5, 4)
    target = uniform(seed, 5, 4)
    target = target if soft else (target > 0.5).double()
    ours = margin_binary_cross_entropy(logits, target, margin=margin, reduction="none")
    assert_same(ours, loop_margin_binary(logits, target, margin), logits)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_theta_of_zero_is_one_half(dtype: torch.dtype) -> None:
    # At margin 1/2 a logit of 0 stands on the margin: half the cost, half the gradient.
    logits = torch.zeros(2, dtype=dtype, requires_grad=True)
    target = torch.tensor([1.0, 0.0], dtype=dtype)
    value = margin_binary_cross_entropy(logits, target, margin=0.5, reduction="none")
    torch.testing.assert_close(value, loop_margin_binary(logits, target, 0.5))
    assert value.tolist() == pytest.approx([log(2) / 2, log(2) / 2])
    assert gradient(value, logits).tolist() == [-0.25, 0.25]
    # A target on the margin is half a yes, so a safe yes keeps half its cost.
    half = margin_binary_cross_entropy(
        torch.full((1,), 2.0, dtype=dtype), torch.full((1,), 0.75, dtype=dtype), margin=0.75
    )
    whole_cost = 0.75 * log(1 + exp(-2)) + 0.25 * log(1 + exp(2))
    assert half.item() == pytest.approx(whole_cost / 2)


@pytest.mark.parametrize("margin", [0.6, 0.8])
def test_the_margin_jumps_by_minus_log_m_and_its_twin_does_not(margin: float) -> None:
    edge = log(margin / (1 - margin))
    logits = torch.tensor([edge - 1e-9, edge + 1e-9], dtype=torch.float64)
    for sign, target in ((1, torch.ones(2)), (-1, torch.zeros(2))):
        value = margin_binary_cross_entropy(
            sign * logits, target, margin=margin, reduction="none"
        ).tolist()
        assert value[0] - value[1] == pytest.approx(-log(margin), abs=1e-8)
        assert value[1] == 0.0
        twin = margin_binary_cross_entropy(
            sign * logits, target, margin=margin, continuous=True, reduction="none"
        )
        assert twin.tolist() == pytest.approx([0.0, 0.0], abs=1e-8)
        assert twin[1] == 0.0


@pytest.mark.parametrize("margin", [0.5, 0.6, 0.9, 1.0])
@pytest.mark.parametrize("seed", SEEDS)
def test_the_continuous_twin_has_the_same_gradient(seed: int, margin: float) -> None:
    logits, target = random(seed, 40), whole(seed, 0, 2, 40)
    with torch.no_grad():
        logits[0] = 0.0  # on the margin of 1/2
    plain = margin_binary_cross_entropy(logits, target, margin=margin, reduction="none")
    twin = margin_binary_cross_entropy(
        logits, target, margin=margin, continuous=True, reduction="none"
    )
    torch.testing.assert_close(gradient(twin, logits), gradient(plain, logits))
    own = torch.where(target > 0, logits, -logits).sigmoid()
    torch.testing.assert_close(twin, (log(margin) - own.log()).clamp(min=0.0))
    assert (twin >= 0).all()


@pytest.mark.parametrize("continuous", [False, True])
def test_margin_binary_stays_right_at_huge_logits(continuous: bool) -> None:
    logits = torch.tensor([1e4, -1e4, 1e4, -1e4], requires_grad=True)
    target = torch.tensor([0, 1, 1, 0])
    value = margin_binary_cross_entropy(
        logits, target, margin=0.6, continuous=continuous, reduction="none"
    )
    shift = log(0.6) if continuous else 0.0
    assert value.tolist() == pytest.approx([1e4 + shift, 1e4 + shift, 0.0, 0.0])
    assert gradient(value, logits).tolist() == [1.0, -1.0, 0.0, 0.0]


@pytest.mark.parametrize("continuous", [False, True])
def test_margin_binary_without_margin_is_binary_cross_entropy(continuous: bool) -> None:
    logits, target = random(16, 30), whole(16, 0, 2, 30)
    ours = margin_binary_cross_entropy(logits, target, margin=1.0, continuous=continuous)
    assert_same(ours, binary_cross_entropy(logits, target), logits)


def test_margin_binary_errors_say_what_and_where() -> None:
    with pytest.raises(ValueError, match=r"margin must lie in \[0\.5, 1\]; got 0\.4"):
        margin_binary_cross_entropy(torch.zeros(1), torch.zeros(1), margin=0.4)
    with pytest.raises(ValueError, match=r"target\[1\] is 0\.25; expected 0 or 1 \(continuous"):
        margin_binary_cross_entropy(torch.zeros(2), torch.tensor([1.0, 0.25]), continuous=True)
    with pytest.raises(ValueError, match=r"logits \(4,\) and target \(4, 1\)"):
        margin_binary_cross_entropy(torch.zeros(4), torch.zeros(4, 1))


# margin_cross_entropy


@pytest.mark.parametrize("continuous", [False, True])
@pytest.mark.parametrize("margin", [0.2, 0.6, 1.0])
@pytest.mark.parametrize("seed", SEEDS)
def test_margin_cross_entropy_equals_a_loop(seed: int, margin: float, continuous: bool) -> None:
    logits, target = random(seed, 8, 3), whole(seed, 0, 3, 8)
    target[0] = -100
    mask, weight = uniform(seed, 8) > 0.2, uniform(seed + 1, 8)
    total, count = torch.zeros((), dtype=torch.float64), 0
    for i, y in enumerate(target.tolist()):
        if y == -100 or not mask[i]:
            continue
        own = loop_log_softmax(logits[i])[y]
        cost = (log(margin) - own) if continuous else -own
        total = total + weight[i] * cost * (1 - theta(own.exp().item() - margin))
        count += 1
    ours = margin_cross_entropy(
        logits, target, margin=margin, continuous=continuous, mask=mask, weight=weight
    )
    assert_same(ours, total / max(count, 1), logits)


def test_margin_cross_entropy_golden_values() -> None:
    logits = torch.tensor([[0.0, 1.0, 0.0], [0.0, 4.0, 0.0]], dtype=torch.float64)
    target = torch.tensor([1, 1])
    value = margin_cross_entropy(logits, target, margin=0.6, reduction="none")
    assert value.tolist() == pytest.approx([-log(exp(1) / (exp(1) + 2)), 0.0])
    value = margin_cross_entropy(logits, target, margin=0.6, continuous=True, reduction="none")
    assert value.tolist() == pytest.approx([log(0.6) - log(exp(1) / (exp(1) + 2)), 0.0])


@pytest.mark.parametrize("continuous", [False, True])
def test_margin_cross_entropy_without_margin_is_cross_entropy(continuous: bool) -> None:
    logits, target = random(17, 30, 4), whole(17, 0, 4, 30)
    ours = margin_cross_entropy(logits, target, margin=1.0, continuous=continuous, reduction="none")
    assert_same(ours, cross_entropy(logits, target, reduction="none"), logits, tolerance=1e-15)


@pytest.mark.parametrize("continuous", [False, True])
def test_without_margin_a_probability_that_rounds_to_one_is_not_on_the_margin(
    continuous: bool,
) -> None:
    logits = torch.tensor([[20.0, 0.0, 0.0]], requires_grad=True)
    target = torch.tensor([0])
    assert cross_entropy(logits, target) == 0.0
    ours = margin_cross_entropy(logits, target, margin=1.0, continuous=continuous)
    assert_same(ours, cross_entropy(logits, target), logits, tolerance=1e-14)
    assert gradient(ours, logits)[0, 1] > 1e-9


@pytest.mark.parametrize("continuous", [False, True])
@pytest.mark.parametrize("margin", [0.5, 0.6, 0.95])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_margin_cross_entropy_of_two_classes_is_the_binary_form(
    dtype: torch.dtype, margin: float, continuous: bool
) -> None:
    x, target = random(18, 60).detach().to(dtype), whole(18, 0, 2, 60)
    x[0] = 0.0
    x.requires_grad_()
    two = torch.stack([torch.zeros_like(x), x], dim=-1)
    knobs = {"margin": margin, "continuous": continuous, "reduction": "none"}
    ours = margin_cross_entropy(two, target, **knobs)
    binary = margin_binary_cross_entropy(x, target, **knobs)
    assert_same(ours, binary, x, tolerance=1e-5 if dtype is torch.float32 else 1e-10)


def test_margin_cross_entropy_of_untrained_equal_logits_still_learns() -> None:
    for continuous in (False, True):
        logits = torch.zeros(1, 2, requires_grad=True)
        value = margin_cross_entropy(
            logits, torch.tensor([1]), margin=0.5, continuous=continuous, reduction="sum"
        )
        assert gradient(value, logits).tolist() == [[0.25, -0.25]]


def test_margin_cross_entropy_stays_right_at_huge_logits() -> None:
    logits = torch.tensor([[1e4, -1e4, -inf], [1e4, -1e4, -inf]], requires_grad=True)
    value = margin_cross_entropy(logits, torch.tensor([1, 0]), reduction="none")
    assert value.tolist() == [2e4, 0.0]
    assert gradient(value, logits).tolist() == [[1.0, -1.0, 0.0], [0.0, 0.0, 0.0]]


def test_margin_cross_entropy_errors_say_what_and_where() -> None:
    with pytest.raises(ValueError, match=r"margin must lie in \(0, 1\]; got 0"):
        margin_cross_entropy(torch.zeros(1, 2), torch.tensor([0]), margin=0)
    with pytest.raises(ValueError, match=r"target\[0\] is 2; expected a class index in \[0, 1\]"):
        margin_cross_entropy(torch.zeros(1, 2), torch.tensor([2]))
    with pytest.raises(TypeError, match=r"target\.long\(\)"):
        margin_cross_entropy(torch.zeros(1, 2), torch.tensor([1.0]))


# hinge


@pytest.mark.parametrize("seed", SEEDS)
def test_binary_hinge_equals_scikit_learn(seed: int) -> None:
    scores, zero_one = random(seed, 20), whole(seed, 0, 2, 20)
    zero_one[:2] = torch.tensor([0, 1])
    signs = 2 * zero_one - 1
    theirs = sklearn.metrics.hinge_loss(signs.numpy(), scores.detach().numpy())
    for target in (signs, zero_one, signs.float(), zero_one.bool()):
        assert hinge(scores, target).item() == pytest.approx(theirs, rel=1e-12)


@pytest.mark.parametrize("seed", SEEDS)
def test_multiclass_hinge_equals_scikit_learn(seed: int) -> None:
    scores, target = random(seed, 20, 4), whole(seed, 0, 4, 20)
    theirs = sklearn.metrics.hinge_loss(
        target.numpy(), scores.detach().numpy(), labels=[0, 1, 2, 3]
    )
    assert hinge(scores, target).item() == pytest.approx(theirs, rel=1e-12)


@pytest.mark.parametrize("power", [1, 2])
@pytest.mark.parametrize("seed", SEEDS)
def test_hinge_equals_a_loop(seed: int, power: int) -> None:
    scores, target = random(seed, 7, 3, scale=1.0), whole(seed, 0, 3, 7)
    mask, weight = uniform(seed, 7) > 0.3, uniform(seed + 1, 7)
    many, binary = [], []
    for i, y in enumerate(target.tolist()):
        others = torch.stack([scores[i, c] for c in range(3) if c != y])
        f, sign = scores[i, 0], 1 if y > 0 else -1
        many.append((1 - scores[i, y] + others.max()).clamp(min=0.0) ** power)
        binary.append((1 - sign * f).clamp(min=0.0) ** power)
    kept = {"mask": mask, "weight": weight, "power": power, "reduction": "none"}
    scale = weight * mask
    assert_same(hinge(scores, target, **kept), torch.stack(many) * scale, scores)
    assert_same(hinge(scores[:, 0], target > 0, **kept), torch.stack(binary) * scale, scores)


@pytest.mark.parametrize("power", [1, 2])
def test_hinge_of_two_classes_is_the_binary_form(power: int) -> None:
    f, target = random(19, 30), whole(19, 0, 2, 30)
    two = torch.stack([-f / 2, f / 2], dim=-1)
    assert_same(hinge(two, target, power=power), hinge(f, target, power=power), f)


def test_hinge_ties_share_the_gradient() -> None:
    scores = torch.zeros(1, 3, requires_grad=True)
    value = hinge(scores, torch.tensor([0]))
    assert value.item() == 1.0
    assert gradient(value, scores).tolist() == [[-1.0, 0.5, 0.5]]


def test_hinge_with_an_impossible_class_is_finite() -> None:
    scores = torch.tensor([[0.0, -inf, 0.5]], requires_grad=True)
    value = hinge(scores, torch.tensor([0]))
    assert value.item() == 1.5
    assert gradient(value, scores).tolist() == [[-1.0, 0.0, 1.0]]


def test_hinge_errors_say_what_and_where() -> None:
    with pytest.raises(ValueError, match=r"target\[0\] is -1; expected 0 or 1, as the batch also"):
        hinge(torch.zeros(2), torch.tensor([-1, 0]))
    with pytest.raises(ValueError, match=r"target\[1\] is 2; expected a label in"):
        hinge(torch.zeros(2), torch.tensor([1, 2]))
    with pytest.raises(ValueError, match=r"scores \(4, 1\) for target \(4,\).*scores\.squeeze"):
        hinge(torch.zeros(4, 1), torch.zeros(4, dtype=torch.long))
    with pytest.raises(ValueError, match=r"scores \(4,\) and target \(4, 1\)"):
        hinge(torch.zeros(4), torch.zeros(4, 1))
    with pytest.raises(ValueError, match=r"target\[0\] is -100; expected a class index in"):
        hinge(torch.zeros(1, 2), torch.tensor([-100]))
    with pytest.raises(ValueError, match=r"power=3 is not a choice"):
        hinge(torch.zeros(1), torch.ones(1), power=3)


# shared by the families of losses over one label


LOSSES: list[Callable[[Tensor], Tensor]] = [
    lambda x: cross_entropy(x, torch.tensor([0, 2]), label_smoothing=0.1),
    lambda x: kl_divergence(x, torch.full((2, 3), 1 / 3)),
    lambda x: binary_cross_entropy(x, torch.eye(3)[:2]),
    lambda x: margin_binary_cross_entropy(x, torch.eye(3)[:2]),
    lambda x: margin_cross_entropy(x, torch.tensor([0, 2])),
    lambda x: hinge(x, torch.tensor([0, 2]), power=2),
]


@pytest.mark.parametrize("loss", LOSSES)
def test_gradients_pass_gradcheck(loss: Callable[[Tensor], Tensor]) -> None:
    assert torch.autograd.gradcheck(loss, (random(20, 2, 3),))


@pytest.mark.parametrize("y", [0.0, 1.0, 0.25])
def test_compiled_and_transformed_binary_cross_entropy_keeps_its_digits(y):
    x = torch.tensor([-80.0, -30.0, -0.0, 0.0, 30.0, 80.0])
    target = torch.full_like(x, y)

    def loss(x):
        return binary_cross_entropy(x, target, reduction="sum")

    exact = x.double().requires_grad_()
    loss(exact).backward()
    got = torch.func.grad(loss)(x)
    torch.testing.assert_close(got.double(), exact.grad, rtol=1e-6, atol=0.0)
    again = x.clone().requires_grad_()
    torch.compile(loss, fullgraph=True, backend="aot_eager")(again).backward()
    torch.testing.assert_close(again.grad.double(), exact.grad, rtol=1e-6, atol=0.0)


@pytest.mark.parametrize("loss", [cross_entropy, margin_cross_entropy])
def test_compiled_class_costs_leave_out_what_is_ignored(loss):
    logits = torch.tensor([[0.0, 3.0, 1.0], [torch.nan, 0.0, 0.0], [30.0, 0.0, -torch.inf]])
    target = torch.tensor([2, -100, 0])
    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")
    for reduction in ("mean", "none"):
        values, gradients = [], []
        for function in (loss, compiled):
            x = logits.clone().requires_grad_()
            value = function(x, target, reduction=reduction)
            values.append(value.detach())
            gradients.append(torch.autograd.grad(value.sum(), x)[0])
        torch.testing.assert_close(*values, rtol=1e-6, atol=1e-12)
        torch.testing.assert_close(*gradients, rtol=1e-6, atol=1e-12)
