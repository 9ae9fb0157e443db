"""Sums of costs made piece by piece: against the plain form in float64, and under autograd."""

import pytest
import torch
from torch.autograd import forward_ad

import lossmith as lm
from lossmith.kernels import total_costs
from lossmith.kernels.total_costs import LISTWISE, LOGISTIC, SOFTPLUS, beyond, cost_at_once

FORMS = {
    "logistic": LOGISTIC,
    "softplus": SOFTPLUS,
    "listwise": LISTWISE,
    "absolute": beyond(0.0, 1),
    "squared": beyond(0.0, 2),
    "beyond": beyond(0.4, 1),
    "squared beyond": beyond(0.4, 2),
}
SHAPE = (37, 7)  # no piece is full, and the last is short


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch):
    monkeypatch.setattr(total_costs, "SMALL", 1)
    monkeypatch.setattr(total_costs, "PIECE", 50)


@pytest.fixture(params=FORMS)
def form(request):
    return FORMS[request.param]


def inputs(form, dtype=torch.float32):
    generator = torch.Generator().manual_seed(1)
    x, y = (torch.randn(SHAPE, generator=generator, dtype=torch.float64) for _ in range(2))
    y = y.sigmoid() if form is LOGISTIC else y
    return x.to(dtype).requires_grad_(), y.to(dtype)


def made(form, x, y, reduction="mean", divisor=None):
    value = cost_at_once(form, x, y, None, None, reduction, divisor)
    assert value is not None
    return value


def plain(form, x, y, reduction="mean", divisor=None):
    cost = form.cost(x.double(), y.double())
    if reduction == "sum":
        return cost.sum()
    return cost.mean() if divisor is None else cost.sum() / divisor


@pytest.mark.parametrize("asked", [("mean", None), ("sum", None), ("mean", 11.0)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_value_and_gradient_are_those_of_the_plain_form(form, asked, dtype):
    x, y = inputs(form, dtype)
    value, oracle = made(form, x, y, *asked), plain(form, x, y, *asked)
    tolerance = 1e-6 if dtype is torch.float32 else 1e-13
    torch.testing.assert_close(value.double(), oracle, rtol=tolerance, atol=0.0)
    (got,) = torch.autograd.grad(3.0 * value, x)
    (wanted,) = torch.autograd.grad(3.0 * oracle, x)
    torch.testing.assert_close(got.double(), wanted.double(), rtol=1e-5, atol=tolerance / 10)
    with torch.no_grad():
        assert made(form, x, y, *asked) == value


def test_a_second_backward_pass_gives_the_same_gradient(form):
    x, y = inputs(form)
    value = made(form, x, y)
    (first,) = torch.autograd.grad(value, x, retain_graph=True)
    first = first.clone()
    (second,) = torch.autograd.grad(value, x)
    assert torch.equal(first, second)


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_many_directions_at_once_and_a_single_one_after_them(form):
    x, y = inputs(form)
    value = made(form, x, y)
    directions = torch.tensor([1.0, -2.0])
    (batch,) = torch.autograd.grad(value, x, directions, is_grads_batched=True, retain_graph=True)
    (single,) = torch.autograd.grad(value, x)
    torch.testing.assert_close(batch, directions.view(2, 1, 1) * single)


def test_a_gradient_can_be_differentiated_again(form):
    x, y = inputs(form, torch.float64)

    def second(value):
        (slope,) = torch.autograd.grad(value, x, create_graph=True)
        return torch.autograd.grad(slope.exp().sum(), x)[0]

    if form is FORMS["absolute"] or form is FORMS["beyond"]:
        (slope,) = torch.autograd.grad(made(form, x, y), x, create_graph=True)
        torch.testing.assert_close(slope, torch.autograd.grad(plain(form, x, y), x)[0])
        return
    torch.testing.assert_close(second(made(form, x, y)), second(plain(form, x, y)))


def test_both_inputs_get_a_gradient_where_the_cost_is_one_of_their_difference(form):
    x, y = inputs(form)
    y.requires_grad_()
    if not form.of_difference:
        value = cost_at_once(form, x, y, mask=None, weight=None, reduction="mean", divisor=None)
        assert value is None
        return
    value = made(form, x, y)
    by_x, by_y = torch.autograd.grad(value, (x, y), retain_graph=True)
    assert torch.equal(by_x, -by_y)
    (alone,) = torch.autograd.grad(value, y)
    assert torch.equal(alone, by_y)


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_the_rest_is_left_to_the_plain_form(form):
    x, y = inputs(form)
    given = {"mask": None, "weight": None, "reduction": "mean", "divisor": None}
    assert cost_at_once(form, x, y, **{**given, "reduction": "none"}) is None
    assert cost_at_once(form, x, y, **{**given, "mask": y > 0}) is None
    assert cost_at_once(form, x, y, **{**given, "weight": y}) is None
    assert cost_at_once(form, x.detach().clone().fill_(torch.nan), y, **given) is None
    with forward_ad.dual_level():
        assert cost_at_once(form, forward_ad.make_dual(x, y), y, **given) is None

    def inside(z):
        assert cost_at_once(form, z, y, **given) is None
        return z.sum()

    torch.func.grad(inside)(x.detach())


def test_inputs_may_lie_anyhow_in_memory(form):
    x, y = inputs(form)
    turned = x.detach().t().contiguous().t().requires_grad_()
    assert torch.equal(made(form, turned, y), made(form, x, y))
    made(form, turned, y).backward()
    made(form, x, y).backward()
    assert torch.equal(turned.grad, x.grad)


def test_digits_survive_far_from_zero():
    x = torch.tensor([-80.0, -30.0, -9.0, -0.0, 0.0, 9.0, 30.0, 80.0])
    for y in (torch.zeros(8), torch.ones(8), torch.full((8,), 0.25)):
        for form in (LOGISTIC, SOFTPLUS):
            for i in range(8):  # each alone: a sum would hide the small ones
                one = x[i : i + 1].clone().requires_grad_()
                value, oracle = made(form, one, y[:1]), plain(form, one, y[:1])
                torch.testing.assert_close(value.double(), oracle, rtol=1e-6, atol=0.0)
                (got,), (wanted,) = (torch.autograd.grad(v, one) for v in (value, oracle))
                torch.testing.assert_close(got, wanted.float(), rtol=1e-6, atol=0.0)


def test_an_infinite_target_is_still_answered_by_name():
    x, y = inputs(beyond(0.0, 1))
    y[3, 2] = torch.inf
    with pytest.raises(ValueError, match=r"target\[3, 2\] is inf"):
        lm.absolute_error(x, y)


def test_what_is_impossible_still_costs_nothing():
    scores = torch.zeros(2, 3)
    scores[:, 0] = -torch.inf
    relevance = torch.tensor([[-1e4, 0.0, 0.0]]).expand(2, 3)
    torch.testing.assert_close(lm.listnet(scores, relevance), torch.tensor(2.0).log())
