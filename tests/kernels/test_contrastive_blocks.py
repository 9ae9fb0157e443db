"""The block forms against the direct ones, with blocks so small that there are many."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

import lossmith as lm
from lossmith.core.spec import find
from lossmith.kernels.contrastive import engine

ROWS, WIDTH = 23, 5
LABELLED = (
    "sup_con",
    "multi_similarity",
    "circle",
    "batch_all_triplet",
    "batch_hard_triplet",
    "batch_semi_hard_triplet",
)


@contextmanager
def form(blocks: bool, rows: int = 4) -> Iterator[None]:
    """One of the two forms, whatever the size; a tile has fewer columns than a block has rows."""
    switch = engine.SWITCH
    before = replace(switch)
    switch.entries = 0 if blocks else 1 << 62
    switch.rows, switch.columns = rows, 3
    try:
        yield
    finally:
        vars(switch).update(vars(before))


def random(seed: int, *shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=dtype).requires_grad_()


def some(seed: int, share: float = 0.8, size: int = ROWS) -> Tensor:
    return torch.rand(size, generator=torch.Generator().manual_seed(seed)) < share


def numbers(seed: int, high: int, *shape: int) -> Tensor:
    return torch.randint(high, shape, generator=torch.Generator().manual_seed(seed))


def assert_same_forms(
    call: Callable[[], Tensor], inputs: tuple[Tensor, ...], rtol: float = 1e-9, rows: int = 4
) -> None:
    """Equal values and gradients, for the sum and for slopes of any kind."""
    results = []
    for blocks in (False, True):
        with form(blocks, rows):
            value = call()
            direction = torch.arange(1.0, value.numel() + 1, dtype=value.dtype)
            loss = (value * direction.reshape(value.shape)).sum()
            results.append((value.detach(), torch.autograd.grad(loss, inputs)))
    torch.testing.assert_close(results[0], results[1], rtol=rtol, atol=rtol)


STRUCTURES: dict[str, dict[str, Any]] = {
    "plain": {},
    "mask": {"mask": some(1)},
    "weight": {"weight": torch.rand(ROWS, dtype=torch.float64)},
    "ids": {"ids": numbers(2, 9, ROWS)},
    "positive ids": {"ids": numbers(2, 9, ROWS), "same_id": "positive"},
    "positive ids and more": {
        "ids": numbers(2, 9, ROWS),
        "same_id": "positive",
        "log_q": random(3, ROWS).detach(),
        "mask": some(1),
    },
    "log_q": {"log_q": random(3, ROWS).detach()},
    "pairs": {"ignore_pairs": numbers(4, ROWS, 40, 2)},
    "teacher": {"guide": (random(5, ROWS, 3).detach(), random(6, ROWS, 3).detach())},
    "teacher's scores": {"guide": random(7, ROWS, ROWS).detach(), "guide_margin": 0.1},
    "everything": {
        "mask": some(1),
        "weight": torch.rand(ROWS, dtype=torch.float64),
        "ids": numbers(2, 9, ROWS),
        "log_q": random(3, ROWS).detach(),
        "ignore_pairs": numbers(4, ROWS, 40, 2),
        "guide": (random(5, ROWS, 3).detach(), random(6, ROWS, 3).detach()),
    },
}


@pytest.mark.parametrize("reduction", ["none", "mean"])
@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("structure", STRUCTURES)
def test_info_nce(structure: str, symmetric: bool, reduction: str) -> None:
    known = {**STRUCTURES[structure], "symmetric": symmetric, "reduction": reduction}
    q, p, shared, own = (
        random(10, ROWS, WIDTH),
        random(11, ROWS, WIDTH),
        random(12, 7, WIDTH),
        random(13, ROWS, 3, WIDTH),
    )
    t = torch.tensor(0.2, dtype=torch.float64, requires_grad=True)
    ragged = some(14, 0.5, ROWS * 3).reshape(ROWS, 3)
    assert_same_forms(lambda: lm.info_nce(q, p, temperature=t, **known), (q, p, t))
    assert_same_forms(
        lambda: lm.info_nce(q, p, shared, temperature=t, negatives_mask=some(15, 0.6, 7), **known),
        (q, p, shared, t),
    )
    assert_same_forms(
        lambda: lm.info_nce(q, p, own, temperature=t, negatives_mask=ragged, **known),
        (q, p, own, t),
    )


@pytest.mark.parametrize("temperature", [1.0, 0.05, 0.004])
def test_temperatures_that_one_set_of_exponentials_cannot_hold(temperature: float) -> None:
    q, p = random(20, ROWS, 2), random(21, ROWS, 2)
    for symmetric in (False, True):
        known = {"temperature": temperature, "symmetric": symmetric}
        assert_same_forms(lambda known=known: lm.info_nce(q, p, **known), (q, p))
    assert_same_forms(lambda: lm.nt_xent(q, p, temperature=temperature), (q, p))
    label = numbers(22, 6, ROWS)
    assert_same_forms(lambda: lm.sup_con(q, label, temperature=temperature), (q,))


@pytest.mark.parametrize("reduction", ["none", "mean"])
def test_pairs(reduction: str) -> None:
    q, p = random(30, ROWS, WIDTH), random(31, ROWS, WIDTH)
    t = torch.tensor([0.3], dtype=torch.float64, requires_grad=True)
    b = torch.tensor(-1.0, dtype=torch.float64, requires_grad=True)
    weight = torch.rand(ROWS, dtype=torch.float64)
    for mask in (None, some(32)):
        known = {"temperature": t, "mask": mask, "weight": weight, "reduction": reduction}
        assert_same_forms(lambda known=known: lm.nt_xent(q, p, **known), (q, p, t))
        for more in ({}, {"ids": numbers(33, 9, ROWS), "ignore_pairs": numbers(34, ROWS, 9, 2)}):
            assert_same_forms(
                lambda known=known, more=more: lm.sigmoid_contrastive(
                    q, p, bias=b, **known, **more
                ),
                (q, p, t, b),
            )
    # Past the exponent that float32 holds.
    assert_same_forms(
        lambda: lm.sigmoid_contrastive(q, p, temperature=0.005, bias=0.0, reduction=reduction),
        (q, p),
    )


@pytest.mark.parametrize("reduction", ["none", "mean"])
@pytest.mark.parametrize("labels", [1, 2, 8, 1000])
@pytest.mark.parametrize("name", LABELLED)
def test_labelled(name: str, labels: int, reduction: str) -> None:
    function = find(name).function
    z, label = random(40, ROWS, WIDTH), numbers(41, labels, ROWS)
    weight = torch.rand(ROWS, dtype=torch.float64)
    modes: list[dict[str, Any]] = [{}]
    if name.endswith("triplet"):
        modes = [
            {"distance": d, "margin": m}
            for d in ("euclidean", "squared_euclidean", "cosine")
            for m in (0.0, 0.3, 2.0)
        ]
    if name == "multi_similarity":
        modes = [{}, {"mining_margin": None}, {"beta": 5.0, "mining_margin": -0.2}]
    for mode in modes:
        for mask in (None, some(42)):
            known = {**mode, "mask": mask, "weight": weight, "reduction": reduction}
            assert_same_forms(lambda known=known: function(z, label, **known), (z,), rtol=1e-7)


@pytest.mark.parametrize("rows", [6, 16, 64])
@pytest.mark.parametrize("sharp", [False, True])
def test_companions_in_tables_and_in_bands(rows: int, sharp: bool) -> None:
    """Groups of up to a block's rows are tables; sharp: exponents that need their maximum off."""
    z = random(44, 60, WIDTH)
    label = torch.cat([numbers(45, 12, 40), torch.full((20,), 99)])[
        torch.randperm(60, generator=torch.Generator().manual_seed(46))
    ]
    known: list[tuple[str, dict[str, Any]]] = [
        ("circle", {"gamma": 300.0 if sharp else 80.0}),
        ("circle", {"margin": 0.0, "gamma": 300.0 if sharp else 9.0}),
        ("multi_similarity", {"beta": 90.0 if sharp else 50.0}),
        ("multi_similarity", {"beta": 90.0 if sharp else 5.0, "mining_margin": None}),
        ("sup_con", {"temperature": 0.01 if sharp else 0.1}),
    ]
    for mask in (torch.ones_like(label) > 0, label != 99):
        for name, knobs in known:
            function = find(name).function
            assert_same_forms(
                lambda f=function, k=knobs, m=mask: f(z, label, mask=m, reduction="none", **k),
                (z,),
                rtol=1e-7,
                rows=rows,
            )


def test_many_companions_take_the_sorted_way() -> None:
    """More positives than a pass each would serve."""
    z, label = random(50, 60, WIDTH), numbers(51, 2, 60)
    for name in ("batch_all_triplet", "batch_semi_hard_triplet"):
        function = find(name).function
        assert_same_forms(lambda f=function: f(z, label, margin=0.5), (z,), rtol=1e-7)


def test_negatives_at_equal_distances_cost_the_same() -> None:
    grid = torch.randint(3, (40, 2), generator=torch.Generator().manual_seed(52)).double()
    label = numbers(53, 9, 40)
    values = []
    for blocks in (False, True):
        with form(blocks):
            values.append(lm.batch_semi_hard_triplet(grid, label, margin=3.0, reduction="none"))
    torch.testing.assert_close(*values)


@pytest.mark.parametrize("name", ["info_nce", "nt_xent", "sigmoid_contrastive", *LABELLED])
def test_a_float32_batch_is_as_good_by_blocks(name: str) -> None:
    function = find(name).function
    z, other = random(60, 200, 16), random(61, 200, 16)
    label = numbers(62, 50, 200)
    second = label if name in LABELLED else other

    def slope(dtype: torch.dtype, blocks: bool) -> Tensor:
        x = z.detach().to(dtype).requires_grad_()
        y = second if name in LABELLED else second.detach().to(dtype)
        with form(blocks):
            return torch.autograd.grad(function(x, y), x)[0].double()

    exact = slope(torch.float64, False)
    errors = [(slope(torch.float32, b) - exact).norm() / exact.norm() for b in (False, True)]
    assert errors[1] <= max(2e-6, 3 * errors[0])


@pytest.mark.parametrize("name", ["info_nce", "nt_xent", "sigmoid_contrastive", *LABELLED])
def test_a_batch_with_nothing_in_it_costs_nothing(name: str) -> None:
    function = find(name).function
    z, other = random(70, ROWS, WIDTH), random(71, ROWS, WIDTH)
    second = numbers(72, 3, ROWS) if name in LABELLED else other
    nobody = torch.zeros(ROWS, dtype=torch.bool)
    one = nobody.clone()
    one[3] = True
    with form(blocks=True):
        for mask in (nobody, one):
            value = function(z, second, mask=mask)
            if name != "sigmoid_contrastive" or mask is nobody:
                assert value.item() == 0.0 or name == "multi_similarity"
            assert bool(torch.autograd.grad(value, z)[0].isfinite().all())


@pytest.mark.parametrize("name", ["info_nce", "nt_xent", "sigmoid_contrastive", *LABELLED])
def test_two_backward_passes_and_two_derivatives(name: str) -> None:
    function = find(name).function
    z, other = random(80, 9, 4), random(81, 9, 4)
    second = numbers(82, 3, 9) if name in LABELLED else other
    with form(blocks=True):
        value = function(z, second)
        first, again = (torch.autograd.grad(value, z, retain_graph=True)[0] for _ in range(2))
        assert torch.equal(first, again)
        if name == "batch_hard_triplet":
            return  # nothing of it is behind the operator but the choice
        (slope,) = torch.autograd.grad(value, z, create_graph=True)
        (curvature,) = torch.autograd.grad(slope.square().sum(), z)
    with form(blocks=False):
        (slope,) = torch.autograd.grad(function(z, second), z, create_graph=True)
        (wanted,) = torch.autograd.grad(slope.square().sum(), z)
    torch.testing.assert_close(curvature, wanted)


@pytest.mark.parametrize("name", ["info_nce", "nt_xent", "sigmoid_contrastive", *LABELLED])
def test_one_graph_holds_the_blocks(name: str) -> None:
    function = find(name).function
    z, other = random(90, 9, 4), random(91, 9, 4)
    second = numbers(92, 3, 9) if name in LABELLED else other.detach()
    with form(blocks=True):
        torch.compiler.reset()
        compiled = torch.compile(lambda x: function(x, second), fullgraph=True, backend="aot_eager")
        value, wanted = compiled(z), function(z, second)
        torch.testing.assert_close(value, wanted)
        torch.testing.assert_close(torch.autograd.grad(value, z), torch.autograd.grad(wanted, z))


def test_the_blocks_work_under_torch_func() -> None:
    q, p = random(100, 3, ROWS, WIDTH).detach(), random(101, 3, ROWS, WIDTH).detach()
    with form(blocks=True):
        gradients = torch.func.vmap(torch.func.grad(lm.info_nce))(q, p)
        for i in range(3):
            x = q[i].clone().requires_grad_()
            (wanted,) = torch.autograd.grad(lm.info_nce(x, p[i]), x)
            torch.testing.assert_close(gradients[i], wanted)


@pytest.mark.parametrize("temperature", [0.2, 0.01])
def test_matryoshka_is_the_mean_over_the_prefixes(temperature: float) -> None:
    q, p = random(110, ROWS, WIDTH), random(111, ROWS, WIDTH)
    t = torch.tensor(temperature, dtype=torch.float64, requires_grad=True)
    weight = torch.rand(ROWS, dtype=torch.float64)
    for reduction in ("none", "mean"):
        for mask in (None, some(112)):
            known = {"temperature": t, "mask": mask, "weight": weight, "reduction": reduction}
            parts = [lm.info_nce(q[:, :n], p[:, :n], **known) for n in (2, 3, 5)]
            wanted = sum(parts) / 3
            for blocks in (False, True):
                with form(blocks):
                    value = lm.matryoshka_info_nce(q, p, prefixes=(2, 3, 5), **known)
                    slopes = torch.autograd.grad(value.square().sum(), (q, p, t))
                torch.testing.assert_close(value, wanted)
                again = torch.autograd.grad(wanted.square().sum(), (q, p, t), retain_graph=True)
                torch.testing.assert_close(slopes, again)
    with pytest.raises(ValueError, match="must be whole numbers that rise"):
        lm.matryoshka_info_nce(q, p, prefixes=(3, 2))
