from __future__ import annotations

import itertools
import math
from decimal import Decimal, localcontext

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import lossmith as lm
from lossmith.losses.generation import keyword_hybrid, keyword_placement, keyword_presence

REQUIRE = ("any", "each")
FORMS = ("expected", "nll")


def random_batch(seed: int, batch: int = 4, length: int = 5, vocabulary: int = 4):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(batch, length, vocabulary, generator=generator, dtype=torch.float64)
    target = torch.randint(vocabulary, (batch, length), generator=generator)
    mask = torch.rand(batch, length, generator=generator) < 0.8
    return logits, target, mask


# --- the oracle: every sequence counted, one by one ----------------------------------------------


def first_end(tokens: list[int], phrase: tuple[int, ...]) -> int:
    """How many tokens there are up to the end of the first occurrence; all if there is none."""
    for end in range(len(phrase), len(tokens) + 1):
        if tuple(tokens[end - len(phrase) : end]) == phrase:
            return end
    return len(tokens)


def chance_of_none(rows: list[Tensor], phrases: list[tuple[int, ...]]) -> Tensor:
    total = torch.zeros((), dtype=torch.float64)
    for sequence in itertools.product(range(len(rows[0])), repeat=len(rows)):
        found = any(
            sequence[i : i + len(phrase)] == phrase
            for phrase in phrases
            for i in range(len(sequence) - len(phrase) + 1)
        )
        if not found:
            chance = torch.ones((), dtype=torch.float64)
            for row, token in zip(rows, sequence, strict=True):
                chance = chance * row[token]
            total = total + chance
    return total


def presence_oracle(logits, keywords, mask, target, require, form):
    """The cost of each sequence, and whether it is asked for anything."""
    costs, asked = [], []
    for b in range(len(logits)):
        own = keywords[b] if keywords and isinstance(keywords[0], list) else keywords
        phrases = [k if isinstance(k, tuple) else (k,) for k in own]
        places = [t for t in range(logits.shape[1]) if mask[b, t]]
        rows = [torch.exp(logits[b, t]) / torch.exp(logits[b, t]).sum() for t in places]
        tokens = [int(target[b, t]) for t in places] if target is not None else []
        phrases = [phrase for phrase in phrases if len(phrase) <= len(places)]
        sets = ([phrases] if phrases else []) if require == "any" else [[p] for p in phrases]
        terms = []
        for some in sets:
            end = min(first_end(tokens, phrase) for phrase in some) if tokens else len(places)
            none = chance_of_none(rows[:end], some)
            terms.append(none if form == "expected" else -torch.log(1 - none))
        costs.append(sum(terms) / max(len(terms), 1))
        asked.append(bool(terms))
    return costs, asked


@pytest.mark.parametrize("require", REQUIRE)
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    "keywords",
    [
        [1, 3],
        [(1, 2)],
        [2, (0, 0), (1, 2, 3)],
        [[1], [], [(2, 3), 0], [(0, 1), (1, 1)]],
        [[0, 2], [1], [], [3]],
    ],
)
def test_presence_equals_counting_all_sequences(require, form, keywords):
    for seed, prefix in itertools.product(range(2), (False, True)):
        logits, target, mask = random_batch(seed)
        reference = target if prefix else None
        knobs = {"require": require, "form": form, "target": reference, "mask": mask}
        ours = logits.clone().requires_grad_()
        value = keyword_presence(ours, keywords, **knobs)
        theirs = logits.clone().requires_grad_()
        costs, asked = presence_oracle(theirs, keywords, mask, reference, require, form)
        want = sum(costs) / max(sum(asked), 1)
        torch.testing.assert_close(value, want)
        torch.testing.assert_close(
            torch.autograd.grad(value, ours)[0], torch.autograd.grad(want, theirs)[0]
        )
        rows = keyword_presence(logits, keywords, reduction="none", **knobs)
        torch.testing.assert_close(rows, torch.stack([torch.as_tensor(c).double() for c in costs]))


def test_presence_by_hand():
    p = torch.tensor([[0.5, 0.25, 0.25], [0.1, 0.2, 0.7]])
    logits = p.log().unsqueeze(0)
    none_1, none_2 = 0.75 * 0.8, 0.75 * 0.3
    none_12 = 0.5 * 0.1
    assert keyword_presence(logits, [1, 2]).item() == pytest.approx(none_12)
    each = keyword_presence(logits, [1, 2], require="each").item()
    assert each == pytest.approx((none_1 + none_2) / 2)
    nll = keyword_presence(logits, [1, 2], form="nll").item()
    assert nll == pytest.approx(-math.log(1 - none_12))
    phrase = keyword_presence(logits, [(1, 2)]).item()
    assert phrase == pytest.approx(1 - 0.25 * 0.7)


def test_presence_with_one_position_is_cross_entropy_of_the_keyword():
    logits = random_batch(3)[0][:, :1]
    value = keyword_presence(logits, [[0], [1], [2], [3]], form="nll")
    torch.testing.assert_close(value, F.cross_entropy(logits[:, 0], torch.arange(4)))


def test_shared_keywords_may_be_a_tensor_or_one_list_for_each():
    logits, target, mask = random_batch(4)
    for require, form in itertools.product(REQUIRE, FORMS):
        knobs = {"require": require, "form": form, "mask": mask, "target": target}
        want = keyword_presence(logits, [1, 3], **knobs)
        torch.testing.assert_close(keyword_presence(logits, torch.tensor([1, 3]), **knobs), want)
        torch.testing.assert_close(keyword_presence(logits, [[3, 1]] * 4, **knobs), want)
        torch.testing.assert_close(keyword_presence(logits, [(1,), (3,)], **knobs), want)


def test_automaton_and_log_odds_agree_on_single_tokens():
    # A phrase that cannot occur within the mask changes nothing but the way it is computed.
    logits, _, _ = random_batch(5)
    beyond = (0,) * 9
    for require, form in itertools.product(REQUIRE, FORMS):
        fast = keyword_presence(logits, [1, 3], require=require, form=form)
        slow = keyword_presence(logits, [1, 3, beyond], require=require, form=form)
        torch.testing.assert_close(fast, slow)


@pytest.mark.parametrize("lead", [(), (2,), (2, 3)])
def test_leading_dimensions_are_batch(lead):
    logits = torch.randn(*lead, 4, 5, generator=torch.Generator().manual_seed(0))
    keywords = [[b % 5] for b in range(math.prod(lead))]
    value = keyword_presence(logits, keywords, reduction="none")
    assert value.shape == lead
    flat = keyword_presence(logits.reshape(-1, 4, 5), keywords, reduction="none")
    torch.testing.assert_close(value.flatten(), flat)


def test_sequences_without_anything_to_say_are_no_units():
    logits, _, _ = random_batch(6, batch=3)
    mask = torch.ones(3, 5).bool()
    mask[2] = False
    asked = keyword_presence(logits[:1], [2])
    torch.testing.assert_close(keyword_presence(logits, [[2], [], [2]], mask=mask), asked)
    for keywords in ([], [[], [], []], torch.tensor([], dtype=torch.long), [(1,) * 6]):
        for require, form in itertools.product(REQUIRE, FORMS):
            z = logits.clone().requires_grad_()
            value = keyword_presence(z, keywords, require=require, form=form)
            assert value.item() == 0.0
            assert torch.autograd.grad(value, z)[0].abs().max().item() == 0.0


def test_positions_whose_target_is_ignored_are_not_real():
    logits, target, mask = random_batch(7)
    padded = torch.where(mask, target, -100)
    for keywords in ([1, 3], [(1, 2)]):
        torch.testing.assert_close(
            keyword_presence(logits, keywords, target=padded),
            keyword_presence(logits, keywords, target=target, mask=mask),
        )


# --- numbers at both ends -------------------------------------------------------------------------


def decimal_presence(logits: Tensor, keywords: list[int]) -> tuple[Decimal, list[Decimal]]:
    """-log P(any keyword occurs) and its gradient, in 200 digits."""
    rows = [[Decimal(float(z)).exp() for z in row] for row in logits]
    inside = [sum(row[k] for k in keywords) for row in rows]
    outside = [sum(row) - k for row, k in zip(rows, inside, strict=True)]
    none = Decimal(1)
    for k, other in zip(inside, outside, strict=True):
        none *= other / (k + other)
    gradient = []
    for row, k, other in zip(rows, inside, outside, strict=True):
        pull = -k / (k + other) * none / (1 - none)  # d L / d log-odds
        gradient += [pull * (e / k if v in keywords else -e / other) for v, e in enumerate(row)]
    return -(1 - none).ln(), gradient


SHIFTS = {
    "ordinary": 0.0,
    "q = 1e-8": -18.4,
    "q = 1e-20": -46.0,
    "q = 1e-40": -92.1,
    "q = 1e-60": -138.2,
    "q = 1e-200": -460.5,
    "nearly sure": 6.0,
    "sure": 30.0,
}


@pytest.mark.parametrize("shift", SHIFTS.values(), ids=SHIFTS)
@pytest.mark.parametrize("require", REQUIRE)
def test_float32_keeps_its_digits_at_both_ends(shift, require):
    logits = torch.randn(8, 16, generator=torch.Generator().manual_seed(8))
    logits[:, [3, 7]] += shift
    keywords = [3, 7]
    with localcontext() as context:
        context.prec = 250
        sets = [keywords] if require == "any" else [[k] for k in keywords]
        parts = [decimal_presence(logits, some) for some in sets]
        want = float(sum(value for value, _ in parts) / len(parts))
        exact = [float(sum(g) / len(parts)) for g in zip(*(g for _, g in parts), strict=True)]
    check_value_and_gradient(logits, keywords, require, want, exact)


@pytest.mark.parametrize("require", REQUIRE)
def test_float32_keeps_its_digits_where_one_position_is_sure(require):
    logits = torch.randn(8, 16, generator=torch.Generator().manual_seed(9))
    logits[:, 3] -= 10
    logits[5, 3] = 24.0  # p = 1 - 1e-9
    with localcontext() as context:
        context.prec = 250
        value, gradient = decimal_presence(logits, [3])
    exact = [float(g) for g in gradient]
    check_value_and_gradient(logits, [3], require, float(value), exact)


def check_value_and_gradient(logits, keywords, require, want, exact):
    z = logits.clone().requires_grad_()
    value = keyword_presence(z.unsqueeze(0), keywords, require=require, form="nll")
    assert value.dtype is torch.float32
    assert value.item() == pytest.approx(want, rel=1e-4, abs=1e-37)
    (gradient,) = torch.autograd.grad(value, z)
    reference = torch.tensor(exact, dtype=torch.float64).reshape(z.shape)
    assert torch.isfinite(gradient).all()
    largest = reference.abs().max()
    if largest > 1e-30:  # below that float32 ends
        assert ((gradient.double() - reference).abs().max() / largest).item() <= 1e-4


def test_a_keyword_ruled_out_costs_inf_without_nan_in_the_gradient():
    for keywords in ([0], [(0, 1)]):
        for require in REQUIRE:
            logits = torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(0))
            logits[..., 0] = -math.inf
            logits.requires_grad_()
            value = keyword_presence(logits, keywords, require=require, form="nll")
            assert value.item() == math.inf
            assert torch.isfinite(torch.autograd.grad(value, logits)[0]).all()
            assert keyword_presence(logits, keywords, require=require).item() == 1.0


def test_a_vocabulary_of_keywords_costs_nothing():
    logits = torch.randn(2, 3, 4, requires_grad=True, generator=torch.Generator().manual_seed(0))
    value = keyword_presence(logits, [0, 1, 2, 3], form="nll")
    assert value.item() == 0.0
    assert torch.autograd.grad(value, logits)[0].abs().max().item() == 0.0


def test_pull_of_a_keyword_is_bounded_by_one():
    for seed, shift in itertools.product(range(5), (-60.0, -20.0, -3.0, 0.0, 3.0)):
        logits = torch.randn(3, 7, 6, generator=torch.Generator().manual_seed(seed)).double()
        logits[..., 2] += shift
        logits.requires_grad_()
        for require in REQUIRE:
            value = keyword_presence(logits, [2], require=require, form="nll", reduction="sum")
            (gradient,) = torch.autograd.grad(value, logits)
            # The keyword's logit is where the log-odds move one for one.
            pull = -gradient[..., 2]
            assert (pull >= 0).all()
            assert (pull.sum(dim=-1) <= 1 + 1e-12).all()
        if shift == -60.0:
            assert pull.sum(dim=-1).min().item() == pytest.approx(1.0)


def test_the_source_penalty_has_no_gradient_and_ours_has():
    logits, target, _ = random_batch(10)
    z = logits.clone().requires_grad_()

    def plain(z):
        return F.cross_entropy(z.transpose(1, 2), target)

    # The source: 0.5 times the share of sequences in whose target no keyword stands.
    absent = [not any(int(token) == 3 for token in row) for row in target]
    source = plain(z) + 0.5 * sum(absent) / len(absent)
    assert 0 < sum(absent) < len(absent)
    (base,) = torch.autograd.grad(plain(z), z)
    assert torch.equal(torch.autograd.grad(source, z)[0], base)
    ours = plain(z) + 0.5 * keyword_presence(z, [3], target=target)
    (with_ours,) = torch.autograd.grad(ours, z)
    assert (with_ours - base).abs().max() > 1e-3
    assert ((with_ours - base)[..., 3] <= 0).all()  # descent raises the keyword


def test_what_the_reference_has_said_is_not_asked_for_again():
    z = torch.zeros(1, 5, 4, requires_grad=True)
    target = torch.tensor([[0, 2, 1, 0, 0]])
    value = keyword_presence(z, [2], target=target)
    assert value.item() == pytest.approx(0.75**2)
    (gradient,) = torch.autograd.grad(value, z)
    assert (gradient[0, :2, 2] < 0).all()
    assert gradient[0, 2:].abs().max().item() == 0.0
    assert keyword_presence(z, [3], target=target).item() == pytest.approx(0.75**5)


# --- placement -----------------------------------------------------------------------------------


def test_placement_equals_the_source_loops():
    logits, target, mask = random_batch(11)
    keywords = {1, 3}
    marked = torch.isin(target, torch.tensor([1, 3]))
    batch, length = target.shape
    total = 0.0
    for b in range(batch):
        for t in range(length):
            if int(target[b, t]) in keywords:
                total += math.log(logits[b, t].softmax(dim=-1)[target[b, t]])
    value = keyword_placement(logits, target, marked, divisor=batch * length)
    assert value.item() == pytest.approx(-total / (batch * length))
    mean = keyword_placement(logits, target, marked)
    assert mean.item() == pytest.approx(-total / int(marked.sum()))
    both = keyword_placement(logits, target, marked, mask=mask)
    torch.testing.assert_close(both, keyword_placement(logits, target, marked & mask))


def test_placement_added_to_cross_entropy_is_a_weighted_cross_entropy():
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


def test_placement_with_every_position_marked_is_cross_entropy():
    logits, target, mask = random_batch(13)
    target = torch.where(mask, target, -100)
    everywhere = torch.ones_like(mask)
    torch.testing.assert_close(
        keyword_placement(logits, target, everywhere),
        F.cross_entropy(logits.transpose(1, 2), target),
    )


# --- hybrid --------------------------------------------------------------------------------------


@pytest.mark.parametrize("prefix_aware", [True, False])
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_hybrid_is_the_sum_of_its_terms(prefix_aware, reduction):
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


def test_hybrid_without_its_terms_is_cross_entropy():
    logits, target, mask = random_batch(15)
    value = keyword_hybrid(logits, target, [1], mask, presence=0.0, placement=0.0)
    torch.testing.assert_close(value, lm.cross_entropy(logits, target))
    torch.testing.assert_close(keyword_hybrid(logits, target, [], ~mask & mask), value)


def test_hybrid_micro_batches_add_up_with_three_counts():
    logits, target, mask = random_batch(16, batch=6)
    marked = torch.isin(target, torch.tensor([1, 2]))
    keywords = [[1], [], [2, 3], [0], [(1, 2)], []]
    counts = (mask.sum(), 4, (marked & mask).sum())
    whole = keyword_hybrid(logits, target, keywords, marked, mask=mask)
    parts = [
        keyword_hybrid(
            logits[a:b], target[a:b], keywords[a:b], marked[a:b], mask=mask[a:b], divisor=counts
        )
        for a, b in ((0, 1), (1, 4), (4, 6))
    ]
    torch.testing.assert_close(sum(parts), whole)


def test_hybrid_none_is_the_cost_of_each_sequence():
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


def test_padding_reaches_neither_value_nor_gradient():
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


@pytest.mark.parametrize("keywords", [[1, 2], [(1, 2), 3], [[1], [2, 3], [(0, 1)], []]])
@pytest.mark.parametrize("require", REQUIRE)
def test_presence_is_one_graph(keywords, require):
    logits, target, mask = random_batch(19)

    def loss(z):
        return keyword_presence(z, keywords, require=require, form="nll", target=target, mask=mask)

    compiled = torch.compile(loss, fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(logits), loss(logits))


# --- errors --------------------------------------------------------------------------------------


def test_errors_name_what_is_wrong():
    logits, target, mask = random_batch(20)
    with pytest.raises(ValueError, match=r"keywords\[0\] is 4; expected a token id in \[0, 3\]"):
        keyword_presence(logits, [4])
    with pytest.raises(ValueError, match=r"keywords\[1\] is 9; expected a class index"):
        keyword_presence(logits, torch.tensor([1, 9]))
    with pytest.raises(ValueError, match=r"keywords \(4, 1\) must have one dimension"):
        keyword_presence(logits, torch.ones(4, 1).long())
    with pytest.raises(ValueError, match="holds 1 lists, logits 4 sequences"):
        keyword_presence(logits, [[1, 2]])
    with pytest.raises(ValueError, match="require='all' is not a choice"):
        keyword_presence(logits, [1], require="all")
    with pytest.raises(ValueError, match="form='log' is not a choice"):
        keyword_presence(logits, [1], form="log")
    with pytest.raises(ValueError, match=r"logits \(4,\) must be \[..., T, V\]"):
        keyword_presence(torch.zeros(4), [1])
    with pytest.raises(ValueError, match=r"weight \(4, 5\) must hold one value for each sequence"):
        keyword_presence(logits, [1], weight=torch.ones(4, 5))
    with pytest.raises(ValueError, match=r"mask \(5, 4\) must have the shape of logits"):
        keyword_presence(logits, [1], mask=mask.T)
    with pytest.raises(TypeError, match="keyword_mask must be bool"):
        keyword_placement(logits, target, mask.long())
    with pytest.raises(ValueError, match=r"target\[0, 0\] is 7; expected a class index"):
        keyword_placement(logits, torch.full_like(target, 7), mask)
    with pytest.raises(TypeError, match="divisor must be three counts"):
        keyword_hybrid(logits, target, [1], mask, divisor=20)
    with pytest.raises(ValueError, match="presence must lie in"):
        keyword_hybrid(logits, target, [1], mask, presence=-0.1)
