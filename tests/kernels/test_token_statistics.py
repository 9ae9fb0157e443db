"""Token statistics against full logits, and sequence losses written with them."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

import lossmith as lm
from lossmith.kernels import linear_cross_entropy as kernel

B, T, D, V = 3, 4, 5, 11


def inputs(seed: int = 0) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64).requires_grad_()

    target = torch.randint(V, (B, T), generator=generator)
    target[1, 2] = -100
    return normal(B, T, D), normal(V, D), normal(V), target


@pytest.mark.parametrize("rows", [1, 5, 100])
@pytest.mark.parametrize("ids", [None, "shared", "own"])
@pytest.mark.parametrize("with_target", [True, False])
def test_equal_to_full_logits(
    rows: int, ids: str | None, with_target: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kernel, "BLOCK_BYTES", rows * V * 8)
    hidden, head, bias, target = inputs()
    valid = target != -100 if with_target else torch.ones_like(target, dtype=torch.bool)
    chosen = None
    if ids == "shared":
        chosen = torch.tensor([3, 0, 3, 7])
    elif ids == "own":
        chosen = torch.randint(V, (B, T, 3), generator=torch.Generator().manual_seed(1))
    found = lm.token_statistics(
        hidden, head, target if with_target else None, ids=chosen, head_bias=bias
    )
    logits = hidden @ head.T + bias
    want = {"log_sum_exp": torch.where(valid, logits.logsumexp(-1), 0.0)}
    if with_target:
        own = logits.gather(-1, target.clamp(min=0).unsqueeze(-1)).squeeze(-1)
        want["target_logit"] = torch.where(valid, own, 0.0)
    if chosen is not None:
        index = chosen.expand(B, T, -1)
        want["logits"] = torch.where(valid.unsqueeze(-1), logits.gather(-1, index), 0.0)
    one = two = torch.zeros((), dtype=torch.float64)
    for name, value in found._asdict().items():
        if name not in want:
            assert value is None
            continue
        torch.testing.assert_close(value, want[name])
        upstream = torch.randn(value.shape, generator=torch.Generator().manual_seed(2)).double()
        one, two = one + (value * upstream).sum(), two + (want[name] * upstream).sum()
    leaves = (hidden, head, bias)
    pairs = zip(torch.autograd.grad(one, leaves), torch.autograd.grad(two, leaves), strict=True)
    for a, b in pairs:
        torch.testing.assert_close(a, b)


def test_the_presence_of_a_keyword_in_five_lines() -> None:
    hidden, head, _, _ = inputs(1)
    found = lm.token_statistics(hidden, head, ids=torch.tensor([3, 7]))
    log_p = found.logits - found.log_sum_exp.unsqueeze(-1)
    absent = torch.log1p(-log_p.exp().sum(dim=-1)).sum(dim=-1).exp()
    want = lm.keyword_presence(hidden @ head.T, [3, 7], reduction="none")
    torch.testing.assert_close(absent, want)
    for a, b in zip(
        torch.autograd.grad(absent.sum(), (hidden, head)),
        torch.autograd.grad(want.sum(), (hidden, head)),
        strict=True,
    ):
        torch.testing.assert_close(a, b)


def test_the_risk_of_whole_sequences() -> None:
    hidden, head, _, target = inputs(2)  # the rows are three samples of one source
    found = lm.token_statistics(hidden, head, target)
    log_probs = (found.target_logit - found.log_sum_exp).sum(dim=-1)
    reward = torch.tensor([1.0, 0.0, 0.5], dtype=torch.float64)
    value = lm.sequence_risk(log_probs[None], reward[None])
    costs = lm.cross_entropy(hidden @ head.T, target, reduction="none").sum(dim=-1)
    want = lm.sequence_risk(-costs[None], reward[None])
    torch.testing.assert_close(value, want)
    torch.testing.assert_close(
        torch.autograd.grad(value, head)[0], torch.autograd.grad(want, head)[0]
    )


def test_derivatives_of_both_orders_and_transforms() -> None:
    hidden, head, _, target = inputs(3)

    def loss(hidden: Tensor, head: Tensor) -> Tensor:
        found = lm.token_statistics(hidden, head, target, ids=torch.tensor([2]))
        assert found.target_logit is not None and found.logits is not None
        gap = found.log_sum_exp - found.target_logit
        return (gap**2).sum() + (found.logits * found.log_sum_exp.unsqueeze(-1)).sum()

    assert torch.autograd.gradcheck(loss, (hidden, head))
    assert torch.autograd.gradgradcheck(loss, (hidden, head))
    torch.testing.assert_close(
        torch.func.grad(loss)(hidden, head), torch.autograd.grad(loss(hidden, head), hidden)[0]
    )
    compiled = torch.compile(loss, fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(hidden, head), loss(hidden, head))


def test_tokens_that_do_not_count_may_hold_anything() -> None:
    hidden, head, _, target = inputs(4)
    mask = target != -100
    spoiled = torch.where(mask.unsqueeze(-1), hidden, math.nan).detach().requires_grad_()
    found = lm.token_statistics(spoiled, head, ids=torch.tensor([1]), mask=mask)
    assert found.log_sum_exp[1, 2] == 0.0
    (gradient,) = torch.autograd.grad(found.log_sum_exp.sum(), spoiled)
    assert gradient.isfinite().all()
    assert not gradient[1, 2].any()


def test_errors_name_what_is_wrong() -> None:
    hidden, head, _, target = inputs()
    with pytest.raises(ValueError, match=r"ids\[1\] is 11; expected a class index in \[0, 10\]"):
        lm.token_statistics(hidden, head, ids=torch.tensor([1, 11]))
    with pytest.raises(ValueError, match=r"ids \(2, 4, 1\) must be \[k\]"):
        lm.token_statistics(hidden, head, ids=torch.zeros(2, 4, 1).long())
    with pytest.raises(ValueError, match=r"target \(4, 3\) must have the shape of hidden"):
        lm.token_statistics(hidden, head, target.T)
