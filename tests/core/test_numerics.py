import math
from decimal import Decimal, localcontext

import pytest
import torch
import torch.nn.functional as F

from lossmith.core.numerics import (
    distance,
    euclidean_from_squared,
    full_precision,
    log1mexp,
    logistic_cost,
    signed_logits,
    softplus,
    unit_vectors,
    upcast,
)

# From the smallest steps below 0 to where exp(x) vanishes, both sides of -log 2 included.
BELOW_ZERO = [-(10.0**e) for e in range(-30, 3)] + [-math.log(2), -0.6931, -0.6932, -0.3, -2.5]


def exact_log1mexp(x):
    with localcontext() as context:
        context.prec = 80
        return float((1 - Decimal(x).exp()).ln())


def float64(values):
    return torch.tensor(values, dtype=torch.float64)


def test_log1mexp_is_accurate_from_end_to_end():
    values = log1mexp(float64(BELOW_ZERO))
    expected = float64([exact_log1mexp(x) for x in BELOW_ZERO])
    torch.testing.assert_close(values, expected, rtol=1e-15, atol=0)


def test_log1mexp_in_float32_is_accurate_to_float32():
    x = torch.tensor(BELOW_ZERO)
    expected = float64([exact_log1mexp(one) for one in x.tolist()])
    torch.testing.assert_close(log1mexp(x).double(), expected, rtol=3e-7, atol=1e-44)


def test_log1mexp_obeys_the_difference_of_two_squares():
    # 1 - e^2x = (1 - e^x)(1 + e^x)
    x = -torch.logspace(-12, 2.5, 400, dtype=torch.float64)
    torch.testing.assert_close(log1mexp(2 * x), log1mexp(x) + softplus(x), rtol=1e-12, atol=1e-16)


def test_log1mexp_is_its_own_inverse():
    x = -torch.logspace(-6, 1, 200, dtype=torch.float64)
    torch.testing.assert_close(log1mexp(log1mexp(x)), x, rtol=1e-9, atol=0)


def test_log1mexp_gradient_is_minus_one_over_expm1_of_minus_x():
    x = float64(BELOW_ZERO).requires_grad_()
    log1mexp(x).sum().backward()
    torch.testing.assert_close(x.grad, -1 / torch.expm1(-x.detach()), rtol=1e-12, atol=0)
    middle = -torch.logspace(-2, 1, 20, dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(log1mexp, (middle,))


def test_log1mexp_at_its_ends_and_outside():
    x = torch.tensor([0.0, 1.0, -math.inf, math.nan], requires_grad=True)
    values = log1mexp(x)
    assert values[:3].tolist() == [-math.inf, -math.inf, 0.0]
    assert values[3].isnan()
    values.nan_to_num(neginf=0.0).sum().backward()
    assert x.grad[:3].tolist() == [0.0, 0.0, 0.0]


def test_softplus_is_exact_where_the_linear_branch_would_not_be():
    x = float64([-700.0, -30.0, 0.0, 19.0, 21.0, 36.0])
    expected = float64([math.log1p(math.exp(-abs(one))) + max(one, 0.0) for one in x.tolist()])
    torch.testing.assert_close(softplus(x), expected, rtol=1e-15, atol=0)
    assert softplus(x)[4] > 21.0
    assert softplus(torch.tensor([-1e4, 1e4])).tolist() == [0.0, 1e4]


def test_euclidean_has_no_gradient_where_two_points_coincide():
    x = float64([[1.0, 2.0], [3.0, 4.0]]).requires_grad_()
    y = float64([[1.0, 2.0], [0.0, 0.0]])
    value = distance(x, y, "euclidean")
    value.sum().backward()
    assert value.tolist() == [0.0, 5.0]
    assert x.grad[0].tolist() == [0.0, 0.0]
    torch.testing.assert_close(x.grad[1], float64([3 / 5, 4 / 5]))


def test_a_nan_is_not_a_distance_of_zero():
    assert euclidean_from_squared(torch.tensor([math.nan, 0.0, 4.0])).isnan().tolist() == [
        True,
        False,
        False,
    ]
    for kind in ("euclidean", "squared_euclidean", "cosine"):
        assert distance(torch.tensor([math.nan, 1.0]), torch.ones(2), kind).isnan()


def test_distances_equal_their_formulas():
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(2, 20, 5, generator=generator, dtype=torch.float64)
    for i, (a, b) in enumerate(zip(x.tolist(), y.tolist(), strict=True)):
        squared = sum((p - q) ** 2 for p, q in zip(a, b, strict=True))
        dot = sum(p * q for p, q in zip(a, b, strict=True))
        expected = {
            "squared_euclidean": squared,
            "euclidean": math.sqrt(squared),
            "cosine": 1 - dot / math.hypot(*a) / math.hypot(*b),
        }
        for kind, value in expected.items():
            assert distance(x, y, kind)[i].item() == pytest.approx(value, rel=1e-12)


def test_an_unknown_distance_lists_the_known_ones():
    with pytest.raises(ValueError, match="distance='l1' is not a choice; expected one of 'eucl"):
        distance(torch.ones(2), torch.ones(2), "l1")


@pytest.mark.parametrize("scale", [1e-30, 1e-20, 1.0, 1e20, 1e37])
def test_unit_vectors_of_any_length_have_length_one(scale):
    x = torch.tensor([3.0, -4.0, 0.0]) * scale
    torch.testing.assert_close(unit_vectors(x), torch.tensor([3 / 5, -4 / 5, 0.0]))


def test_unit_vectors_have_the_gradient_of_normalize_and_a_finite_one_at_zero():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(4, 3, generator=generator, dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(unit_vectors, (x,))
    torch.testing.assert_close(unit_vectors(x), F.normalize(x, dim=-1))
    zero = torch.zeros(2, 3, requires_grad=True)
    unit_vectors(zero).sum().backward()
    assert unit_vectors(zero).tolist() == [[0.0] * 3] * 2
    assert zero.grad.isfinite().all()


# Forward differentiation makes torch load its scripted decompositions, which warn of themselves.
@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_unit_vectors_have_every_derivative():
    x = torch.randn(4, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    x.requires_grad_()
    assert torch.autograd.gradcheck(unit_vectors, (x,), check_forward_ad=True)
    assert torch.autograd.gradgradcheck(unit_vectors, (x,))
    by_row = torch.func.vmap(torch.func.grad(lambda row: unit_vectors(row).pow(3).sum()))(x)
    (whole,) = torch.autograd.grad(unit_vectors(x).pow(3).sum(), x)
    torch.testing.assert_close(by_row, whole)


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_unit_vectors_over_a_temperature_have_every_derivative():
    x = torch.randn(4, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    t = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
    real = torch.tensor([True, True, False, True])
    x.requires_grad_()

    def form(x, t):
        return unit_vectors(x, real, t)

    plain = torch.where(real.unsqueeze(1), F.normalize(x, dim=-1), 0.0) / t
    torch.testing.assert_close(form(x, t), plain)
    torch.testing.assert_close(unit_vectors(x, real, 0.3), plain)
    assert torch.autograd.gradcheck(form, (x, t), check_forward_ad=True)
    assert torch.autograd.gradgradcheck(form, (x, t))
    assert torch.autograd.gradgradcheck(lambda t: form(x.detach(), t), (t,))
    assert torch.autograd.gradgradcheck(lambda x: unit_vectors(x, real, 0.3), (x,))
    (right,) = torch.autograd.grad(form(x, t).pow(3).sum(), t)
    found = torch.func.grad(lambda t: unit_vectors(x.detach(), real, t).pow(3).sum())(t.detach())
    torch.testing.assert_close(found, right)
    masks = torch.stack([real, ~real])
    several = torch.func.vmap(lambda real: unit_vectors(x.detach(), real))(masks)
    torch.testing.assert_close(several, torch.stack([unit_vectors(x, mask) for mask in masks]))


@pytest.mark.parametrize("junk", [math.nan, math.inf, 1e30, 0.0])
def test_what_an_unreal_vector_holds_reaches_nothing(junk):
    x = torch.randn(5, 3, generator=torch.Generator().manual_seed(0))
    real = torch.tensor([True, False, True, True, False])
    spoilt = torch.where(real.unsqueeze(1), x, junk).requires_grad_()
    made = unit_vectors(spoilt, real, 0.1)
    assert not made[~real].any()
    torch.testing.assert_close(made[real], F.normalize(x[real], dim=1) / 0.1)
    (found,) = torch.autograd.grad(made.sum(), spoilt)
    assert not found[~real].any()
    assert found[real].isfinite().all() and found[real].any()


def test_many_unit_vectors_have_the_gradient_of_one_after_the_other():
    """More than fit into one piece, with a gradient that is expanded and one that is not."""
    x = torch.randn(700, 3, 100, generator=torch.Generator().manual_seed(0)).requires_grad_()
    for loss in (torch.sum, lambda made: made.pow(3).sum()):
        (found,) = torch.autograd.grad(loss(unit_vectors(x)), x)
        (right,) = torch.autograd.grad(loss(F.normalize(x, dim=-1)), x)
        torch.testing.assert_close(found, right, rtol=1e-4, atol=1e-6)


def test_a_temperature_of_half_precision_keeps_the_digits_of_the_vectors():
    x = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))
    t = torch.tensor(0.07, dtype=torch.bfloat16, requires_grad=True)
    made = unit_vectors(x, None, t)
    torch.testing.assert_close(made, F.normalize(x, dim=-1) / t.detach().float())
    made.sum().backward()
    assert t.grad is not None and t.grad.dtype is torch.bfloat16


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_logistic_cost_has_every_derivative():
    generator = torch.Generator().manual_seed(0)
    x = 3 * torch.randn(5, 3, generator=generator, dtype=torch.float64)
    y = torch.rand(5, 3, generator=generator, dtype=torch.float64)
    x.requires_grad_(), y.requires_grad_()
    assert torch.autograd.gradcheck(logistic_cost, (x, y), check_forward_ad=True)
    assert torch.autograd.gradcheck(
        lambda x: logistic_cost(x, y.detach()), (x,), check_forward_ad=True
    )
    assert torch.autograd.gradgradcheck(logistic_cost, (x, y))
    turned = logistic_cost(x.T, y.T)
    torch.testing.assert_close(turned, logistic_cost(x, y).T)


@pytest.mark.parametrize("x", [-80.0, -20.0, -1e-3, -0.0, 0.0, 1e-3, 20.0, 80.0])
@pytest.mark.parametrize("y", [0.0, 0.25, 1.0])
def test_logistic_cost_keeps_its_digits_far_from_zero(x, y):
    logit = torch.tensor([x], requires_grad=True)
    cost = logistic_cost(logit, torch.tensor([y]))
    cost.sum().backward()
    expected = y * math.log1p(math.exp(-x)) + (1 - y) * math.log1p(math.exp(x))
    yes, no = 1 / (1 + math.exp(-x)), 1 / (1 + math.exp(x))
    assert cost.item() == pytest.approx(expected, rel=3e-7)
    assert logit.grad.item() == pytest.approx(
        (1 - y) * yes - y * no, rel=3e-7, abs=1e-7 * (0 < y < 1)
    )


def test_logistic_cost_of_many_is_that_of_each():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(3 << 15, generator=generator).requires_grad_()  # more than one piece
    y = torch.randint(2, x.shape, generator=generator).float()
    cost = logistic_cost(x, y)
    (slope,) = torch.autograd.grad(cost.sum(), x)
    torch.testing.assert_close(cost, F.softplus(torch.where(y > 0, -x, x)))
    torch.testing.assert_close(slope, x.detach().sigmoid() - y)


@pytest.mark.parametrize(
    ("dtypes", "expected"),
    [
        ([torch.float16, torch.bfloat16], torch.float32),
        ([torch.float32], torch.float32),
        ([torch.float16, torch.float64], torch.float64),
        ([torch.int64, torch.float16], torch.float32),
        ([torch.bool], torch.float32),
    ],
)
def test_upcast_goes_to_one_type_of_at_least_float32(dtypes, expected):
    tensors = upcast(*(torch.ones(1, dtype=dtype) for dtype in dtypes))
    assert [tensor.dtype for tensor in tensors] == [expected] * len(dtypes)


def test_full_precision_switches_autocast_off():
    x = torch.randn(4, 4, generator=torch.Generator().manual_seed(0))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert (x @ x).dtype == torch.bfloat16
        with full_precision(x):
            assert (x @ x).dtype == torch.float32


def test_signed_logits_are_those_of_the_true_label():
    assert signed_logits(torch.tensor([2.0, 2.0, 2.0]), torch.tensor([1, 0, -1])).tolist() == [
        2.0,
        -2.0,
        -2.0,
    ]
