from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from lossmith.losses.ranking import (
    list_mle,
    listnet,
    pairwise_exponential,
    pairwise_hinge,
    pairwise_squared_hinge,
    ranknet,
)

exp, log, inf, nan = math.exp, math.log, math.inf, math.nan
SEEDS = range(12)
Loss = Callable[..., Tensor]
PAIRWISE: list[Loss] = [ranknet, pairwise_hinge, pairwise_squared_hinge, pairwise_exponential]
ALL: list[Loss] = [*PAIRWISE, listnet, list_mle]


def logistic(gap: Tensor) -> Tensor:
    return (1 + (-gap).exp()).log()


def margin_cost(gap: Tensor) -> Tensor:
    return 1 - gap if gap < 1 else 0 * gap


def random(seed: int, *shape: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64).requires_grad_()


def grades(seed: int, *shape: int) -> Tensor:
    """Grades from 0 to 3, so that there are ties."""
    return torch.randint(0, 4, shape, generator=torch.Generator().manual_seed(1000 + seed))


def uniform(seed: int, *shape: int) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(2000 + seed))


def gradient(value: Tensor, x: Tensor) -> Tensor:
    return torch.autograd.grad(value.sum(), x, retain_graph=True)[0]


def assert_same(ours: Tensor, theirs: Tensor, x: Tensor) -> None:
    torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-10)
    direction = torch.arange(1.0, ours.numel() + 1, dtype=ours.dtype).reshape(ours.shape)
    torch.testing.assert_close(
        gradient(ours * direction, x), gradient(theirs * direction, x), rtol=1e-10, atol=1e-10
    )


def loop_pairs(
    cost: Callable[[Tensor], Tensor], scores: Tensor, relevance: Tensor, mask: Tensor
) -> tuple[Tensor, list[int]]:
    """The sum over the pairs of each list, and how many there are."""
    sums, counts = [], []
    for s, y, real in zip(scores, relevance, mask, strict=True):
        terms = [
            cost(s[i] - s[j])
            for i in range(len(s))
            for j in range(len(s))
            if real[i] and real[j] and y[i] > y[j]
        ]
        sums.append(sum(terms, 0 * s.sum()))
        counts.append(len(terms))
    return torch.stack(sums), counts


@pytest.mark.parametrize(
    ("loss", "cost"),
    [
        (ranknet, logistic),
        (pairwise_hinge, margin_cost),
        (pairwise_squared_hinge, lambda gap: margin_cost(gap) ** 2),
        (pairwise_exponential, lambda gap: (-gap).exp()),
    ],
    ids=["ranknet", "hinge", "squared hinge", "exponential"],
)
@pytest.mark.parametrize("seed", SEEDS)
def test_pairwise_losses_equal_a_loop(
    loss: Loss, cost: Callable[[Tensor], Tensor], seed: int
) -> None:
    scores, relevance = random(seed, 4, 6), grades(seed, 4, 6)
    mask, weight = uniform(seed, 4, 6) > 0.3, uniform(seed + 1, 4).double()
    sums, counts = loop_pairs(cost, scores, relevance, mask)
    kept = {"mask": mask, "weight": weight}
    assert_same(loss(scores, relevance, reduction="none", **kept), sums * weight, scores)
    assert_same(loss(scores, relevance, **kept), (sums * weight).sum() / sum(counts), scores)


@pytest.mark.parametrize("seed", SEEDS)
def test_list_mle_equals_a_loop(seed: int) -> None:
    scores, relevance = random(seed, 4, 6), grades(seed, 4, 6)
    mask, weight = uniform(seed, 4, 6) > 0.3, uniform(seed + 1, 4).double()
    mask[1] = False
    costs = []
    for s, y, real, w in zip(scores, relevance, mask, weight, strict=True):
        kept = [i for i in range(6) if real[i]]
        terms = [
            (s[i].exp() / sum((s[j].exp() for j in kept if y[j] < y[i]), s[i].exp())).log()
            for i in kept
        ]
        costs.append(-w * sum(terms, 0 * s.sum()))
    expected = torch.stack(costs)
    kept_arguments = {"mask": mask, "weight": weight}
    assert_same(list_mle(scores, relevance, reduction="none", **kept_arguments), expected, scores)
    lists = int(mask.any(-1).sum())
    assert_same(list_mle(scores, relevance, **kept_arguments), expected.sum() / lists, scores)


def test_list_mle_is_plackett_luce_where_nothing_is_tied() -> None:
    """The probabilities of all orders of four items sum to 1."""
    scores = random(20, 1, 4)
    total = 0.0
    for order in itertools.permutations(range(4)):
        total = total + (-list_mle(scores, torch.tensor([order]))).exp()
    torch.testing.assert_close(total, torch.ones_like(total))


def test_list_mle_limits() -> None:
    scores = random(21, 5, 2)
    relevance = torch.tensor([[1, 0]]).expand(5, 2)
    two = ranknet(scores, relevance)
    assert_same(list_mle(scores, relevance), two, scores)
    many, target = random(22, 6, 5), torch.tensor([0, 4, 2, 2, 1, 3])
    one = F.one_hot(target, 5)
    assert_same(list_mle(many, one), F.cross_entropy(many, target), many)


def test_list_mle_does_not_learn_the_order_of_its_input() -> None:
    scores = random(23, 1, 4)
    value = list_mle(scores, torch.tensor([[2, 2, 2, 2]]))
    assert value == 0
    assert (gradient(value, scores) == 0).all()
    level = torch.zeros(1, 4, dtype=torch.float64, requires_grad=True)
    found = gradient(list_mle(level, torch.tensor([[1, 0, 1, 0]])), level)
    assert found[0, 0] == found[0, 2] and found[0, 1] == found[0, 3]


def test_squared_hinge_with_a_margin_above_every_gap_is_a_mean_of_squares() -> None:
    scores, relevance = random(24, 3, 5), grades(24, 3, 5)
    squares, counts = loop_pairs(lambda gap: (50 - gap) ** 2, scores, relevance, relevance > -1)
    ours = pairwise_squared_hinge(scores, relevance, margin=50.0)
    assert_same(ours, sum(squares) / sum(counts), scores)


def test_exponential_costs_past_their_bound_stay_finite_and_point_the_right_way() -> None:
    scores = torch.tensor([[0.0, 1e4, 30.0]], requires_grad=True)
    value = pairwise_exponential(scores, torch.tensor([[2, 1, 0]]), reduction="sum")
    assert value.log().item() == pytest.approx(80.0)
    found = gradient(value, scores)[0]
    assert found.isfinite().all()
    assert found[0] < 0 < found[1]


@pytest.mark.parametrize("seed", SEEDS)
def test_listnet_equals_a_loop(seed: int) -> None:
    scores, relevance = random(seed, 4, 6), grades(seed, 4, 6)
    mask, weight = uniform(seed, 4, 6) > 0.5, uniform(seed + 1, 4).double()
    mask[1] = False
    costs, lists = [], 0
    for s, y, real, w in zip(scores, relevance, mask, weight, strict=True):
        kept = [i for i in range(6) if real[i]]
        lists += bool(kept)
        over, under = sum(exp(y[i]) for i in kept), sum(s[i].exp() for i in kept)
        terms = [exp(y[i]) / over * (s[i].exp() / under).log() for i in kept]
        costs.append(-w * sum(terms, 0 * s.sum()))
    expected = torch.stack(costs)
    kept = {"mask": mask, "weight": weight}
    assert_same(listnet(scores, relevance, reduction="none", **kept), expected, scores)
    assert_same(listnet(scores, relevance, **kept), expected.sum() / lists, scores)


def test_golden_values() -> None:
    scores = torch.tensor([[0.0, 3.0, 1.0]], dtype=torch.float64)
    relevance = torch.tensor([[2, 0, 1]])
    gaps = [0 - 3, 0 - 1, 1 - 3]
    assert ranknet(scores, relevance).item() == pytest.approx(
        sum(log(1 + exp(-gap)) for gap in gaps) / 3
    )
    assert pairwise_hinge(scores, relevance).item() == pytest.approx((4 + 2 + 3) / 3)
    squares = pairwise_squared_hinge(scores, relevance)
    assert squares.item() == pytest.approx((16 + 4 + 9) / 3)
    exponentials = pairwise_exponential(scores, relevance)
    assert exponentials.item() == pytest.approx((exp(3) + exp(1) + exp(2)) / 3)
    assert pairwise_hinge(scores, relevance, margin=0).item() == pytest.approx((3 + 1 + 2) / 3)
    over, under = exp(2) + exp(0) + exp(1), exp(0) + exp(3) + exp(1)
    q = [exp(2) / over, exp(0) / over, exp(1) / over]
    assert listnet(scores, relevance).item() == pytest.approx(
        -sum(w * log(exp(s) / under) for w, s in zip(q, [0, 3, 1], strict=True))
    )


@pytest.mark.parametrize("dtype", [torch.int64, torch.uint8, torch.float32, torch.bool])
@pytest.mark.parametrize("loss", ALL)
def test_relevance_may_be_of_any_type(loss: Loss, dtype: torch.dtype) -> None:
    scores, relevance = random(1, 3, 5), grades(1, 3, 5) > 1
    mask = uniform(1, 3, 5) > 0.3
    expected = loss(scores, relevance.double(), mask=mask)
    torch.testing.assert_close(loss(scores, relevance.to(dtype), mask=mask), expected)


def test_two_items_tie_the_pairwise_losses_to_classification() -> None:
    scores = random(2, 30, 2)
    relevance = torch.tensor([[1, 0]]).expand(30, 2)
    gap = scores[:, 0] - scores[:, 1]
    one = torch.ones_like(gap)
    assert_same(ranknet(scores, relevance), F.binary_cross_entropy_with_logits(gap, one), scores)
    assert_same(pairwise_hinge(scores, relevance), (1 - gap).clamp(min=0).mean(), scores)


def test_listnet_with_one_grade_far_above_the_rest_is_cross_entropy() -> None:
    scores, target = random(3, 6, 5), torch.tensor([0, 4, 2, 2, 1, 3])
    relevance = 1e3 * F.one_hot(target, 5)
    assert_same(listnet(scores, relevance), F.cross_entropy(scores, target), scores)


def test_listnet_is_least_at_the_relevance_itself() -> None:
    relevance = grades(4, 3, 5).double()
    scores = (relevance + 7.0).requires_grad_()  # shifts change nothing
    value = listnet(scores, relevance, reduction="none")
    entropy = -(relevance.softmax(-1) * relevance.log_softmax(-1)).sum(-1)
    torch.testing.assert_close(value, entropy)
    torch.testing.assert_close(gradient(value, scores), torch.zeros_like(scores))


@pytest.mark.parametrize("loss", ALL)
def test_shifts_and_the_order_of_items_change_nothing(loss: Loss) -> None:
    scores, relevance, mask = random(5, 3, 6), grades(5, 3, 6), uniform(5, 3, 6) > 0.2
    value = loss(scores, relevance, mask=mask)
    shifted = loss(scores + torch.tensor([[5.0], [-3.0], [100.0]]), relevance, mask=mask)
    assert_same(shifted, value, scores)
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    assert_same(loss(scores[:, order], relevance[:, order], mask=mask[:, order]), value, scores)


@pytest.mark.parametrize("loss", PAIRWISE)
def test_ties_in_relevance_are_no_pair(loss: Loss) -> None:
    scores = random(6, 2, 4)
    relevance = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0]])
    each = loss(scores, relevance, reduction="none")
    assert each[0] == 0
    assert (gradient(each[0], scores) == 0).all()
    # The four pairs of the second list are all the mean divides by.
    assert_same(loss(scores, relevance), each.sum() / 4, scores)


@pytest.mark.parametrize("loss", PAIRWISE)
def test_only_the_order_of_the_grades_matters(loss: Loss) -> None:
    scores, relevance = random(7, 3, 6), grades(7, 3, 6)
    assert torch.equal(loss(scores, 10 * relevance**3 - 7), loss(scores, relevance))


@pytest.mark.parametrize("loss", PAIRWISE)
@pytest.mark.parametrize("relevance", [[[0, 0, 0]], [[2, 2, 2]]])
def test_without_a_pair_the_value_is_zero_and_teaches_nothing(
    loss: Loss, relevance: list[list[int]]
) -> None:
    scores = random(8, 1, 3)
    value = loss(scores, torch.tensor(relevance))
    assert value == 0
    assert (gradient(value, scores) == 0).all()


@pytest.mark.parametrize("loss", ALL)
def test_a_list_without_items_or_with_one_costs_nothing(loss: Loss) -> None:
    scores, relevance = random(9, 3, 4), torch.tensor([[3, 2, 1, 0]]).repeat(3, 1)
    mask = torch.tensor([[False] * 4, [True, False, False, False], [True] * 4])
    each = loss(scores, relevance, mask=mask, reduction="none")
    assert each[:2].tolist() == [0.0, 0.0]
    assert each[2] > 0
    assert (gradient(each, scores)[:2] == 0).all()
    nothing = loss(scores, relevance, mask=torch.zeros_like(mask))
    assert nothing == 0
    assert (gradient(nothing, scores) == 0).all()


@pytest.mark.parametrize("loss", ALL)
def test_a_list_of_padding_makes_no_nan_even_on_the_way(loss: Loss) -> None:
    scores = torch.tensor([[nan, inf], [0.0, 1.0]], requires_grad=True)
    relevance = torch.tensor([[nan, -inf], [1.0, 0.0]])
    mask = torch.tensor([[False, False], [True, True]])
    with torch.autograd.set_detect_anomaly(True):
        value = loss(scores, relevance, mask=mask)
        found = gradient(value, scores)
    torch.testing.assert_close(value, loss(scores[1:], relevance[1:]))
    assert found[0].tolist() == [0.0, 0.0]
    assert found[1].isfinite().all()


def test_listnet_counts_a_list_of_one_item_and_no_list_of_none() -> None:
    scores, relevance = random(10, 3, 2), torch.tensor([[1, 0]]).repeat(3, 1)
    mask = torch.tensor([[False, False], [True, False], [True, True]])
    alone = listnet(scores[2:], relevance[2:])
    assert_same(listnet(scores, relevance, mask=mask), alone / 2, scores)


@pytest.mark.parametrize("poison", [nan, inf, -inf, 1e30])
@pytest.mark.parametrize("loss", ALL)
def test_padding_is_inert(loss: Loss, poison: float) -> None:
    scores, relevance = random(11, 2, 3).detach(), grades(11, 2, 3).double()
    expected = loss(scores, relevance, reduction="none")
    padding = torch.full((2, 2), poison, dtype=torch.float64)
    padded = torch.cat([scores, padding], dim=-1).requires_grad_()
    value = loss(
        padded,
        torch.cat([relevance, padding], dim=-1),
        mask=torch.tensor([True, True, True, False, False]).expand(2, 5),
        reduction="none",
    )
    torch.testing.assert_close(value, expected)
    found = gradient(value, padded)
    assert (found[:, 3:] == 0).all()
    assert found.isfinite().all()


@pytest.mark.parametrize("size", [30.0, 200.0, 1e4, 1e30])
def test_far_scores_in_the_wrong_order_keep_their_full_gradient(size: float) -> None:
    scores = torch.tensor([[0.0, size]], requires_grad=True)
    relevance = torch.tensor([[1, 0]])
    for loss in (ranknet, pairwise_hinge):
        value = loss(scores, relevance)
        assert value.item() == pytest.approx(size + (loss is pairwise_hinge))
        assert gradient(value, scores)[0].tolist() == pytest.approx([-1.0, 1.0])
    value = listnet(scores, relevance)
    # softmax(s) - softmax(y), with softmax(s) = (0, 1)
    right = 1 - 1 / (exp(1) + 1)
    assert gradient(value, scores)[0].tolist() == pytest.approx([-right, right])


def test_far_scores_in_the_right_order_cost_nothing() -> None:
    scores = torch.tensor([[1e4, 0.0, -inf]], requires_grad=True)
    for loss in PAIRWISE:
        value = loss(scores, torch.tensor([[2, 1, 0]]))
        assert value.item() == 0.0
        assert (gradient(value, scores) == 0).all()


def test_the_margin_of_pairwise_hinge_is_where_the_pull_ends() -> None:
    scores = torch.tensor([[2.0, 0.0]], requires_grad=True)
    relevance = torch.tensor([[1, 0]])
    for margin, cost, pull in ((1.0, 0.0, 0.0), (2.5, 0.5, -1.0)):
        value = pairwise_hinge(scores, relevance, margin=margin)
        assert value.item() == pytest.approx(cost)
        assert gradient(value, scores)[0, 0].item() == pull


@pytest.mark.parametrize("loss", PAIRWISE)
def test_the_mean_pools_pairs_and_weights_make_lists_count_alike(loss: Loss) -> None:
    scores = random(12, 2, 4)
    relevance = torch.tensor([[1, 0, 0, 0], [1, 0, 0, 0]])
    mask = torch.tensor([[True] * 4, [True, True, False, False]])
    each = loss(scores, relevance, mask=mask, reduction="none")
    assert_same(loss(scores, relevance, mask=mask), each.sum() / (3 + 1), scores)
    alike = loss(scores, relevance, mask=mask, weight=1 / torch.tensor([3.0, 1.0]), divisor=2)
    torch.testing.assert_close(alike, (each[0] / 3 + each[1] / 1) / 2)


@pytest.mark.parametrize("loss", PAIRWISE)
def test_lists_cut_into_parts_add_up_with_the_pairs_of_the_whole(loss: Loss) -> None:
    scores, relevance = random(13, 5, 4), grades(13, 5, 4)
    pairs = (relevance.unsqueeze(-1) > relevance.unsqueeze(-2)).sum()
    parts = [loss(scores[i], relevance[i], divisor=pairs) for i in (slice(0, 2), slice(2, 5))]
    assert_same(parts[0] + parts[1], loss(scores, relevance), scores)


@pytest.mark.parametrize("loss", ALL)
def test_any_leading_dimensions(loss: Loss) -> None:
    scores, relevance = random(14, 2, 3, 4), grades(14, 2, 3, 4)
    flat = loss(scores.flatten(0, 1), relevance.flatten(0, 1), reduction="none")
    assert_same(loss(scores, relevance, reduction="none"), flat.reshape(2, 3), scores)
    assert_same(loss(scores[0, 0], relevance[0, 0], reduction="none"), flat[0], scores)


@pytest.mark.parametrize("loss", ALL)
def test_gradients_pass_gradcheck(loss: Loss) -> None:
    relevance, mask = grades(16, 2, 5), uniform(16, 2, 5) > 0.2
    assert torch.autograd.gradcheck(lambda s: loss(s, relevance, mask=mask), (random(16, 2, 5),))


@pytest.mark.parametrize("loss", ALL)
def test_errors_say_what_and_where(loss: Loss) -> None:
    scores = torch.zeros(2, 3)
    with pytest.raises(ValueError, match=r"scores \(2, 3\) and relevance \(2,\)"):
        loss(scores, torch.zeros(2))
    with pytest.raises(ValueError, match=r"weight \(2, 3\) must have the shape of scores \(2, 3\)"):
        loss(scores, torch.zeros(2, 3), weight=torch.ones(2, 3))
    with pytest.raises(ValueError, match=r"relevance\[0, 1\] is nan; expected a finite grade"):
        loss(scores, torch.tensor([[0.0, nan, 1.0], [0.0, 0.0, 0.0]]))
    with pytest.raises(TypeError, match=r"mask must be bool, True = real; got torch\.int64"):
        loss(scores, torch.zeros(2, 3), mask=torch.ones(2, 3, dtype=torch.long))
    with pytest.raises(TypeError, match=r"scores must be floating point"):
        loss(scores.long(), torch.zeros(2, 3))


def test_a_negative_margin_is_refused() -> None:
    with pytest.raises(ValueError, match=r"margin must lie in \[0, inf\); got -1"):
        pairwise_hinge(torch.zeros(1, 2), torch.tensor([[1, 0]]), margin=-1)
