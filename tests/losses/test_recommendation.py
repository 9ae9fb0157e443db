from __future__ import annotations

import itertools
import math
from fractions import Fraction

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from lossmith.losses.classification import binary_cross_entropy
from lossmith.losses.recommendation import bpr, expected_warp, warp

WEIGHTINGS = ("log", "harmonic")


def weight_of(rank: int, weighting: str) -> float:
    if weighting == "log":
        return math.log(max(1, rank))
    return float(sum(Fraction(1, i) for i in range(1, rank + 1)))


def grid(generator: torch.Generator, *shape: int) -> Tensor:
    """Scores on a grid of quarters, so that ties with the margin are frequent and exact."""
    return torch.randint(-8, 9, shape, generator=generator).double() / 4


# ---------------------------------------------------------------------------------------- bpr


def test_bpr_is_the_logistic_loss_of_every_pair() -> None:
    generator = torch.Generator().manual_seed(0)
    positive = torch.randn(7, 3, generator=generator, dtype=torch.float64, requires_grad=True)
    negative = torch.randn(7, 3, generator=generator, dtype=torch.float64, requires_grad=True)
    value = bpr(positive, negative)
    slopes = torch.autograd.grad(value, (positive, negative))
    total = 0.0
    for i, j in itertools.product(range(7), range(3)):
        gap = float((positive[i, j] - negative[i, j]).detach())
        total += -math.log(1.0 / (1.0 + math.exp(-gap)))
        slope = -1.0 / (1.0 + math.exp(gap)) / 21
        assert float(slopes[0][i, j]) == pytest.approx(slope, rel=1e-12)
        assert float(slopes[1][i, j]) == pytest.approx(-slope, rel=1e-12)
    assert float(value.detach()) == pytest.approx(total / 21, rel=1e-12)


def test_bpr_is_binary_cross_entropy_of_the_difference() -> None:
    generator = torch.Generator().manual_seed(6)
    positive, negative = torch.randn(2, 20, generator=generator, dtype=torch.float64)
    yes = torch.ones(20, dtype=torch.float64)
    torch.testing.assert_close(
        bpr(positive, negative), binary_cross_entropy(positive - negative, yes)
    )


@pytest.mark.parametrize("gap", [-1e4, -90.0, -30.0, 30.0, 1e4])
def test_bpr_stays_right_at_gaps_where_the_sigmoid_is_0_or_1(gap: float) -> None:
    positive = torch.tensor([gap], requires_grad=True)
    value = bpr(positive, torch.zeros(1))
    (slope,) = torch.autograd.grad(value, positive)
    assert float(value.detach()) == pytest.approx(max(-gap, math.exp(-gap) if gap > 0 else 0.0))
    assert float(slope) == pytest.approx(-1.0 if gap < 0 else -math.exp(-gap))


def test_bpr_names_both_shapes_instead_of_broadcasting() -> None:
    with pytest.raises(ValueError, match=r"positive \(4,\) and negative \(4, 1\).*squeeze"):
        bpr(torch.zeros(4), torch.zeros(4, 1))


# --------------------------------------------------------------------------------------- warp


def warp_loop(
    positive: Tensor,
    negatives: Tensor,
    mask: Tensor,
    trials: Tensor,
    num_items: int,
    margin: float,
    weighting: str,
) -> tuple[list[float], Tensor, Tensor]:
    """The one-at-a-time algorithm: costs, and the gradients of their sum."""
    costs = []
    slope_p, slope_n = torch.zeros_like(positive), torch.zeros_like(negatives)
    for i in range(len(positive)):
        cost = 0.0
        for j in range(negatives.shape[1]):
            if bool(mask[i, j]) and float(negatives[i, j]) > float(positive[i]) - margin:
                weight = weight_of((num_items - 1) // int(trials[i, j]), weighting)
                cost = weight * (margin - float(positive[i]) + float(negatives[i, j]))
                slope_p[i], slope_n[i, j] = -weight, weight
                break
        costs.append(cost)
    return costs, slope_p, slope_n


@pytest.mark.parametrize("weighting", WEIGHTINGS)
@pytest.mark.parametrize("num_items", [2, 3, 7, 1000])
@pytest.mark.parametrize("given", [False, True])
def test_warp_is_the_sequential_algorithm(weighting: str, num_items: int, given: bool) -> None:
    generator = torch.Generator().manual_seed(num_items)
    for margin in (0.0, 0.5, 1.0):
        positive = (grid(generator, 40) + 1.5).requires_grad_()
        negatives = grid(generator, 40, 6).requires_grad_()
        mask = torch.rand(40, 6, generator=generator) > 0.3
        steps = torch.randint(1, 4, (40, 6), generator=generator)
        trials = steps.cumsum(dim=1) if given else torch.arange(1, 7).expand(40, 6)
        value = warp(
            positive,
            negatives,
            num_items=num_items,
            margin=margin,
            weighting=weighting,
            mask=mask,
            trials=trials if given else None,
            reduction="none",
        )
        slopes = torch.autograd.grad(value.sum(), (positive, negatives))
        costs, slope_p, slope_n = warp_loop(
            positive.detach(), negatives.detach(), mask, trials, num_items, margin, weighting
        )
        torch.testing.assert_close(value.detach(), torch.tensor(costs, dtype=torch.float64))
        torch.testing.assert_close(slopes[0], slope_p)
        torch.testing.assert_close(slopes[1], slope_n)


def test_warp_weighs_by_the_logarithm_or_the_harmonic_number_of_the_rank() -> None:
    positive, negatives = torch.tensor([0.0]), torch.tensor([[-5.0, -5.0, 0.5]])
    log = warp(positive, negatives, num_items=13)
    harmonic = warp(positive, negatives, num_items=13, weighting="harmonic")
    torch.testing.assert_close(log, torch.tensor(math.log(4) * 1.5))
    torch.testing.assert_close(harmonic, torch.tensor((1 + 1 / 2 + 1 / 3 + 1 / 4) * 1.5))


def test_warp_a_masked_draw_uses_up_a_trial_and_never_violates() -> None:
    positive, negatives = torch.tensor([0.0]), torch.tensor([[9.0, 0.0]])
    value = warp(positive, negatives, num_items=101, mask=torch.tensor([[False, True]]))
    torch.testing.assert_close(value, torch.tensor(math.log(50)))


def test_warp_a_draw_exactly_at_the_margin_is_no_violator() -> None:
    positive = torch.tensor([0.5, 0.5])
    negatives = torch.tensor([[-0.5], [-0.5 + 2**-20]])
    value = warp(positive, negatives, num_items=101, reduction="none")
    assert float(value[0]) == 0.0
    assert float(value[1]) == pytest.approx(math.log(100) * 2**-20)


def test_warp_cost_of_a_violator_is_never_negative_in_float32() -> None:
    # margin - p + n can round below 0 where n > p - margin holds; n - (p - margin) cannot.
    generator = torch.Generator().manual_seed(3)
    positive = torch.rand(2000, generator=generator) * 100
    close = torch.nextafter(positive - 1.0, torch.tensor(math.inf))
    value = warp(positive, close.unsqueeze(-1), num_items=101, reduction="none")
    assert bool((value > 0).all())


def test_warp_without_a_violator_costs_exactly_zero_and_is_still_counted() -> None:
    positive = torch.tensor([9.0, 0.0], requires_grad=True)
    negatives = torch.zeros(2, 3, requires_grad=True)
    value = warp(positive, negatives, num_items=11)
    value.backward()
    torch.testing.assert_close(value.detach(), torch.tensor(math.log(10) / 2))
    assert positive.grad is not None
    assert negatives.grad is not None
    assert float(positive.grad[0]) == 0.0
    assert negatives.grad[0].tolist() == [0.0, 0.0, 0.0]


@pytest.mark.parametrize("num_items", [8, 9, 10, 11, 12])
def test_warp_is_finite_where_the_draws_outnumber_the_catalogue(num_items: int) -> None:
    # With T + 1 items or fewer an estimated rank is 0, whose logarithm must not be taken.
    positive = torch.tensor([9.0, 0.0], requires_grad=True)
    negatives = torch.cat([torch.zeros(1, 10), torch.full((1, 10), -5.0)])
    negatives[1, 9] = 0.0  # found at the last trial
    value = warp(positive, negatives, num_items=num_items, reduction="none")
    value.sum().backward()
    assert value.tolist() == [0.0, math.log(1)]
    assert positive.grad is not None
    assert positive.grad.tolist() == [0.0, 0.0]


def test_warp_two_items_learn_with_the_harmonic_weight_alone() -> None:
    positive, negatives = torch.zeros(1), torch.full((1, 1), 0.25)
    assert float(warp(positive, negatives, num_items=2)) == 0.0  # log 1, as in LightFM
    assert float(warp(positive, negatives, num_items=2, weighting="harmonic")) == pytest.approx(
        1.25
    )


def test_warp_of_one_draw_and_two_items_is_the_pairwise_hinge() -> None:
    generator = torch.Generator().manual_seed(6)
    positive, negative = torch.randn(2, 50, generator=generator, dtype=torch.float64)
    value = warp(positive, negative.unsqueeze(-1), num_items=2, weighting="harmonic", margin=0.7)
    first_is_better = torch.ones(50, dtype=torch.float64)
    expected = F.margin_ranking_loss(positive, negative, first_is_better, margin=0.7)
    torch.testing.assert_close(value, expected)


def test_warp_given_places_decide_the_order_not_the_columns() -> None:
    generator = torch.Generator().manual_seed(5)
    positive, negatives = grid(generator, 30), grid(generator, 30, 8)
    mask = torch.rand(30, 8, generator=generator) > 0.3
    trials = torch.arange(1, 9).expand(30, 8)
    order = torch.randperm(8, generator=generator)
    torch.testing.assert_close(
        warp(
            positive,
            negatives[:, order],
            num_items=1000,
            mask=mask[:, order],
            trials=trials[:, order].to(torch.uint8),
            reduction="none",
        ),
        warp(positive, negatives, num_items=1000, mask=mask, reduction="none"),
    )


def test_warp_a_nan_shows_where_it_counts_and_nowhere_else() -> None:
    draws = torch.tensor([[math.nan, 0.0]])
    seen = warp(torch.zeros(1), draws, num_items=50)
    assert bool(seen.isnan())
    assert bool(warp(torch.full((1,), math.nan), torch.zeros(1, 2), num_items=50).isnan())
    draws.requires_grad_()
    hidden = warp(torch.zeros(1), draws, num_items=50, mask=torch.tensor([[False, True]]))
    hidden.backward()
    torch.testing.assert_close(hidden.detach(), torch.tensor(math.log(24)))
    assert draws.grad is not None
    torch.testing.assert_close(draws.grad, torch.tensor([[0.0, math.log(24)]]))


def test_warp_errors_say_what_to_do() -> None:
    p, n = torch.zeros(3), torch.zeros(3, 2)
    with pytest.raises(ValueError, match=r"positive \(3, 1\) must have the shape of negatives"):
        warp(p.unsqueeze(-1), n, num_items=5)
    with pytest.raises(ValueError, match=r"negatives \(3, 0\) needs at least one draw"):
        warp(p, torch.zeros(3, 0), num_items=5)
    with pytest.raises(ValueError, match="num_items must be at least 2; got 1"):
        warp(p, n, num_items=1)
    with pytest.raises(TypeError, match=r"num_items must be a whole number; got float 5\.0"):
        warp(p, n, num_items=5.0)
    with pytest.raises(ValueError, match="weighting='linear' is not a choice"):
        warp(p, n, num_items=5, weighting="linear")
    with pytest.raises(ValueError, match=r"trials\[0, 1\] is 0; expected the place of a draw"):
        warp(p, n, num_items=5, trials=torch.tensor([[1, 0]] * 3))
    with pytest.raises(TypeError, match=r"trials must hold whole numbers.*trials.long\(\)"):
        warp(p, n, num_items=5, trials=torch.ones(3, 2))
    with pytest.raises(TypeError, match="mask must be bool"):
        warp(p, n, num_items=5, mask=torch.ones(3, 2))


def test_warp_a_place_that_the_mask_rules_out_is_not_looked_at() -> None:
    place, mask = torch.tensor([[0, 2]]), torch.tensor([[False, True]])
    value = warp(torch.zeros(1), torch.zeros(1, 2), num_items=9, trials=place, mask=mask)
    torch.testing.assert_close(value, torch.tensor(math.log(4)))


# ------------------------------------------------------------------------------ expected_warp


@pytest.mark.parametrize("weighting", WEIGHTINGS)
@pytest.mark.parametrize("items, draws", [(2, 4), (3, 5), (4, 4), (6, 3), (7, 1)])
def test_expected_warp_is_the_mean_of_warp_over_all_sequences_of_draws(
    weighting: str, items: int, draws: int
) -> None:
    generator = torch.Generator().manual_seed(items)
    sequences = torch.tensor(list(itertools.product(range(items), repeat=draws)))
    for _ in range(8):
        positive = grid(generator, 1).requires_grad_()
        catalogue = grid(generator, 1, items).requires_grad_()
        mask = torch.rand(1, items, generator=generator) > 0.25
        enumerated = warp(
            positive.expand(len(sequences)),
            catalogue[0, sequences],
            num_items=items,
            weighting=weighting,
            mask=mask[0, sequences],
        )
        exact = expected_warp(
            positive,
            catalogue,
            weighting=weighting,
            max_trials=draws,
            mask=mask,
        )
        torch.testing.assert_close(exact, enumerated, rtol=1e-12, atol=1e-14)
        torch.testing.assert_close(
            torch.autograd.grad(exact, (positive, catalogue)),
            torch.autograd.grad(enumerated, (positive, catalogue)),
            rtol=1e-12,
            atol=1e-14,
        )


def expected_loop(
    positive: float, catalogue: list[float], weighting: str, max_trials: int | None, margin: float
) -> float:
    """The definition: a sum over the violators and over every number of trials."""
    items = len(catalogue)
    excess = [margin - positive + n for n in catalogue if n > positive - margin]
    total = 0.0
    for trials in range(1, min(max_trials or items, items) + 1):
        miss = 1.0 - len(excess) / items
        chance = miss ** (trials - 1) * len(excess) / items
        total += chance * weight_of((items - 1) // trials, weighting)
    return sum(total / len(excess) * e for e in excess)


@pytest.mark.parametrize("weighting", WEIGHTINGS)
@pytest.mark.parametrize("max_trials", [None, 1, 2, 10, 30, 37, 38, 500])
def test_expected_warp_is_the_sum_over_every_number_of_trials(
    weighting: str, max_trials: int | None
) -> None:
    generator = torch.Generator().manual_seed(9)
    for items in (1, 2, 5, 37, 38):
        positive, catalogue = grid(generator, 12) + 1.5, grid(generator, 12, items)
        value = expected_warp(
            positive,
            catalogue,
            weighting=weighting,
            max_trials=max_trials,
            margin=0.5,
            reduction="none",
        )
        wanted = [
            expected_loop(float(p), row.tolist(), weighting, max_trials, 0.5)
            for p, row in zip(positive, catalogue, strict=True)
        ]
        torch.testing.assert_close(value, torch.tensor(wanted, dtype=torch.float64))


def test_expected_warp_is_what_sampled_warp_averages_to() -> None:
    generator = torch.Generator().manual_seed(1)
    positive, catalogue = torch.tensor([1.5]), torch.randn(1, 60, generator=generator)
    mask = torch.rand(1, 60, generator=generator) > 0.2
    draws = torch.randint(60, (200_000, 10), generator=generator)
    costs = warp(
        positive.expand(len(draws)),
        catalogue[0, draws],
        num_items=60,
        mask=mask[0, draws],
        reduction="none",
    )
    exact = expected_warp(positive, catalogue, max_trials=10, mask=mask)
    standard_error = float(costs.std()) / math.sqrt(len(draws))
    assert abs(float(costs.mean() - exact)) < 4 * standard_error
    unbounded = expected_warp(positive, catalogue, mask=mask)
    assert abs(float(costs.mean() - unbounded)) > 4 * standard_error  # the test can tell


def test_expected_warp_of_one_trial_is_the_mean_hinge() -> None:
    generator = torch.Generator().manual_seed(8)
    positive = torch.randn(9, generator=generator, dtype=torch.float64)
    catalogue = torch.randn(9, 21, generator=generator, dtype=torch.float64)
    value = expected_warp(positive, catalogue, max_trials=1)
    hinge = F.relu(1.0 - positive.unsqueeze(-1) + catalogue).mean()
    torch.testing.assert_close(value, math.log(20) * hinge)


def test_expected_warp_without_a_violator_costs_exactly_zero_and_is_still_counted() -> None:
    positive = torch.tensor([9.0, 0.0], requires_grad=True)
    value = expected_warp(positive, torch.zeros(2, 8))
    (slope,) = torch.autograd.grad(value, positive)
    torch.testing.assert_close(value.detach(), torch.tensor(math.log(7) / 2))
    torch.testing.assert_close(slope, torch.tensor([0.0, -math.log(7) / 2]))


def test_expected_warp_is_accurate_in_float32_over_a_large_catalogue() -> None:
    generator = torch.Generator().manual_seed(2)
    catalogue = torch.randn(3, 50_000, generator=generator)
    positive = torch.tensor([5.0, 3.0, -9.0])  # a handful, a few hundred, and all items violate
    for weighting in WEIGHTINGS:
        single = expected_warp(positive, catalogue, weighting=weighting, reduction="none")
        double = expected_warp(
            positive.double(),
            catalogue.double(),
            weighting=weighting,
            reduction="none",
        )
        torch.testing.assert_close(single.double(), double, rtol=1e-4, atol=0.0)


def test_expected_warp_a_nan_shows_where_it_counts() -> None:
    assert bool(expected_warp(torch.zeros(1), torch.tensor([[0.0, math.nan]])).isnan())


def test_expected_warp_errors_say_what_to_do() -> None:
    p, n = torch.zeros(3), torch.zeros(3, 2)
    with pytest.raises(ValueError, match=r"positive \(3, 1\) must have the shape of catalogue"):
        expected_warp(p.unsqueeze(-1), n)
    with pytest.raises(ValueError, match=r"catalogue \(3, 0\) needs at least one item"):
        expected_warp(p, torch.zeros(3, 0))
    with pytest.raises(ValueError, match="max_trials must be at least 1; got 0"):
        expected_warp(p, n, max_trials=0)
    with pytest.raises(ValueError, match=r"margin must lie in \[0, inf\); got -1"):
        expected_warp(p, n, margin=-1.0)
