"""Collapsed rows against the plain form: values, gradients, rows that do not count."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from lossmith.kernels import collapse as kernel
from lossmith.kernels.collapse import LOG_ZERO, Columns, collapse, collapse_directly, target_log_p


@pytest.fixture(autouse=True)
def small_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel, "SMALL", 0)
    monkeypatch.setattr(kernel, "TILE_BYTES", 3 * 11 * 8)  # three rows of eleven


def batch(seed: int = 0) -> tuple[Tensor, Columns, Tensor]:
    logits = torch.randn(7, 11, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    ids = torch.tensor([[1, 5, 0]] * 7)
    ids[3] = torch.tensor([2, 0, 0])
    active = torch.tensor([[True, True, False]] * 7)
    active[4] = torch.tensor([True, False, False])
    active[5] = False
    valid = torch.ones(7, dtype=torch.bool)
    valid[2] = False
    return logits, Columns.of(ids, active), valid


def oracle(logits: Tensor, columns: Columns, valid: Tensor) -> Tensor:
    rows = []
    for n in range(len(logits)):
        row = logits[n] if valid[n] else torch.zeros_like(logits[n])
        listed = {int(i) for i, a in zip(columns.ids[n], columns.active[n], strict=True) if a}
        rest = sum(row[v].exp() for v in range(len(row)) if v not in listed)
        short = [
            row[i] if a else row[i].detach() * 0 + LOG_ZERO
            for i, a in zip(columns.ids[n].tolist(), columns.active[n], strict=True)
        ]
        rows.append(torch.stack([*short, torch.log(torch.as_tensor(rest))]))
    return torch.stack(rows)


def test_short_rows_equal_a_plain_loop() -> None:
    logits, columns, valid = batch()
    upstream = torch.randn(7, 4, generator=torch.Generator().manual_seed(1)).double()
    results = []
    for form in (collapse, collapse_directly, oracle):
        z = logits.clone().requires_grad_()
        short = form(z, columns, valid)
        results.append((short, torch.autograd.grad((short * upstream).sum(), z)[0]))
    for value, gradient in results[:2]:
        torch.testing.assert_close(value, results[2][0])
        torch.testing.assert_close(gradient, results[2][1])


def test_rows_that_do_not_count_may_hold_anything() -> None:
    logits, columns, valid = batch()
    clean = collapse(logits, columns, valid)
    for junk in (math.nan, math.inf, -math.inf):
        spoiled = logits.clone()
        spoiled[2] = junk
        spoiled.requires_grad_()
        short = collapse(spoiled, columns, valid)
        assert torch.equal(short, clean)
        (gradient,) = torch.autograd.grad(short[columns.some[:, 0]].sum(), spoiled)
        assert gradient.isfinite().all()
        assert not gradient[2].any()


def test_derivatives_of_both_orders() -> None:
    logits, columns, valid = batch()
    logits.requires_grad_()

    def finite(z: Tensor) -> Tensor:
        return collapse(z, columns, valid).log_softmax(dim=-1)[:, [0, 3]][[0, 1, 2, 3, 6]]

    assert torch.autograd.gradcheck(finite, logits)
    assert torch.autograd.gradgradcheck(finite, logits)


def test_nothing_left_but_the_listed() -> None:
    logits = torch.tensor([[1.0, -math.inf, -math.inf]], requires_grad=True)
    short = collapse(logits, Columns.of(torch.tensor([[0]]))).log_softmax(dim=-1)
    assert short[0, 0] == 0.0
    assert not torch.autograd.grad(short[0, 0], logits)[0].any()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_half_precision_accumulates_in_float32(dtype: torch.dtype) -> None:
    logits, columns, valid = batch()
    z = logits.to(dtype).requires_grad_()
    short = collapse(z, columns, valid)
    assert short.dtype is torch.float32
    torch.testing.assert_close(short, collapse(z.float(), columns, valid))
    (gradient,) = torch.autograd.grad(short[:, -1].sum(), z)
    assert gradient.dtype is dtype


def test_target_log_p_keeps_its_digits_near_certainty() -> None:
    logits = torch.zeros(1, 11)
    logits[0, 4] = 40.0
    logits.requires_grad_()
    value = target_log_p(logits, torch.tensor([4]), torch.tensor([True]))
    (gradient,) = torch.autograd.grad(value.sum(), logits)
    assert gradient[0, 4].item() == pytest.approx(10 * math.exp(-40.0), rel=1e-5)
    assert gradient[0, 0].item() == pytest.approx(-math.exp(-40.0), rel=1e-5)


def test_the_logits_are_not_changed() -> None:
    logits, columns, valid = batch()
    before = logits.clone()
    z = logits.requires_grad_()
    collapse(z, columns, valid).sum().backward()
    assert torch.equal(z, before)
