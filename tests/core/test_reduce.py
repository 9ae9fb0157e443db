import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lossmith.core.reduce import reduce

repeatable = settings(deadline=None, derandomize=True, database=None, max_examples=100)


@st.composite
def batches(draw):
    """A cost per row with what may go beside it: any of valid, weight and count, or none."""
    rows = draw(st.integers(0, 8))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 10_000)))
    beside = {
        "valid": torch.rand(rows, generator=generator) < draw(st.sampled_from([0.0, 0.5, 1.0])),
        "weight": torch.rand(rows, generator=generator, dtype=torch.float64),
        "count": torch.randint(0, 4, (rows,), generator=generator),
    }
    kept = draw(st.sets(st.sampled_from(sorted(beside))))
    cost = torch.randn(rows, generator=generator, dtype=torch.float64)
    return cost, {name: tensor for name, tensor in beside.items() if name in kept}


def units(cost, valid=None, weight=None, count=None):
    """The documented divisor, counted by a plain loop; the weight has no part in it."""
    total = 0
    for i in range(len(cost)):
        if valid is None or valid[i]:
            total += 1 if count is None else int(count[i])
    return total


@repeatable
@given(batches())
def test_none_adds_up_to_sum_and_sum_over_count_is_mean(batch):
    cost, beside = batch
    each = reduce(cost, **beside, reduction="none")
    total = reduce(cost, **beside, reduction="sum")
    expected = sum(
        float(cost[i] * beside.get("weight", torch.ones(len(cost)))[i])
        for i in range(len(cost))
        if "valid" not in beside or beside["valid"][i]
    )
    assert each.shape == cost.shape
    torch.testing.assert_close(each.sum(), total)
    assert total.item() == pytest.approx(expected, abs=1e-12)
    mean = reduce(cost, **beside)
    assert mean.item() == pytest.approx(expected / (units(cost, **beside) or 1), abs=1e-12)
    assert mean.shape == total.shape == ()


@repeatable
@given(batches(), st.integers(0, 8))
def test_parts_with_the_count_of_all_add_up_to_the_whole(batch, cut):
    cost, beside = batch
    count = units(cost, **beside)
    whole = reduce(cost, **beside)
    for divisor in (count, float(count), torch.tensor(count), torch.tensor(float(count))):
        parts = [
            reduce(cost[part], **{k: v[part] for k, v in beside.items()}, divisor=divisor)
            for part in (slice(cut), slice(cut, None))
        ]
        if count or whole == 0:
            torch.testing.assert_close(parts[0] + parts[1], whole)


@repeatable
@given(batches())
def test_invalid_entries_are_zero_and_have_no_gradient(batch):
    cost, beside = batch
    valid = beside.pop("valid", torch.ones(len(cost), dtype=torch.bool))
    spoiled = torch.where(valid, cost, math.nan).requires_grad_()
    if "weight" in beside:
        beside["weight"] = torch.where(valid, beside["weight"], math.nan).requires_grad_()
    each = reduce(spoiled, valid=valid, **beside, reduction="none")
    assert (each[~valid] == 0).all()
    assert each.isfinite().all()
    reduce(spoiled, valid=valid, **beside).backward()
    for leaf in (spoiled, beside.get("weight", spoiled)):
        assert (leaf.grad[~valid] == 0).all()
        assert leaf.grad.isfinite().all()


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize(
    "cost", [torch.zeros(0), torch.zeros(0, 3), torch.ones(2), torch.tensor(1.0)]
)
@pytest.mark.parametrize("divisor", [None, 0, 3, torch.tensor(0)])
def test_nothing_valid_is_exactly_zero_and_still_in_the_graph(reduction, cost, divisor):
    if divisor is not None and reduction == "sum":
        divisor = None
    cost = cost.clone().requires_grad_()
    nothing = torch.zeros(cost.shape, dtype=torch.bool)
    value = reduce(cost, valid=nothing, reduction=reduction, divisor=divisor)
    assert value == 0
    value.backward()
    assert cost.grad is not None
    assert (cost.grad == 0).all()


def test_an_empty_batch_without_a_mask_is_zero():
    cost = torch.zeros(0, requires_grad=True)
    assert reduce(cost) == 0
    reduce(cost).backward()


def test_a_nan_that_counts_stays():
    cost = torch.tensor([1.0, math.nan])
    assert reduce(cost).isnan()
    assert reduce(cost, valid=torch.tensor([True, True])).isnan()


def test_weight_multiplies_the_cost_and_leaves_the_count():
    cost, weight = torch.tensor([1.0, 3.0]), torch.tensor([5.0, 7.0])
    assert reduce(cost, weight=weight) == (1 * 5 + 3 * 7) / 2
    assert reduce(cost, weight=weight.long()) == (1 * 5 + 3 * 7) / 2


def test_inputs_stay_as_they_were():
    cost, valid, weight = torch.ones(2), torch.tensor([True, False]), torch.full((2,), 3.0)
    reduce(cost, valid=valid, weight=weight)
    assert (cost.tolist(), weight.tolist()) == ([1.0, 1.0], [3.0, 3.0])


@pytest.mark.parametrize("name", ["valid", "weight", "count"])
def test_what_goes_beside_the_cost_never_broadcasts(name):
    other = torch.ones(3, 1, dtype=torch.bool if name == "valid" else torch.float32)
    with pytest.raises(ValueError, match=rf"cost \(3,\) and {name} \(3, 1\) must have the same"):
        reduce(torch.ones(3), **{name: other})


@pytest.mark.parametrize("reduction", ["sum", "none"])
def test_a_divisor_belongs_to_the_mean(reduction):
    with pytest.raises(ValueError, match='divisor replaces the count of reduction="mean"; got'):
        reduce(torch.ones(2), reduction=reduction, divisor=2)


@pytest.mark.parametrize(
    ("divisor", "error", "message"),
    [
        (-1, ValueError, r"divisor must lie in \[0"),
        (math.nan, ValueError, r"divisor must lie in \[0"),
        ("2", TypeError, "divisor must be a number; got str '2'"),
        (torch.ones(2), ValueError, r"divisor must be one number.*\(2,\). Try divisor.sum\(\)"),
    ],
)
def test_a_divisor_is_one_count(divisor, error, message):
    with pytest.raises(error, match=message):
        reduce(torch.ones(2), divisor=divisor)


def test_an_unknown_reduction_lists_the_known_ones():
    with pytest.raises(ValueError, match="reduction='avg' is not a choice; expected one of 'mean'"):
        reduce(torch.ones(2), reduction="avg")
