"""The sums by grade against the running log-sum-exp, and what autograd asks of them."""

import pytest
import torch

import lossmith as lm
from lossmith.kernels import list_likelihood
from lossmith.kernels.list_likelihood import order_costs


@pytest.fixture(autouse=True)
def small_lists_too(monkeypatch):
    monkeypatch.setattr(list_likelihood, "SMALL", 1)


def lists(kind, dtype=torch.float32):
    generator = torch.Generator().manual_seed(3)
    scores = 3.0 * torch.randn(5, 40, generator=generator, dtype=torch.float64)
    relevance = {
        "grades": torch.randint(-2, 3, (5, 40), generator=generator),
        "grades as numbers": torch.randint(5, (5, 40), generator=generator).float(),
        "no ties": torch.rand(5, 40, generator=generator),
        "some ties": torch.randint(9, (5, 40), generator=generator) / 7.0,
        "wide": torch.randint(2**40, (5, 40), generator=generator),
        "one grade": torch.zeros(5, 40),
    }[kind]
    return scores.to(dtype).requires_grad_(), relevance


KINDS = ("grades", "grades as numbers", "no ties", "some ties", "wide", "one grade")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_value_and_gradient_are_those_of_the_running_sum(kind, masked, dtype):
    scores, relevance = lists(kind, dtype)
    items = torch.ones_like(relevance, dtype=torch.bool)
    if masked:
        items = torch.rand(5, 40, generator=torch.Generator().manual_seed(4)) < 0.6
        items[2] = False
    exact = scores.detach().double().requires_grad_()
    wanted = list_likelihood._plain(exact, relevance, items)
    got = order_costs(scores, relevance, items, masked=masked)
    tolerance = 1e-6 if dtype is torch.float32 else 1e-12
    torch.testing.assert_close(got.double(), wanted, rtol=tolerance, atol=0.0)
    above = torch.arange(1.0, 6.0)
    (slope,) = torch.autograd.grad(got @ above.to(dtype), scores)
    (oracle,) = torch.autograd.grad(wanted @ above.double(), exact)
    torch.testing.assert_close(slope.double(), oracle, rtol=tolerance, atol=tolerance / 10)


@pytest.mark.parametrize("spread", [80.0, 290.0, 2000.0])
def test_scores_far_apart_keep_their_digits(spread):
    scores = torch.tensor([[0.0, -1.0, -0.5, -0.25]]) * spread
    relevance = torch.tensor([[0, 1, 1, 2]])
    values, slopes = [], []
    for x in (scores, scores.double()):
        x = x.clone().requires_grad_()
        function = order_costs if x.dtype is torch.float32 else list_likelihood._plain
        knobs = {"masked": False} if x.dtype is torch.float32 else {}
        value = function(x, relevance, torch.ones(1, 4).bool(), **knobs)
        values.append(value.detach().double())
        slopes.append(torch.autograd.grad(value.sum(), x)[0].double())
    torch.testing.assert_close(*values, rtol=1e-6, atol=0.0)
    torch.testing.assert_close(*slopes, rtol=1e-6, atol=1e-30)


def test_a_gradient_can_be_differentiated_again():
    scores, relevance = lists("grades", torch.float64)
    weight = torch.rand(5, generator=torch.Generator().manual_seed(5), dtype=torch.float64)

    def loss(x):
        return lm.list_mle(x, relevance, weight=weight)

    x = scores.detach()[:, :6].requires_grad_()
    relevance = relevance[:, :6]
    assert torch.autograd.gradcheck(loss, (x,))
    assert torch.autograd.gradgradcheck(loss, (x,))


def test_a_broken_score_is_not_hidden():
    scores, relevance = lists("grades")
    broken = scores.detach().clone()
    broken[1, 3] = torch.nan
    value = lm.list_mle(broken, relevance, reduction="none")
    assert value.isnan().tolist() == [False, True, False, False, False]
