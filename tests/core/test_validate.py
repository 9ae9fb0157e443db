import math

import pytest
import torch

import lossmith as lm
from lossmith.core.validate import (
    all_within,
    check_choice,
    check_class_index,
    check_finite,
    check_float,
    check_leading_shape,
    check_mask,
    check_range,
    check_same_shape,
    check_values,
    value_checks,
    values_readable,
)


def message(error, call, *args, **named):
    with pytest.raises(error) as raised:
        call(*args, **named)
    return str(raised.value)


def test_a_choice_is_answered_with_the_choices():
    check_choice("power", 2, (1, 2))
    text = message(ValueError, check_choice, "power", 3, (1, 2))
    assert text == "power=3 is not a choice; expected one of 1, 2."


@pytest.mark.parametrize(
    ("value", "low", "high", "low_open"),
    [
        (0.5, 0.5, 1, False),
        (1, 0.5, 1, False),
        (1e-9, 0, math.inf, True),
        (-5, -math.inf, 0, False),
    ],
)
def test_a_range_holds_its_ends(value, low, high, low_open):
    check_range("margin", value, low, high, low_open=low_open)


def test_a_number_outside_its_range_is_answered_with_the_range():
    text = message(ValueError, check_range, "margin", 1.5, 0.5, 1.0)
    assert text == "margin must lie in [0.5, 1]; got 1.5."
    text = message(ValueError, check_range, "margin", 0.0, 0.0, 1.0, low_open=True)
    assert text == "margin must lie in (0, 1]; got 0.0."
    text = message(ValueError, check_range, "power", math.nan, 0.0)
    assert text == "power must lie in [0, inf); got nan."
    text = message(ValueError, check_range, "shift", 2, high=1)
    assert text == "shift must lie in (-inf, 1]; got 2."


@pytest.mark.parametrize("value", ["0.5", None, True, [1.0]])
def test_a_range_takes_numbers(value):
    text = message(TypeError, check_range, "margin", value, 0.0, 1.0)
    assert text == f"margin must be a number; got {type(value).__name__} {value!r}."


def test_the_value_of_a_learnable_knob_is_not_looked_at():
    check_range("temperature", torch.tensor(-1.0), 0.0)


def test_floats_are_asked_for_by_name():
    check_float(logits=torch.zeros(2), other=torch.zeros(2, dtype=torch.bfloat16))
    text = message(TypeError, check_float, logits=torch.zeros(2, 3, dtype=torch.int64))
    assert text == "logits must be floating point; got torch.int64 (2, 3). Try logits.float()."
    text = message(TypeError, check_float, logits=[1.0])
    assert text == "logits must be a torch.Tensor; got list. Try torch.as_tensor(logits)."


def test_shapes_that_differ_are_named_with_the_way_out():
    check_same_shape(a=torch.zeros(2, 3), mask=None, b=torch.ones(2, 3))
    text = message(ValueError, check_same_shape, logits=torch.zeros(3), target=torch.zeros(3, 1))
    assert text == (
        "logits (3,) and target (3, 1) must have the same shape. Try target.squeeze(-1)."
    )
    text = message(ValueError, check_same_shape, logits=torch.zeros(3, 1), target=torch.zeros(3))
    assert text.endswith("Try logits.squeeze(-1).")
    text = message(ValueError, check_same_shape, a=torch.zeros(2, 3), b=torch.zeros(3))
    assert text == "a (2, 3) and b (3,) must have the same shape."


def test_every_tensor_is_compared_with_the_first():
    zeros = torch.zeros(2)
    text = message(ValueError, check_same_shape, a=zeros, b=zeros, c=None, d=torch.zeros(()))
    assert text == "a (2,) and d () must have the same shape."


def test_rows_have_the_leading_shape():
    rows = torch.zeros(4, 5, 3)
    check_leading_shape(rows, "logits", target=torch.zeros(4, 5), mask=None)
    text = message(ValueError, check_leading_shape, rows, "logits", target=torch.zeros(4, 5, 1))
    assert text == (
        "target (4, 5, 1) must have the shape of logits (4, 5, 3) without its last dimension, "
        "(4, 5)."
    )
    text = message(ValueError, check_leading_shape, torch.tensor(1.0), "logits")
    assert text == "logits needs at least one dimension; got a scalar."


def test_a_mask_is_bool():
    check_mask("mask", None)
    check_mask("mask", torch.ones(2, dtype=torch.bool))
    text = message(TypeError, check_mask, "mask", torch.ones(2))
    assert text.startswith("mask must be bool, True = real; got torch.float32. Try mask.bool()")


@pytest.mark.parametrize(
    ("tensor", "text"),
    [
        (torch.tensor([[0.0, 1.0], [0.5, 7.0]]), "target[1, 1] is 7; expected 0 to 1."),
        (torch.tensor([0.0, math.nan]), "target[1] is nan; expected 0 to 1."),
        (torch.tensor(-math.inf), "target is -inf; expected 0 to 1."),
        (torch.tensor([1.0000001]), "target[0] is 1.0000001; expected 0 to 1."),
        (torch.tensor([0, 12345678]), "target[1] is 12345678; expected 0 to 1."),
        (torch.tensor([9, 8, 7]), "target[0] is 9; expected 0 to 1."),
    ],
)
def test_the_first_bad_value_is_named_with_its_place(tensor, text):
    good = (tensor >= 0) & (tensor <= 1)
    assert message(ValueError, check_values, "target", tensor, good, "0 to 1") == text


def test_good_values_and_empty_tensors_pass():
    for tensor in (torch.tensor([0.0, 1.0]), torch.zeros(0), torch.zeros(3, 0)):
        check_values("target", tensor, tensor >= 0, "at least 0")


def test_a_class_index_lies_below_the_number_of_classes():
    check_class_index("target", torch.tensor([0, 2, -100]), 3, ignore_index=-100)
    text = message(ValueError, check_class_index, "target", torch.tensor([0, 3]), 3)
    assert text == "target[1] is 3; expected a class index in [0, 2]."
    text = message(ValueError, check_class_index, "target", torch.tensor([-1]), 3, -100)
    assert text == "target[0] is -1; expected a class index in [0, 2] or ignore_index=-100."


@pytest.mark.parametrize("dtype", [torch.float32, torch.bool, torch.complex64])
def test_a_class_index_is_of_an_integer_type(dtype):
    text = message(TypeError, check_class_index, "target", torch.zeros(2, dtype=dtype), 3)
    assert text == (
        f"target must hold class indices of an integer type; got {dtype} (2,). Try target.long()."
    )


def test_value_checks_are_off_inside_the_block_and_on_again_after_it():
    bad = torch.tensor([7.0])
    with pytest.raises(RuntimeError, match="from inside"), value_checks(False):
        check_values("target", bad, bad <= 1, "at most 1")
        with value_checks(True), pytest.raises(ValueError, match="is 7"):
            check_values("target", bad, bad <= 1, "at most 1")
        assert not values_readable(bad)
        raise RuntimeError("from inside")
    assert values_readable(bad)


def test_a_tensor_without_values_is_not_read():
    meta = torch.zeros(2, device="meta")
    check_values("target", meta, meta > 0, "more than 0")


@pytest.mark.parametrize(
    "transform",
    [
        torch.func.vmap,
        lambda f: torch.func.vmap(torch.func.grad(f)),
        lambda f: torch.func.vmap(torch.func.vmap(torch.func.grad(f))),
        lambda f: torch.func.vmap(torch.func.jacrev(torch.func.grad(f))),
        lambda f: torch.func.vmap(torch.func.jacrev(f, argnums=1)),
    ],
)
def test_under_vmap_at_any_depth_no_value_is_read(transform):
    logits = torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(0))
    target = torch.full((2, 3, 4), 0.5)
    assert transform(lm.binary_cross_entropy)(logits, target).isfinite().all()


def test_per_example_gradients_are_those_of_each_example_alone():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(5, 3, generator=generator)
    target = torch.randint(0, 3, (5,), generator=generator)
    together = torch.func.vmap(torch.func.grad(lm.cross_entropy))(logits, target)
    for i in range(5):
        alone = torch.func.grad(lm.cross_entropy)(logits[i], target[i])
        torch.testing.assert_close(together[i], alone)


def test_under_grad_alone_values_are_read():
    with pytest.raises(ValueError, match=r"target\[0\] is 7"):
        torch.func.grad(lm.binary_cross_entropy)(torch.zeros(1), torch.tensor([7.0]))


@pytest.mark.parametrize(
    ("values", "within"),
    [
        ([0.0, 1.0], True),
        ([], True),
        ([0.0, 1.5], False),
        ([-0.1], False),
        ([math.nan, 0.5], False),
    ],
)
def test_all_within_reads_every_value_and_trusts_no_nan(values, within):
    assert all_within(torch.tensor(values), 0.0, 1.0) is within


def test_all_within_claims_nothing_of_values_it_may_not_read():
    with value_checks(False):
        assert not all_within(torch.tensor([0.5]), 0.0, 1.0)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_check_finite_points_at_the_offender(bad):
    check_finite("target", torch.tensor([3e38, -3e38]), "a finite number")
    with pytest.raises(ValueError, match=r"target\[1\] is .*; expected a finite number"):
        check_finite("target", torch.tensor([0.0, bad]), "a finite number")
