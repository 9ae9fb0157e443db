"""WARP of a factor model in one step, against its parts and against plain loops."""

from __future__ import annotations

import math

import pytest
import torch

from lossmith.kernels.dot_scores import dot_scores
from lossmith.kernels.factor_warp import factor_warp, warp_step
from lossmith.kernels.known_items import KnownItems
from lossmith.kernels.violators import sample_violators
from lossmith.losses.recommendation import warp

USERS, ITEMS, DIMENSION, PAIRS = 5, 11, 3, 40


def problem(dtype=torch.float64, scale=1.0):
    torch.manual_seed(0)
    tables = [
        (scale * torch.randn(shape, dtype=dtype)).requires_grad_()
        for shape in ((USERS, DIMENSION), (ITEMS, DIMENSION), (ITEMS,))
    ]
    users, items = torch.randint(USERS, (PAIRS,)), torch.randint(ITEMS, (PAIRS,))
    return tables, users, items, KnownItems(users, items, num_items=ITEMS)


def seeded():
    return torch.Generator().manual_seed(3)


def in_parts(tables, users, items, *, known, l2, margin, weighting, max_trials):
    """What a user would write with the public functions."""
    user, vectors, bias = tables
    score = dot_scores(user[users], vectors, bias)
    drawn = sample_violators(
        score,
        items,
        num_items=ITEMS,
        margin=margin,
        max_trials=max_trials,
        known=known.rows(users),
        generator=seeded(),
    )
    scores = score(torch.arange(PAIRS), torch.stack([items, drawn.item], dim=-1))
    value = warp(
        scores[:, 0],
        scores[:, 1:],
        num_items=ITEMS,
        margin=margin,
        weighting=weighting,
        trials=drawn.trials[:, None],
        mask=drawn.found[:, None],
    )
    penalty = sum(
        user[u].square().sum() + vectors[i].square().sum() + f * vectors[n].square().sum()
        for u, i, n, f in zip(users, items, drawn.item, drawn.found, strict=True)
    )
    return value + l2 * penalty / PAIRS, drawn


@pytest.mark.parametrize("l2", [0.0, 0.3])
@pytest.mark.parametrize(
    ("margin", "weighting", "max_trials"), [(1.0, "log", 2), (0.0, "harmonic", 7), (3.0, "log", 1)]
)
def test_it_is_the_sampler_and_the_loss(l2, margin, weighting, max_trials):
    tables, users, items, known = problem()
    knobs = {"margin": margin, "weighting": weighting, "max_trials": max_trials, "l2": l2}
    value = factor_warp(*tables, users, items, known=known, generator=seeded(), **knobs)
    expected, drawn = in_parts(tables, users, items, known=known, **knobs)
    assert 0 < drawn.found.sum() < PAIRS
    torch.testing.assert_close(value, expected)
    found = torch.autograd.grad(2.5 * value, tables)
    wanted = torch.autograd.grad(2.5 * expected, tables)
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other)


def test_plain_loops_agree():
    tables, users, items, known = problem()
    user, vectors, bias = (table.detach().tolist() for table in tables)
    value = factor_warp(*tables, users, items, max_trials=3, known=known, generator=seeded())
    drawn = in_parts(
        tables, users, items, known=known, l2=0, margin=1.0, weighting="log", max_trials=3
    )[1]

    def score(u, i):
        return sum(a * b for a, b in zip(user[u], vectors[i], strict=True)) + bias[i]

    total = 0.0
    columns = (users, items, drawn.item, drawn.trials, drawn.found)
    for u, i, n, trials, found in zip(*(column.tolist() for column in columns), strict=True):
        if found:
            weight = math.log(max(1, (ITEMS - 1) // trials))
            total += weight * (1.0 - score(u, i) + score(u, n))
    assert value.item() == pytest.approx(total / PAIRS, rel=1e-12)


def test_no_violator_costs_nothing_and_moves_nothing():
    tables, users, items, known = problem(scale=0.0)
    value = factor_warp(*tables, users, items, margin=0.0, known=known)
    assert value == 0
    value.backward()
    for table in tables:
        assert table.grad.abs().sum() == 0


def test_an_infinite_score_without_a_violator_stays_zero():
    vectors = torch.eye(2)
    value = factor_warp(
        torch.tensor([[math.inf, 0.0]]), vectors, torch.zeros(2), *torch.tensor([[0], [0]])
    )
    assert not value.isinf()


def test_no_pairs():
    tables, users, items, known = problem(torch.float32)
    value = factor_warp(*tables, users[:0], items[:0], known=known, l2=1.0)
    assert value == 0
    value.backward()
    assert all(table.grad.abs().sum() == 0 for table in tables)


def test_inputs_stay_as_they_are_and_the_same_seed_gives_the_same():
    tables, users, items, known = problem(torch.float32)
    before = [table.detach().clone() for table in tables]
    one = factor_warp(*tables, users, items, known=known, generator=seeded())
    two = factor_warp(*tables, users, items, known=known, generator=seeded())
    assert torch.equal(one, two)
    assert all(torch.equal(a, b) for a, b in zip(before, tables, strict=True))


def test_a_second_backward_says_why_not():
    tables, users, items, known = problem()
    value = factor_warp(*tables, users, items, known=known)
    first, *_ = torch.autograd.grad(value * value, tables, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        first.sum().backward()


def test_autocast_leaves_float32():
    tables, users, items, known = problem(torch.float32)
    expected = factor_warp(*tables, users, items, known=known, generator=seeded())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = factor_warp(*tables, users, items, known=known, generator=seeded())
    assert torch.equal(value, expected)


@pytest.mark.parametrize("l2", [0.0, 0.3])
@pytest.mark.parametrize("pairs", [1, 2, 7])
def test_by_row_it_is_the_gradient_of_the_rows_that_were_named(pairs, l2):
    torch.manual_seed(1)
    shapes = ((50, 4), (60, 4), (60,))
    tables = [torch.randn(shape, dtype=torch.float64).requires_grad_() for shape in shapes]
    users, items = torch.randint(50, (pairs,)), torch.randint(60, (pairs,))
    known = KnownItems(users, items, num_items=60)
    value = factor_warp(*tables, users, items, known=known, l2=l2, generator=seeded())
    wanted = torch.autograd.grad(value, tables)
    knobs = {"margin": 1.0, "weighting": "log", "max_trials": 50}
    made = warp_step(*tables, users, items, known=known, l2=l2, generator=seeded(), **knobs)
    torch.testing.assert_close(made.value, value.detach())
    for (rows, gradient), expected in zip(made[1:], wanted, strict=True):
        assert len(set(rows.tolist())) == len(rows) <= 2 * pairs
        torch.testing.assert_close(
            torch.zeros_like(expected).index_add(0, rows, gradient), expected
        )
