"""Keyword placement, and the hybrid of cross-entropy, presence and placement."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import lossmith as lm
from lossmith.kernels import collapse
from lossmith.losses.generation import keyword_hybrid, keyword_placement, keyword_presence

REQUIRE = ("any", "each")
FORMS = ("expected", "nll")


def random_batch(
    seed: int, batch: int = 4, length: int = 5, vocabulary: int = 4
) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(batch, length, vocabulary, generator=generator, dtype=torch.float64)
    target = torch.randint(vocabulary, (batch, length), generator=generator)
    mask = torch.rand(batch, length, generator=generator) < 0.8
    return logits, target, mask


def test_placement_equals_the_source_loops() -> None:
    logits, target, mask = random_batch(11)
    keywords = {1, 3}
    marked = torch.isin(target, torch.tensor([1, 3]))
    batch, length = target.shape
    one, two = logits.clone().requires_grad_(), logits.clone().requires_grad_()
    reward = torch.zeros((), dtype=torch.float64)
    for b in range(batch):
        for t in range(length):
            if int(target[b, t]) in keywords:
                p = two[b, t].exp() / two[b, t].exp().sum()
                reward = reward + p[target[b, t]].log()
    source = -0.25 * reward / (batch * length)
    value = 0.25 * keyword_placement(one, target, marked, divisor=batch * length)
    torch.testing.assert_close(value, source)
    torch.testing.assert_close(
        torch.autograd.grad(value, one)[0], torch.autograd.grad(source, two)[0]
    )
    mean = keyword_placement(logits, target, marked)
    assert mean.item() == pytest.approx(-reward.item() / int(marked.sum()))
    both = keyword_placement(logits, target, marked, mask=mask)
    torch.testing.assert_close(both, keyword_placement(logits, target, marked & mask))


def test_placement_added_to_cross_entropy_is_a_weighted_cross_entropy() -> None:
    logits, target, mask = random_batch(12)
    marked = torch.isin(target, torch.tensor([0, 2]))
    factor, tokens = 0.25, int(mask.sum())
    one = logits.clone().requires_grad_()
    summed = lm.cross_entropy(one, target, mask=mask, divisor=tokens)
    summed = summed + factor * keyword_placement(one, target, marked, mask=mask, divisor=tokens)
    two = logits.clone().requires_grad_()
    token_weight = 1.0 + factor * marked.double()
    weighted = lm.cross_entropy(two, target, mask=mask, weight=token_weight)
    torch.testing.assert_close(summed, weighted)
    torch.testing.assert_close(
        torch.autograd.grad(summed, one)[0], torch.autograd.grad(weighted, two)[0]
    )


def test_placement_with_every_position_marked_is_cross_entropy() -> None:
    logits, target, mask = random_batch(13)
    target = torch.where(mask, target, -100)
    everywhere = torch.ones_like(mask)
    torch.testing.assert_close(
        keyword_placement(logits, target, everywhere),
        F.cross_entropy(logits.transpose(1, 2), target),
    )


@pytest.mark.parametrize("prefix_aware", [True, False])
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_hybrid_is_the_sum_of_its_terms(prefix_aware: bool, reduction: str) -> None:
    logits, target, mask = random_batch(14)
    marked = torch.isin(target, torch.tensor([1, 2]))
    keywords = [[1], [], [(1, 2), 3], [2]]
    for require, form in itertools.product(REQUIRE, FORMS):
        one, two = logits.clone().requires_grad_(), logits.clone().requires_grad_()
        shared = {"mask": mask, "reduction": reduction}
        value = keyword_hybrid(
            one,
            target,
            keywords,
            marked,
            presence=0.3,
            placement=0.2,
            require=require,
            form=form,
            prefix_aware=prefix_aware,
            **shared,
        )
        reference = target if prefix_aware else None
        terms = lm.cross_entropy(two, target, **shared)
        # Without a target the presence term is told by mask alone.
        terms = terms + 0.3 * keyword_presence(
            two, keywords, require=require, form=form, target=reference, **shared
        )
        terms = terms + 0.2 * keyword_placement(two, target, marked, **shared)
        torch.testing.assert_close(value, terms)
        torch.testing.assert_close(
            torch.autograd.grad(value, one)[0], torch.autograd.grad(terms, two)[0]
        )


def test_hybrid_without_its_terms_is_cross_entropy() -> None:
    logits, target, mask = random_batch(15)
    value = keyword_hybrid(logits, target, [1], mask, presence=0.0, placement=0.0)
    torch.testing.assert_close(value, lm.cross_entropy(logits, target))
    torch.testing.assert_close(keyword_hybrid(logits, target, [], ~mask & mask), value)


def test_hybrid_micro_batches_add_up_with_three_counts() -> None:
    logits, target, mask = random_batch(16, batch=6)
    marked = torch.isin(target, torch.tensor([1, 2]))
    keywords = [[1], [], [2, 3], [0], [(1, 2)], []]
    counts = (mask.sum(), 4, (marked & mask).sum())
    one, two = logits.clone().requires_grad_(), logits.clone().requires_grad_()
    whole = keyword_hybrid(one, target, keywords, marked, mask=mask)
    parts = [
        keyword_hybrid(
            two[a:b], target[a:b], keywords[a:b], marked[a:b], mask=mask[a:b], divisor=counts
        )
        for a, b in ((0, 1), (1, 4), (4, 6))
    ]
    torch.testing.assert_close(sum(parts), whole)
    torch.testing.assert_close(
        torch.autograd.grad(sum(parts), two)[0], torch.autograd.grad(whole, one)[0]
    )


def test_hybrid_none_is_the_cost_of_each_sequence() -> None:
    logits, target, mask = random_batch(17)
    mask[1] = False
    marked = torch.isin(target, torch.tensor([1, 2]))
    weight = torch.tensor([1.0, 2.0, 0.5, 3.0], dtype=torch.float64)
    knobs = {"mask": mask, "presence": 0.7, "placement": 0.4}
    rows = keyword_hybrid(logits, target, [1, 2], marked, reduction="none", **knobs)
    assert rows.shape == (4,)
    assert rows[1] == 0.0
    total = keyword_hybrid(logits, target, [1, 2], marked, reduction="sum", **knobs)
    torch.testing.assert_close(rows.sum(), total)
    weighted = keyword_hybrid(
        logits, target, [1, 2], marked, weight=weight, reduction="none", **knobs
    )
    torch.testing.assert_close(weighted, rows * weight)
    alone = keyword_hybrid(
        logits[2:3],
        target[2:3],
        [1, 2],
        marked[2:3],
        reduction="sum",
        **{**knobs, "mask": mask[2:3]},
    )
    torch.testing.assert_close(rows[2], alone)


def test_padding_reaches_neither_value_nor_gradient() -> None:
    logits, target, mask = random_batch(18)
    marked = torch.isin(target, torch.tensor([1, 2]))
    spoiled = torch.where(mask.unsqueeze(-1), logits, math.nan).requires_grad_()
    nonsense = torch.where(mask, target, 10**9)
    for keywords in ([1, (1, 2)], [[1], [2, 3], [(0, 1)], []]):
        for require, form in itertools.product(REQUIRE, FORMS):
            knobs = {"require": require, "form": form, "mask": mask}
            value = keyword_hybrid(spoiled, nonsense, keywords, marked, **knobs)
            torch.testing.assert_close(
                value, keyword_hybrid(logits, target, keywords, marked, **knobs)
            )
            assert torch.isfinite(torch.autograd.grad(value, spoiled)[0]).all()


def test_errors_name_what_is_wrong() -> None:
    logits, target, mask = random_batch(20)
    with pytest.raises(TypeError, match="keyword_mask must be bool"):
        keyword_placement(logits, target, mask.long())
    with pytest.raises(ValueError, match=r"target\[0, 0\] is 7; expected a class index"):
        keyword_placement(logits, torch.full_like(target, 7), mask)
    with pytest.raises(TypeError, match="divisor must be three counts"):
        keyword_hybrid(logits, target, [1], mask, divisor=20)
    with pytest.raises(ValueError, match="presence must lie in"):
        keyword_hybrid(logits, target, [1], mask, presence=-0.1)
    with pytest.raises(ValueError, match="placement must lie in"):
        keyword_hybrid(logits, target, [1], mask, placement=-0.1)
    with pytest.raises(ValueError, match=r"keyword_mask \(5, 4\) must have the shape of logits"):
        keyword_hybrid(logits, target, [1], mask.T)


@pytest.mark.parametrize("keywords", [[1, (1, 2)], [[1], [2, 2], [(0, 1)], []], torch.tensor([3])])
def test_a_large_vocabulary_takes_tiles_to_the_same_numbers(
    keywords: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    logits, target, mask = random_batch(23)
    marked = torch.isin(target, torch.tensor([1, 2]))
    for require, form in itertools.product(REQUIRE, FORMS):
        knobs = {"require": require, "form": form, "mask": mask}
        results = []
        for small in (1 << 20, 0):
            monkeypatch.setattr(collapse, "SMALL", small)
            z = logits.clone().requires_grad_()
            value = keyword_hybrid(z, target, keywords, marked, **knobs)
            results.append((value, torch.autograd.grad(value, z)[0]))
        torch.testing.assert_close(*results)


def test_a_keyword_listed_twice_is_one_keyword() -> None:
    logits, _, _ = random_batch(24)
    once = keyword_presence(logits, [2, 3])
    for twice in ([2, 3, 2], torch.tensor([2, 3, 3]), [[2, 2, 3]] * 4):
        torch.testing.assert_close(keyword_presence(logits, twice), once)
