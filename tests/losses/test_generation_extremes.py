"""Keyword presence where probabilities are tiny, certain, impossible or NaN."""

from __future__ import annotations

import itertools
import math
from decimal import Decimal, localcontext

import pytest
import torch
from torch import Tensor

from lossmith.losses.generation import keyword_presence

REQUIRE = ("any", "each")
FORMS = ("expected", "nll")


def decimal_presence(
    logits: Tensor, keywords: list[int], form: str
) -> tuple[Decimal, list[Decimal]]:
    """P(no keyword) or -log P(any keyword occurs), and the gradient; in the context's digits."""
    rows = [[Decimal(float(z)).exp() for z in row] for row in logits]
    inside = [sum(row[k] for k in keywords) for row in rows]
    outside = [sum(row) - k for row, k in zip(rows, inside, strict=True)]
    none = Decimal(1)
    for k, other in zip(inside, outside, strict=True):
        none *= other / (k + other)
    gradient = []
    for row, k, other in zip(rows, inside, outside, strict=True):
        pull = -k / (k + other) * none  # d P(no keyword) / d log-odds
        if form == "nll":
            pull /= 1 - none
        gradient += [pull * (e / k if v in keywords else -e / other) for v, e in enumerate(row)]
    return (-(1 - none).ln() if form == "nll" else none), gradient


SHIFTS = {
    "ordinary": 0.0,
    "q = 1e-8": -18.4,
    "q = 1e-20": -46.0,
    "q = 1e-40": -92.1,
    "q = 1e-60": -138.2,
    "q = 1e-200": -460.5,
    "nearly sure": 6.0,
    "sure": 30.0,
}


@pytest.mark.parametrize("shift", SHIFTS.values(), ids=SHIFTS)
@pytest.mark.parametrize("require", REQUIRE)
@pytest.mark.parametrize("form", FORMS)
def test_float32_keeps_its_digits_at_both_ends(shift: float, form: str, require: str) -> None:
    logits = torch.randn(8, 16, generator=torch.Generator().manual_seed(8))
    logits[:, [3, 7]] += shift
    keywords = [3, 7]
    with localcontext() as context:
        context.prec = 250
        sets = [keywords] if require == "any" else [[k] for k in keywords]
        parts = [decimal_presence(logits, some, form) for some in sets]
        want = float(sum(value for value, _ in parts) / len(parts))
        exact = [float(sum(g) / len(parts)) for g in zip(*(g for _, g in parts), strict=True)]
    check_value_and_gradient(logits, keywords, require, form, want, exact)


@pytest.mark.parametrize("require", REQUIRE)
@pytest.mark.parametrize("form", FORMS)
def test_float32_keeps_its_digits_where_one_position_is_sure(form: str, require: str) -> None:
    logits = torch.randn(8, 16, generator=torch.Generator().manual_seed(9))
    logits[:, 3] -= 10
    logits[5, 3] = 24.0  # p = 1 - 1e-9
    with localcontext() as context:
        context.prec = 250
        value, gradient = decimal_presence(logits, [3], form)
    exact = [float(g) for g in gradient]
    check_value_and_gradient(logits, [3], require, form, float(value), exact)


def check_value_and_gradient(
    logits: Tensor,
    keywords: list[int],
    require: str,
    form: str,
    want: float,
    exact: list[float],
) -> None:
    z = logits.clone().requires_grad_()
    value = keyword_presence(z.unsqueeze(0), keywords, require=require, form=form)
    assert value.dtype is torch.float32
    assert value.item() == pytest.approx(want, rel=1e-4, abs=1e-37)
    (gradient,) = torch.autograd.grad(value, z)
    reference = torch.tensor(exact, dtype=torch.float64).reshape(z.shape)
    assert torch.isfinite(gradient).all()
    largest = reference.abs().max()
    if largest > 1e-30:  # below that float32 ends
        assert ((gradient.double() - reference).abs().max() / largest).item() <= 1e-4


def test_a_keyword_ruled_out_costs_inf_without_nan_in_the_gradient() -> None:
    for keywords in ([0], [(0, 1)]):
        for require in REQUIRE:
            logits = torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(0))
            logits[..., 0] = -math.inf
            logits.requires_grad_()
            value = keyword_presence(logits, keywords, require=require, form="nll")
            assert value.item() == math.inf
            assert torch.isfinite(torch.autograd.grad(value, logits)[0]).all()
            assert keyword_presence(logits, keywords, require=require).item() == 1.0


def test_a_position_that_rules_a_keyword_out_only_drops_out() -> None:
    for keywords, require in itertools.product(([0], [0, 3], [(1, 0)]), REQUIRE):
        logits = torch.randn(1, 4, 4, generator=torch.Generator().manual_seed(1)).double()
        unlikely, impossible = logits.clone(), logits.clone()
        unlikely[0, 2, 0], impossible[0, 2, 0] = -100.0, -math.inf
        results = []
        for z in (unlikely.requires_grad_(), impossible.requires_grad_()):
            value = keyword_presence(z, keywords, require=require, form="nll")
            results.append((value, torch.autograd.grad(value, z)[0]))
        torch.testing.assert_close(*results)


def test_a_vocabulary_of_keywords_costs_nothing() -> None:
    logits = torch.randn(2, 3, 4, requires_grad=True, generator=torch.Generator().manual_seed(0))
    value = keyword_presence(logits, [0, 1, 2, 3], form="nll")
    assert value.item() == 0.0
    assert torch.autograd.grad(value, logits)[0].abs().max().item() == 0.0


@pytest.mark.parametrize(
    ("require", "keywords"),
    [
        ("any", [0]),
        ("any", [0, 2]),
        ("any", [(0, 1), (2, 2)]),
        ("each", [0, 1]),
        ("each", [(0, 0), (0, 1)]),
        ("each", [[(0, 1), 0], [1]]),
    ],
)
def test_a_keyword_that_is_certain_costs_nothing(require: str, keywords: list[object]) -> None:
    logits = torch.full((2, 3, 3), -math.inf)
    logits[:, [0, 1, 2], [0, 0, 1]] = 5.0  # 0 0 1 with probability 1
    logits.requires_grad_()
    for form in FORMS:
        value = keyword_presence(logits, keywords, require=require, form=form)
        assert value.item() == 0.0
        assert torch.autograd.grad(value, logits)[0].abs().max().item() == 0.0


@pytest.mark.parametrize("keywords", [[1], [0, 1, 2, 3], [(1, 2)], [(1, 1), 0], [[2, (0, 1)]]])
@pytest.mark.parametrize("require", REQUIRE)
@pytest.mark.parametrize("form", FORMS)
def test_a_nan_at_a_position_that_counts_is_not_hidden(
    form: str, require: str, keywords: list[object]
) -> None:
    for position, token in itertools.product(range(3), range(4)):
        logits = torch.randn(1, 3, 4, generator=torch.Generator().manual_seed(0))
        logits[0, position, token] = math.nan
        assert keyword_presence(logits, keywords, require=require, form=form).isnan()


@pytest.mark.parametrize("keywords", [[2], [2, 4], [0, 1, 5]])
@pytest.mark.parametrize("require", REQUIRE)
def test_pull_of_a_keyword_is_bounded_by_one(require: str, keywords: list[int]) -> None:
    for seed, shift in itertools.product(range(5), (-60.0, -20.0, -3.0, 0.0, 3.0)):
        logits = torch.randn(3, 7, 6, generator=torch.Generator().manual_seed(seed)).double()
        logits[..., keywords] += shift
        # Added to the logits of the keywords, it moves their log-odds one for one.
        sets = [keywords] if require == "any" else [[k] for k in keywords]
        for some in sets:
            log_odds = torch.zeros(3, 7, 1, dtype=torch.float64, requires_grad=True)
            member = torch.isin(torch.arange(6), torch.tensor(some))
            moved = logits + log_odds * member
            value = keyword_presence(moved, some, require=require, form="nll", reduction="sum")
            pull = -torch.autograd.grad(value, log_odds)[0].squeeze(-1)
            assert (pull >= 0).all()
            assert (pull.sum(dim=-1) <= 1 + 1e-12).all()
            if shift == -60.0:  # the bound is reached where the keyword is nearly impossible
                assert pull.sum(dim=-1).min().item() == pytest.approx(1.0)
