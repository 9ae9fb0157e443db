"""The fast sums against the pairs themselves, one by one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import product

import pytest
import torch
from torch import Tensor

import lossmith as lm
from lossmith.kernels import lambda_pairs, pair_sums, soft_ranks
from lossmith.kernels.below import bounded_exp, log_sum_below
from lossmith.kernels.pair_sums import SURROGATES, Surrogate, all_pairs, pair_costs

FAST: list[Surrogate] = ["logistic", "hinge", "squared_hinge"]
fast = pytest.mark.parametrize("surrogate", FAST)


@pytest.fixture(autouse=True)
def no_list_is_short(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for surrogate in FAST:
        monkeypatch.setitem(pair_sums.ALL_PAIRS_UP_TO, surrogate, 0)
    monkeypatch.setattr(soft_ranks, "ALL_PAIRS_UP_TO", 0)
    yield


def lists(seed: int, rows: int, n: int, grades: int, scale: float) -> tuple[Tensor, ...]:
    generator = torch.Generator().manual_seed(seed)
    scores = torch.randn(rows, n, generator=generator, dtype=torch.float64) * scale
    scores[0, : n // 4] = scores[0, 0]  # duplicates
    relevance = torch.randint(grades, (rows, n), generator=generator)
    items = torch.rand(rows, n, generator=generator) > 0.2
    items[-1, n // 2 :] = False
    return scores.requires_grad_(), relevance, items


def assert_as_the_pairs(
    scores: Tensor, relevance: Tensor, items: Tensor, surrogate: Surrogate, **more: float
) -> None:
    ours, pairs = pair_costs(scores, relevance, items, surrogate, **more)
    theirs, count = all_pairs(scores, relevance, items, surrogate, **more)
    assert torch.equal(pairs, count)
    torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-10 * (1 + float(count.max())))
    (mine,) = torch.autograd.grad(ours.sum(), scores)
    (right,) = torch.autograd.grad(theirs.sum(), scores)
    size = scores.shape[-1] + float(right.abs().max())
    torch.testing.assert_close(mine, right, rtol=1e-10, atol=1e-11 * size)


@fast
@pytest.mark.parametrize(
    ("shape", "grades", "scale"),
    [
        *product([(3, 9), (2, 150)], [1, 2, 5, 10_000], [1e-3, 3.0, 100.0]),
        ((1, 300), 2, 1e4),
        ((1, 300), 40, 1e6),
        ((1, 200), 3, 0.0),
        ((2, 1), 2, 1.0),
    ],
)
def test_sums_and_gradients_are_those_of_the_pairs(
    surrogate: Surrogate, shape: tuple[int, int], grades: int, scale: float
) -> None:
    for seed in range(3):
        assert_as_the_pairs(*lists(seed, *shape, grades, scale), surrogate)


@pytest.mark.parametrize("margin", [0.0, 0.3, 7.5])
@pytest.mark.parametrize("surrogate", ["hinge", "squared_hinge"])
def test_margins(surrogate: Surrogate, margin: float) -> None:
    scores, relevance, items = lists(4, 2, 80, 4, 3.0)
    if margin == 0.0:  # at a tie the slope of a hinge may be anything from 0 to 1
        scores = torch.randn_like(scores).requires_grad_()
    assert_as_the_pairs(scores, relevance, items, surrogate, margin=margin)


@fast
def test_whole_scores_meet_the_margin_exactly(surrogate: Surrogate) -> None:
    _, relevance, items = lists(5, 3, 60, 3, 1.0)
    scores = torch.randint(-3, 4, (3, 60), generator=torch.Generator().manual_seed(5)).double()
    assert_as_the_pairs(scores.requires_grad_(), relevance, items, surrogate)


@fast
def test_panels_of_a_grade_with_many_and_of_one_with_few(surrogate: Surrogate) -> None:
    scores, _, items = lists(6, 2, 200, 2, 4.0)
    relevance = (torch.arange(200) - 120).clamp(min=0).expand(2, 200) // 3
    assert_as_the_pairs(scores, relevance, items, surrogate)


@pytest.mark.parametrize("far", [1e8, 1e20, 1e30, float("inf")])
@pytest.mark.parametrize("sign", [-1.0, 1.0])
def test_one_score_far_away_does_not_blur_the_rest(far: float, sign: float) -> None:
    scores, relevance, items = lists(7, 1, 120, 2, 2.0)
    alone = torch.cat([scores, torch.full((1, 1), sign * far, dtype=torch.float64)], dim=-1)
    # Where it belongs: above all, or below all.
    its_grade = torch.full((1, 1), 9 if sign > 0 else -9)
    relevance_of_all = torch.cat([relevance, its_grade], dim=-1)
    items_of_all = torch.cat([items, torch.ones(1, 1, dtype=torch.bool)], dim=-1)
    for surrogate in ("logistic", "hinge"):
        ours, _ = pair_costs(alone, relevance_of_all, items_of_all, surrogate)  # type: ignore[arg-type]
        theirs, _ = all_pairs(scores, relevance, items, surrogate)  # type: ignore[arg-type]
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=0)
        (gradient,) = torch.autograd.grad(ours.sum(), scores)
        (right,) = torch.autograd.grad(theirs.sum(), scores)
        torch.testing.assert_close(gradient, right, rtol=1e-9, atol=1e-9)


@fast
def test_a_million_times_the_same_offset_in_float32(surrogate: Surrogate) -> None:
    """Prefix sums of scores with a common offset lose digits unless they are centred."""
    generator = torch.Generator().manual_seed(8)
    scores = (torch.randn(1, 400, generator=generator) * 64).round() / 64
    relevance = torch.randint(3, (1, 400), generator=generator)
    items = torch.ones_like(relevance, dtype=torch.bool)
    near, _ = pair_costs(scores, relevance, items, surrogate)
    far, _ = pair_costs(scores + 2.0**16, relevance, items, surrogate)
    torch.testing.assert_close(far, near, rtol=1e-7, atol=0)


@fast
def test_one_grade_is_exactly_zero(surrogate: Surrogate) -> None:
    scores, relevance, items = lists(9, 3, 50, 1, 3.0)
    cost, pairs = pair_costs(scores, relevance, items, surrogate)
    assert not cost.any() and not pairs.any()
    assert not torch.autograd.grad(cost.sum(), scores)[0].any()


@fast
def test_a_nan_shows_in_its_list_and_nowhere_else(surrogate: Surrogate) -> None:
    scores, relevance, items = lists(10, 3, 50, 3, 3.0)
    items[1, 7] = True
    broken = scores.detach().clone()
    broken[1, 7] = float("nan")
    broken[0, (~items[0]).nonzero()[0]] = float("nan")  # padding
    broken.requires_grad_()
    cost, _ = pair_costs(broken, relevance, items, surrogate)
    (gradient,) = torch.autograd.grad(cost.sum(), broken)
    clean, _ = pair_costs(scores, relevance, items, surrogate)
    assert cost.isnan().tolist() == [False, True, False]
    torch.testing.assert_close(cost[[0, 2]], clean[[0, 2]])
    assert gradient[[0, 2]].isfinite().all() and gradient[1].isnan().all()


@fast
def test_the_same_input_gives_the_same_bits(surrogate: Surrogate) -> None:
    scores, relevance, items = lists(11, 4, 300, 5, 3.0)
    first, second = (pair_costs(scores, relevance, items, surrogate)[0] for _ in range(2))
    assert torch.equal(first, second)


LOSSES: dict[str, Callable[..., Tensor]] = {
    name: getattr(lm, name)
    for name in (
        "ranknet",
        "pairwise_hinge",
        "pairwise_squared_hinge",
        "pairwise_exponential",
        "list_mle",
        "lambda_loss",
        "approx_ndcg",
    )
}
every_loss = pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)


@every_loss
def test_long_lists_compile_map_and_pass_gradcheck(loss: Callable[..., Tensor]) -> None:
    scores, relevance, items = lists(12, 2, 30, 4, 2.0)
    scores = torch.randn_like(scores, dtype=torch.float64)

    def call(x: Tensor) -> Tensor:
        return loss(x, relevance, mask=items)

    stacked = torch.stack([scores, 3.0 * scores])
    gradients, values = torch.func.vmap(torch.func.grad_and_value(call))(stacked)
    torch.compiler.reset()
    compiled = torch.compile(call, fullgraph=True, backend="aot_eager")
    for x, gradient, value in zip(stacked, gradients, values, strict=True):
        x = x.clone().requires_grad_()
        right = call(x)
        (slope,) = torch.autograd.grad(right, x)
        torch.testing.assert_close(value, right.detach())
        torch.testing.assert_close(gradient, slope)
        again = compiled(x)
        torch.testing.assert_close(again, right)
        torch.testing.assert_close(torch.autograd.grad(again, x)[0], slope)
    assert torch.autograd.gradcheck(call, (scores.requires_grad_(),))


@pytest.mark.parametrize("name", ["ranknet", "pairwise_hinge", "lambda_loss", "approx_ndcg"])
def test_a_second_derivative_is_refused_and_not_zero(name: str) -> None:
    scores, relevance, items = lists(13, 2, 30, 4, 2.0)
    value = LOSSES[name](scores, relevance, mask=items)
    (slope,) = torch.autograd.grad(value, scores, create_graph=True)
    with pytest.raises(RuntimeError, match="first derivative only"):
        slope.square().sum().backward()


@every_loss
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_summed_in_more(loss: Callable[..., Tensor], dtype: torch.dtype) -> None:
    scores, relevance, items = lists(14, 2, 90, 4, 2.0)
    half = scores.detach().to(dtype)
    value = loss(half, relevance, mask=items)
    assert value.dtype is torch.float32
    torch.testing.assert_close(value, loss(half.float(), relevance, mask=items))


@pytest.mark.parametrize("scale", [0.0, 1e-3, 1.0, 50.0, 1e6])
def test_soft_ranks_are_those_of_the_pairs(scale: float, monkeypatch: pytest.MonkeyPatch) -> None:
    scores, _, items = lists(15, 3, 100, 2, scale)
    direction = torch.randn_like(scores) * items
    ours = soft_ranks.soft_ranks(scores, items)
    (mine,) = torch.autograd.grad((ours * direction).sum(), scores)
    monkeypatch.setattr(soft_ranks, "ALL_PAIRS_UP_TO", 2**30)
    theirs = soft_ranks.soft_ranks(scores, items)
    (right,) = torch.autograd.grad((theirs * direction).sum(), scores)
    torch.testing.assert_close(ours * items, theirs * items, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(mine, right, rtol=1e-8, atol=1e-8)


def test_log_sum_below_is_a_loop() -> None:
    scores, relevance, items = lists(16, 4, 12, 3, 5.0)
    below, pairs = log_sum_below(scores, relevance, items)
    for r in range(4):
        count = 0
        for i in range(12):
            under = items[r] & (relevance[r] < relevance[r, i])
            if items[r, i]:
                count += int(under.sum())
            if items[r, i] and under.any():
                torch.testing.assert_close(below[r, i], scores[r][under].logsumexp(0))
            else:
                assert below[r, i] == -torch.inf
        assert pairs[r] == count


def test_bounded_exp_keeps_the_direction_past_its_bound() -> None:
    terms = torch.tensor([[1.0, 2.0], [3000.0, 3001.0]], dtype=torch.float64, requires_grad=True)
    value = bounded_exp(terms)
    torch.testing.assert_close(value[0], terms[0].exp().sum())
    torch.testing.assert_close(value[1].log(), torch.tensor(80.0, dtype=torch.float64))
    (gradient,) = torch.autograd.grad(value.sum(), terms)
    torch.testing.assert_close(gradient[0], terms[0].exp())
    torch.testing.assert_close(gradient[1] / gradient[1].sum(), terms[1].softmax(-1))


@pytest.mark.parametrize("k", [None, 1, 7])
@pytest.mark.parametrize("weighting", lambda_pairs.LAMBDA_WEIGHTINGS)
def test_blocks_do_not_change_lambda_costs(
    weighting: str, k: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    scores, relevance, items = lists(17, 3, 40, 4, 1.0)
    results = []
    for block in (1, 500, 2**20):
        monkeypatch.setattr(lambda_pairs, "BLOCK", block)
        value = lm.lambda_loss(scores, relevance, weighting=weighting, k=k, mask=items)
        results.append((value, torch.autograd.grad(value, scores)[0]))
    for value, gradient in results[1:]:
        torch.testing.assert_close(value, results[0][0])
        torch.testing.assert_close(gradient, results[0][1])


def test_memory_stays_linear_where_lists_are_long() -> None:
    largest = 0

    def note(tensor: Tensor) -> Tensor:
        nonlocal largest
        largest = max(largest, tensor.numel())
        return tensor

    scores, relevance, items = lists(18, 3, 200, 4, 1.0)
    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        for loss in LOSSES.values():
            loss(scores, relevance, mask=items).backward()
    assert largest <= scores.numel()


def test_every_surrogate_has_its_own_value() -> None:
    scores, relevance, items = lists(19, 1, 20, 3, 1.0)
    values = {float(pair_costs(scores, relevance, items, s)[0].detach()) for s in SURROGATES}
    assert len(values) == len(SURROGATES)


def test_soft_ranks_of_lists_without_items_and_a_second_backward_pass() -> None:
    scores = torch.randn(3, 5, generator=torch.Generator().manual_seed(1)).requires_grad_()
    none = torch.zeros(3, 5, dtype=torch.bool)
    ranks = soft_ranks.soft_ranks(scores, none)
    (gradient,) = torch.autograd.grad(ranks.sum(), scores)
    assert torch.equal(ranks, torch.ones(3, 5)) and not gradient.any()
    value = soft_ranks.soft_ranks(scores, ~none).square().sum()
    (first,) = torch.autograd.grad(value, scores, retain_graph=True)
    (second,) = torch.autograd.grad(value, scores)
    assert torch.equal(first, second) and bool(first.any())
