"""The laws that every objective obeys, run over the whole registry in each of its modes.

An objective is exempt from a law only by its own metadata, with the reason there.
"""

from __future__ import annotations

import copy
import inspect
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

import lossmith as lm
from contract.cases import CASES, Case
from lossmith.check.examples import Example
from lossmith.core.spec import Spec, objectives, parse

SPECS = list(objectives())
all_cases = pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
all_specs = pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.name)


def skip_exempt(case: Case, law: str) -> None:
    reason = case.exempt(law)
    if reason:
        pytest.skip(f"not applicable: {reason}")


def leaf(example: Example, dtype: torch.dtype = torch.float64) -> Example:
    """The example with predictions that collect gradient."""
    return example.with_predictions(
        *(p.detach().to(dtype).requires_grad_() for p in example.predictions)
    )


def value_and_gradients(case: Case, example: Example, **more: Any) -> tuple[Tensor, list[Tensor]]:
    example = leaf(example)
    value = case(example, **more)
    return value.detach(), list(torch.autograd.grad(value.sum(), example.predictions))


def assert_same(a: tuple[Tensor, list[Tensor]], b: tuple[Tensor, list[Tensor]]) -> None:
    torch.testing.assert_close(a[0], b[0], rtol=1e-9, atol=1e-12)
    for x, y in zip(a[1], b[1], strict=True):
        torch.testing.assert_close(x, y, rtol=1e-9, atol=1e-12)


@all_cases
def test_gradient_reaches_every_prediction(case: Case) -> None:
    moved = [False] * len(case.example().predictions)
    for seed in range(5):
        _, gradients = value_and_gradients(case, case.example(seed))
        moved = [m or bool(g.abs().sum() > 0) for m, g in zip(moved, gradients, strict=True)]
    assert all(moved)


@all_cases
def test_gradient_is_the_derivative_of_the_value(case: Case) -> None:
    skip_exempt(case, "gradcheck")
    example = leaf(case.example(1))
    assert torch.autograd.gradcheck(
        lambda *p: case(example.with_predictions(*p)), example.predictions
    )


@all_cases
def test_no_knob_is_dead(case: Case) -> None:
    """A knob that moves the value moves the gradient too, on some batch."""
    skip_exempt(case, "dead knob")
    for name, tune in case.spec.tune.items():
        ends = tune.choices or (tune.low, tune.high)
        changed_value = changed_gradient = False
        for seed in range(5):
            a, b = (value_and_gradients(case, case.example(seed), **{name: e}) for e in ends[:2])
            changed_value |= not torch.allclose(a[0], b[0])
            changed_gradient |= any(
                not torch.allclose(x, y) for x, y in zip(a[1], b[1], strict=True)
            )
        assert changed_value, f"{name} has no effect at all between {ends}"
        assert changed_gradient, f"{name} changes the value and never the gradient"


@all_cases
def test_descent_reaches_what_the_objective_is_for(case: Case) -> None:
    skip_exempt(case, "descent")
    for seed in range(3):
        example = leaf(case.example(seed))
        before = float(case(example).detach())
        optimizer = torch.optim.Adam(example.predictions, lr=0.1)
        for _ in range(300):
            optimizer.zero_grad()
            case(example).backward()
            optimizer.step()
        assert example.solved(example.predictions)
        assert float(case(example).detach()) <= before


@all_cases
def test_reductions_agree(case: Case) -> None:
    example = case.example().to(torch.float64)
    none, total = case(example, reduction="none"), case(example, reduction="sum")
    torch.testing.assert_close(none.sum(), total)
    count = case.divisor(7.0)
    if case.modes.get("average") == "classes":
        return  # a divisor per class weighs the classes anew; its own tests hold the identity
    torch.testing.assert_close(case(example, divisor=count), total / 7.0)
    with pytest.raises(ValueError, match="divisor"):
        case(example, reduction="sum", divisor=count)


@all_cases
def test_micro_batches_add_up(case: Case) -> None:
    skip_exempt(case, "micro-batches")
    example = case.example(2).to(torch.float64)
    divisor = case.divisor(11.0)
    for cut in range(1, example.batch_size):
        parts = example.rows(0, cut), example.rows(cut, example.batch_size)
        together = sum(case(part, divisor=divisor) for part in parts)
        torch.testing.assert_close(together, case(example, divisor=divisor))


@all_cases
def test_order_of_the_batch_does_not_matter(case: Case) -> None:
    example = case.example(3).to(torch.float64)
    order = torch.randperm(example.batch_size, generator=torch.Generator().manual_seed(0))

    def shuffle(value: Any) -> Any:
        return value[order] if isinstance(value, Tensor) else [value[i] for i in order.tolist()]

    shuffled = Example(
        tuple(p if i in example.shared else shuffle(p) for i, p in enumerate(example.predictions)),
        tuple(map(shuffle, example.labels)),
        example.needed,
    )
    torch.testing.assert_close(case(shuffled), case(example))


def half_masked(case: Case, seed: int = 4) -> tuple[Example, Tensor]:
    example = case.example(seed)
    if example.mask is None:
        pytest.skip("takes no mask")
    flat = torch.arange(example.mask.numel()).view(example.mask.shape)
    return example, flat % 3 != 1


def poison(case: Case, example: Example, mask: Tensor, junk: float) -> Example:
    """Junk wherever the mask says that there is nothing."""
    predictions = []
    for p in example.predictions:
        covers = p.shape[: mask.dim()] == mask.shape
        dead = ~mask.view(*mask.shape, *[1] * (p.dim() - mask.dim())) if covers else None
        predictions.append(p if dead is None else torch.where(dead, junk, p))
    labels = []
    for label in example.labels:
        covers = isinstance(label, Tensor) and label.shape[: mask.dim()] == mask.shape
        if covers and label.dtype is not torch.bool:
            dead = ~mask.view(*mask.shape, *[1] * (label.dim() - mask.dim()))
            label = torch.where(dead, torch.tensor(77, dtype=label.dtype), label)
        labels.append(label)
    return Example(tuple(predictions), tuple(labels), example.needed)


@all_cases
@pytest.mark.parametrize("junk", [float("nan"), float("inf"), -1e30])
def test_masked_entries_are_inert(case: Case, junk: float) -> None:
    example, mask = half_masked(case)
    clean = value_and_gradients(case, example, mask=mask)
    dirty = value_and_gradients(case, poison(case, example, mask, junk), mask=mask)
    assert_same(dirty, clean)
    for p, gradient in zip(example.predictions, dirty[1], strict=True):
        if p.shape[: mask.dim()] == mask.shape:
            assert not gradient[~mask].any()


@all_cases
def test_nothing_valid_is_a_connected_zero(case: Case) -> None:
    example = case.example()
    if example.mask is None:
        pytest.skip("takes no mask")
    nothing = torch.zeros_like(example.mask)
    for reduction in ("mean", "sum", "none"):
        value, gradients = value_and_gradients(case, example, mask=nothing, reduction=reduction)
        assert not value.any()
        assert not any(gradient.any() for gradient in gradients)


@all_cases
def test_an_empty_batch_is_a_connected_zero(case: Case) -> None:
    value, _ = value_and_gradients(case, case.example().rows(0, 0))
    assert value == 0


@all_cases
def test_mask_must_be_bool(case: Case) -> None:
    example = case.example()
    if example.mask is None:
        pytest.skip("takes no mask")
    with pytest.raises(TypeError, match="mask must be bool"):
        case(example, mask=example.mask.float())


@all_cases
def test_weight_multiplies_the_cost_and_leaves_the_count(case: Case) -> None:
    example = case.example(5).to(torch.float64)
    if example.weight is None:
        pytest.skip("takes no weight")
    double = 2.0 * example.weight.double()
    torch.testing.assert_close(case(example, weight=double), 2.0 * case(example))
    with pytest.raises(ValueError, match="weight"):
        case(example, weight=double.unsqueeze(-1))


@all_cases
@pytest.mark.parametrize("scale", [0.0, 1e4, -1e4])
def test_ties_and_extremes_stay_finite(case: Case, scale: float) -> None:
    example = leaf(case.example(6), torch.float32)
    example = leaf(
        example.with_predictions(*(p.detach() * scale for p in example.predictions)), torch.float32
    )
    value = case(example)
    assert value.isfinite()
    for gradient in torch.autograd.grad(value, example.predictions):
        assert gradient.isfinite().all()


@all_cases
def test_a_nan_in_a_prediction_is_not_hidden(case: Case) -> None:
    example = case.example(7)
    broken = example.predictions[0].clone()
    broken[0] = float("nan")
    assert case(example.with_predictions(broken, *example.predictions[1:])).isnan()


@all_cases
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(case: Case, dtype: torch.dtype) -> None:
    example = case.example(8).to(dtype)
    value = case(example)
    assert value.dtype is torch.float32
    torch.testing.assert_close(value, case(example.to(torch.float32)))


@all_cases
def test_autocast_changes_nothing(case: Case) -> None:
    example = case.example(9)
    plain = case(example)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = case(example)
    assert value.dtype is torch.float32
    torch.testing.assert_close(value, plain, rtol=1e-6, atol=1e-6)


@all_cases
def test_inputs_are_not_mutated_and_the_value_repeats(case: Case) -> None:
    example = case.example(10)
    before = copy.deepcopy((example.predictions, example.labels))
    first, second = case(example), case(example)
    assert torch.equal(first, second)
    for old, new in zip(before[0], example.predictions, strict=True):
        assert torch.equal(old, new)
    for old, new in zip(before[1], example.labels, strict=True):
        assert torch.equal(old, new) if isinstance(old, Tensor) else old == new


@all_cases
def test_wrong_shapes_raise_instead_of_broadcasting(case: Case) -> None:
    """(N,) against (N, 1), for every tensor after the first."""
    example = case.example()
    tensors = [*example.predictions, *example.labels]
    for i in range(1, len(tensors)):
        if not isinstance(tensors[i], Tensor):
            continue
        bad = [t.unsqueeze(-1) if j == i else t for j, t in enumerate(tensors)]
        with pytest.raises(ValueError, match=r"\("):
            case.spec.function(*bad, **{**example.needed, **case.modes})


@all_cases
def test_compiles_into_one_graph(case: Case) -> None:
    skip_exempt(case, "compile")
    example = leaf(case.example(11), torch.float32)

    def call(*predictions: Tensor) -> Tensor:
        return case.spec.function(*predictions, *example.labels, **{**example.needed, **case.modes})

    torch.compiler.reset()
    compiled: Callable[..., Tensor] = torch.compile(call, fullgraph=True, backend="aot_eager")
    value = compiled(*example.predictions)
    torch.testing.assert_close(value, call(*example.predictions))
    gradients = torch.autograd.grad(value, example.predictions)
    plain = torch.autograd.grad(call(*example.predictions), example.predictions)
    for a, b in zip(gradients, plain, strict=True):
        torch.testing.assert_close(a, b)


@all_cases
def test_vmap_and_functional_grad_agree_with_a_loop(case: Case) -> None:
    skip_exempt(case, "vmap")
    examples = [case.example(seed).to(torch.float64) for seed in (12, 13)]
    labels, needed = examples[0].labels, {**examples[0].needed, **case.modes}

    def call(*predictions: Tensor) -> Tensor:
        return case.spec.function(*predictions, *labels, **needed)

    stacked = [torch.stack(ps) for ps in zip(*(e.predictions for e in examples), strict=True)]
    everything = tuple(range(len(stacked)))
    together = torch.func.vmap(torch.func.grad_and_value(call, argnums=everything))(*stacked)
    for i, example in enumerate(examples):
        value, gradients = value_and_gradients(
            case, Example(example.predictions, labels, example.needed)
        )
        torch.testing.assert_close(together[1][i], value)
        for a, b in zip(together[0], gradients, strict=True):
            torch.testing.assert_close(a[i], b)


@all_cases
def test_promised_invariances_hold(case: Case) -> None:
    example = case.example(14).to(torch.float64)
    value = case(example)
    changes: dict[str, Callable[[Tensor], Tensor]] = {
        "shift": lambda p: p + 3.25,
        "scale": lambda p: p * 1.75,
    }
    for name, change in changes.items():
        moved = case(example.with_predictions(*map(change, example.predictions)))
        same = torch.allclose(moved, value, rtol=1e-9)
        if name in case.spec.invariances:
            assert same, f"promises to be invariant under {name}"
    if "item permutation" in case.spec.invariances:
        permuted = Example(
            tuple(map(items_reversed, example.predictions)),
            tuple(map(items_reversed, example.labels)),
            example.needed,
        )
        torch.testing.assert_close(case(permuted), value)


def items_reversed(scores: Tensor) -> Tensor:
    """The items of each list (where there are lists) in the opposite order."""
    return scores.flip(-1) if scores.dim() > 1 else scores


@all_cases
def test_module_is_the_function(case: Case) -> None:
    example = case.example(15)
    module = getattr(lm, case.spec.module_name)(**example.needed, **case.modes)
    inputs = (*example.predictions, *example.labels)
    for face in (module, pickle.loads(pickle.dumps(module)), copy.deepcopy(module)):
        assert torch.equal(face(*inputs), case(example))
        assert not face.state_dict()
    for knob in case.spec.knobs:
        assert f"{knob}=" in repr(module)
    again = lm.from_text(module.text)
    assert repr(again) == repr(module)


@all_specs
def test_an_unknown_knob_is_answered_with_a_suggestion(spec: Spec) -> None:
    with pytest.raises(ValueError, match="Did you mean 'reduction'"):
        getattr(lm, spec.module_name)(reductoin="sum")
    with pytest.raises(ValueError, match="Did you mean 'reduction'"):
        parse(f"{spec.name}(reductoin='sum')")


@all_specs
def test_reduction_must_be_known(spec: Spec) -> None:
    case = next(case for case in CASES if case.spec is spec)
    with pytest.raises(ValueError, match="reduction='average' is not a choice"):
        case(case.example(), reduction="average")


@all_specs
def test_docstring_says_everything(spec: Spec) -> None:
    text = inspect.getdoc(spec.function) or ""
    wanted = [
        "Formula:",
        "Use ",
        "Not ",
        "Shapes:",
        "Mean divides by:",
        "Errors:",
        ">>> ",
        "Source:",
    ]
    missing = [part for part in wanted if part not in text]
    assert not missing
    assert spec.summary.endswith(".") and len(spec.summary) < 120


@all_specs
def test_signature_follows_the_house(spec: Spec) -> None:
    parameters = list(spec.parameters.values())
    positional = [p for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD]
    assert len(positional) <= 4
    assert all(p.kind is p.KEYWORD_ONLY for p in parameters[len(positional) :])
    assert {"reduction", "divisor", "mask"} <= set(spec.parameters)
    assert set(spec.tune) <= set(spec.knobs)
    for name, tune in spec.tune.items():
        assert tune.choices or tune.low < tune.high, name


def test_names_are_unique() -> None:
    names = [spec.name for spec in SPECS] + [spec.module_name for spec in SPECS]
    assert len(names) == len(set(names))
