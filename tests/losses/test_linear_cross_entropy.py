"""Cross-entropy from hidden states: a plain loop, forced blocks, and every extra."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import lossmith as lm
from lossmith.kernels import collapse
from lossmith.kernels import linear_cross_entropy as kernel

B, T, D, V = 3, 5, 4, 9
KEYWORDS = [[1], [2, (3, 4)], [0, 5, 5]]


def inputs(seed: int = 0) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    target = torch.randint(V, (B, T), generator=generator)
    target[0, 1] = target[2, 4] = -100
    return {
        "hidden": normal(B, T, D).requires_grad_(),
        "head": normal(V, D).requires_grad_(),
        "bias": normal(V).requires_grad_(),
        "target": target,
        "mask": torch.rand(B, T, generator=generator) < 0.8,
        "weight": torch.rand(B, T, generator=generator, dtype=torch.float64),
        "class_weight": torch.rand(V, generator=generator, dtype=torch.float64) + 0.1,
        "keyword_mask": torch.rand(B, T, generator=generator) < 0.4,
    }


def logits_of(batch: dict[str, Tensor]) -> Tensor:
    return batch["hidden"] @ batch["head"].T + batch["bias"]


def token_oracle(batch: dict[str, Tensor], knobs: dict[str, Any]) -> Tensor:
    """The documented formula, one token after another."""
    class_weight = knobs.get("class_weight", torch.ones(V, dtype=torch.float64))
    smoothing, z_loss = knobs.get("label_smoothing", 0.0), knobs.get("z_loss", 0.0)
    margin, gamma = knobs.get("margin", 1.0), knobs.get("gamma", 0.0)
    weight, mask = knobs.get("weight"), knobs.get("mask")
    logits = logits_of(batch)
    total, count = torch.zeros((), dtype=torch.float64), 0.0
    for b, t in itertools.product(range(B), range(T)):
        y = int(batch["target"][b, t])
        if y == -100 or (mask is not None and not mask[b, t]):
            continue
        partition = sum(logits[b, t, v].exp() for v in range(V))
        p = [logits[b, t, v].exp() / partition for v in range(V)]
        cost = -class_weight[y] * p[y].log()
        cost = cost * (1 - p[y]) ** gamma * float(p[y] < margin)
        even = sum(-class_weight[v] * p[v].log() for v in range(V)) / V
        cost = (1 - smoothing) * cost + smoothing * even + z_loss * partition.log() ** 2
        total = total + cost * (1.0 if weight is None else weight[b, t])
        count += float(class_weight[y])
    return total / count


def compare(one: Tensor, two: Tensor, batch: dict[str, Tensor], **tolerance: float) -> None:
    leaves = (batch["hidden"], batch["head"], batch["bias"])
    torch.testing.assert_close(one, two, **tolerance)
    ours, theirs = torch.autograd.grad(one, leaves), torch.autograd.grad(two, leaves)
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, **tolerance)


EXTRAS: dict[str, dict[str, Any]] = {
    "plain": {},
    "smoothing": {"label_smoothing": 0.2},
    "z-loss": {"z_loss": 0.03},
    "margin": {"margin": 0.3},
    "focal": {"gamma": 1.5},
    "class weights": {"class_weight": True},
    "token weights": {"weight": True},
    "mask": {"mask": True},
    "class weights, smoothing": {"class_weight": True, "label_smoothing": 0.2},
    "everything": {
        "label_smoothing": 0.1,
        "z_loss": 0.02,
        "margin": 0.5,
        "gamma": 2.0,
        "class_weight": True,
        "weight": True,
        "mask": True,
    },
}


def knobs_of(extra: str, batch: dict[str, Tensor]) -> dict[str, Any]:
    return {k: batch[k] if v is True else v for k, v in EXTRAS[extra].items()}


@pytest.mark.parametrize("rows", [1, 4, 7, 100])
@pytest.mark.parametrize("extra", EXTRAS)
def test_every_extra_equals_a_plain_loop(
    extra: str, rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kernel, "BLOCK_BYTES", rows * V * 8)
    monkeypatch.setattr(collapse, "TILE_BYTES", 2 * V * 8)
    batch = inputs()
    knobs = knobs_of(extra, batch)
    call = (batch["hidden"], batch["head"], batch["target"])
    value = lm.linear_cross_entropy(*call, head_bias=batch["bias"], **knobs)
    compare(value, token_oracle(batch, knobs), batch)
    none = lm.linear_cross_entropy(*call, head_bias=batch["bias"], reduction="none", **knobs)
    total = lm.linear_cross_entropy(*call, head_bias=batch["bias"], reduction="sum", **knobs)
    assert none.shape == (B, T)
    compare(none.sum(), total, batch)


@pytest.mark.parametrize("rows", [2, 5, 11, 100])  # two rows: sequences longer than a block
@pytest.mark.parametrize("require", ["any", "each"])
@pytest.mark.parametrize("form", ["expected", "nll"])
@pytest.mark.parametrize("keywords", [[1, 3], KEYWORDS, torch.tensor([2, 2, 7])])
def test_keyword_terms_ride_in_the_same_pass(
    keywords: Any, form: str, require: str, rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kernel, "BLOCK_BYTES", rows * V * 8)
    batch = inputs(1)
    terms = {"require": require, "form": form, "presence": 0.7, "placement": 0.4}
    common = {"mask": batch["mask"], **terms}
    call = (batch["hidden"], batch["head"], batch["target"])
    extra = {
        "keywords": keywords,
        "keyword_mask": batch["keyword_mask"],
        "head_bias": batch["bias"],
    }
    for prefix_aware in (True, False):
        knobs = {**common, "prefix_aware": prefix_aware}
        value = lm.linear_cross_entropy(*call, **extra, **knobs)
        on_logits = (logits_of(batch), batch["target"], keywords, batch["keyword_mask"])
        compare(value, lm.keyword_hybrid(*on_logits, **knobs), batch)
        none = lm.linear_cross_entropy(*call, **extra, **knobs, reduction="none")
        rows_of_logits = lm.keyword_hybrid(*on_logits, **knobs, reduction="none")
        torch.testing.assert_close(none, rows_of_logits)


def test_all_terms_together_are_the_sum_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel, "BLOCK_BYTES", 7 * V * 8)
    batch = inputs(2)
    knobs = knobs_of("everything", batch)
    call = (batch["hidden"], batch["head"], batch["target"])
    terms = {"keywords": KEYWORDS, "keyword_mask": batch["keyword_mask"], "form": "nll"}
    value = lm.linear_cross_entropy(*call, head_bias=batch["bias"], **knobs, **terms)
    tokens = lm.linear_cross_entropy(*call, head_bias=batch["bias"], **knobs)
    logits, mask = logits_of(batch), batch["mask"]
    absent = lm.keyword_presence(logits, KEYWORDS, form="nll", target=batch["target"], mask=mask)
    said = lm.keyword_placement(
        logits, batch["target"], batch["keyword_mask"], mask=mask, weight=batch["weight"]
    )
    compare(value, tokens + 0.3 * absent + 0.2 * said, batch)


def test_equal_to_torch_at_a_size_with_several_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel, "BLOCK_BYTES", 1 << 20)
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(301, 16, generator=generator, requires_grad=True)
    head = torch.randn(2000, 16, generator=generator, requires_grad=True)
    target = torch.randint(2000, (301,), generator=generator)
    weight = torch.rand(2000, generator=generator)
    for knobs in ({}, {"label_smoothing": 0.1}):
        ours = lm.linear_cross_entropy(hidden, head, target, class_weight=weight, **knobs)
        theirs = F.cross_entropy(hidden @ head.T, target, weight=weight, **knobs)
        torch.testing.assert_close(ours, theirs)
        pairs = zip(
            torch.autograd.grad(ours, (hidden, head)),
            torch.autograd.grad(theirs, (hidden, head)),
            strict=True,
        )
        for a, b in pairs:
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-7)


def test_all_ignored_is_a_connected_zero() -> None:
    batch = inputs()
    nothing = torch.full_like(batch["target"], -100)
    spoiled = torch.full_like(batch["hidden"], math.nan).requires_grad_()
    for extra in ("plain", "everything"):
        knobs = knobs_of(extra, batch)
        value = lm.linear_cross_entropy(
            spoiled,
            batch["head"],
            nothing,
            **knobs,
            keywords=KEYWORDS,
            keyword_mask=batch["keyword_mask"],
        )
        assert value.item() == 0.0
        for gradient in torch.autograd.grad(value, (spoiled, batch["head"])):
            assert not gradient.any()


def test_learnable_parts_and_a_tied_head() -> None:
    batch = inputs()
    weight = batch["weight"].requires_grad_()
    call = (batch["hidden"], batch["head"], batch["target"])
    value = lm.linear_cross_entropy(*call, weight=weight)
    rows = lm.linear_cross_entropy(*call, reduction="none")
    expected = rows.detach() / (batch["target"] != -100).sum()
    torch.testing.assert_close(torch.autograd.grad(value, weight)[0], expected)
    table = batch["head"]
    ids = batch["target"].clamp(min=0)
    tied = lm.linear_cross_entropy(table[ids], table, batch["target"])
    plain = lm.cross_entropy(table[ids] @ table.T, batch["target"])
    torch.testing.assert_close(tied, plain)
    torch.testing.assert_close(
        torch.autograd.grad(tied, table)[0], torch.autograd.grad(plain, table)[0]
    )


def test_the_gradient_of_a_frozen_part_is_not_made() -> None:
    batch = inputs()
    for frozen in ("hidden", "head", "bias"):
        part = {k: v.detach() if k == frozen else v for k, v in batch.items()}
        value = lm.linear_cross_entropy(
            part["hidden"], part["head"], part["target"], head_bias=part["bias"]
        )
        whole = token_oracle(batch, {})
        leaves = [batch[k] for k in ("hidden", "head", "bias") if k != frozen]
        ours, theirs = torch.autograd.grad(value, leaves), torch.autograd.grad(whole, leaves)
        for a, b in zip(ours, theirs, strict=True):
            torch.testing.assert_close(a, b)
    with torch.no_grad():
        value = lm.linear_cross_entropy(batch["hidden"], batch["head"], batch["target"])
    assert not value.requires_grad


def test_backward_twice_and_derivatives_of_derivatives(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel, "BLOCK_BYTES", 6 * V * 8)
    batch = inputs(3)
    leaves = (batch["hidden"], batch["head"], batch["bias"])
    knobs = {"label_smoothing": 0.1, "z_loss": 0.01, "keywords": KEYWORDS, "form": "nll"}

    def loss(hidden: Tensor, head: Tensor, bias: Tensor) -> Tensor:
        return lm.linear_cross_entropy(hidden, head, batch["target"], head_bias=bias, **knobs)

    value = loss(*leaves)
    first = torch.autograd.grad(value, leaves, retain_graph=True)
    second = torch.autograd.grad(2.0 * value, leaves)
    for a, b in zip(first, second, strict=True):
        torch.testing.assert_close(2.0 * a, b)
    assert torch.autograd.gradcheck(loss, leaves)
    assert torch.autograd.gradgradcheck(loss, leaves)


def test_half_precision_accumulates_in_float32() -> None:
    batch = inputs()
    hidden = batch["hidden"].detach().bfloat16().requires_grad_()
    head = batch["head"].detach().bfloat16().requires_grad_()
    value = lm.linear_cross_entropy(hidden, head, batch["target"])
    assert value.dtype is torch.float32
    torch.testing.assert_close(
        value, lm.linear_cross_entropy(hidden.float(), head.float(), batch["target"])
    )
    assert torch.autograd.grad(value, head)[0].dtype is torch.bfloat16


def test_errors_name_what_is_wrong() -> None:
    batch = inputs()
    hidden, head, target = batch["hidden"], batch["head"], batch["target"]
    with pytest.raises(ValueError, match=r"head \(4, 9\) must be \[V, d\]"):
        lm.linear_cross_entropy(hidden, head.T, target)
    with pytest.raises(ValueError, match=r"bias \(4,\) must be \[V\], \(9,\)"):
        lm.linear_cross_entropy(hidden, head, target, head_bias=batch["bias"][:4])
    with pytest.raises(ValueError, match=r"target\[0, 0\] is 9; expected a class index in \[0, 8"):
        lm.linear_cross_entropy(hidden, head, torch.full_like(target, 9))
    with pytest.raises(ValueError, match=r"class_weight \(3,\) must be one number"):
        lm.linear_cross_entropy(hidden, head, target, class_weight=torch.ones(3))
    with pytest.raises(ValueError, match=r"hidden \(4,\) must be \[\.\.\., T, d\]"):
        lm.linear_cross_entropy(hidden[0, 0], head, target[0, 0], keywords=[1])
    with pytest.raises(TypeError, match="divisor must be three counts"):
        lm.linear_cross_entropy(hidden, head, target, keywords=[1], divisor=3)
    with pytest.raises(ValueError, match="divisor replaces the count"):
        lm.linear_cross_entropy(hidden, head, target, reduction="sum", divisor=3)
