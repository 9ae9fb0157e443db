"""Keyword presence against counting every sequence that could be drawn, one by one."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from lossmith.losses.generation import keyword_presence

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


def presence_oracle(
    logits: Tensor,
    keywords: list[object],
    mask: Tensor,
    target: Tensor | None,
    require: str,
    form: str,
) -> tuple[list[Tensor], list[bool]]:
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
def test_presence_equals_counting_all_sequences(
    require: str, form: str, keywords: list[object]
) -> None:
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


def test_presence_by_hand() -> None:
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


def test_presence_with_one_position_is_cross_entropy_of_the_keyword() -> None:
    logits = random_batch(3)[0][:, :1]
    value = keyword_presence(logits, [[0], [1], [2], [3]], form="nll")
    torch.testing.assert_close(value, F.cross_entropy(logits[:, 0], torch.arange(4)))


def test_shared_keywords_may_be_a_tensor_or_one_list_for_each() -> None:
    logits, target, mask = random_batch(4)
    for require, form in itertools.product(REQUIRE, FORMS):
        knobs = {"require": require, "form": form, "mask": mask, "target": target}
        want = keyword_presence(logits, [1, 3], **knobs)
        torch.testing.assert_close(keyword_presence(logits, torch.tensor([1, 3]), **knobs), want)
        torch.testing.assert_close(keyword_presence(logits, [[3, 1]] * 4, **knobs), want)
        torch.testing.assert_close(keyword_presence(logits, [(1,), (3,)], **knobs), want)


def test_automaton_and_log_odds_agree_on_single_tokens() -> None:
    # A phrase that cannot occur within the mask changes nothing but the way it is computed.
    logits, _, _ = random_batch(5)
    beyond = (0,) * 9
    for require, form in itertools.product(REQUIRE, FORMS):
        fast = keyword_presence(logits, [1, 3], require=require, form=form)
        slow = keyword_presence(logits, [1, 3, beyond], require=require, form=form)
        torch.testing.assert_close(fast, slow)


@pytest.mark.parametrize("lead", [(), (2,), (2, 3)])
def test_leading_dimensions_are_batch(lead: tuple[int, ...]) -> None:
    logits = torch.randn(*lead, 4, 5, generator=torch.Generator().manual_seed(0))
    keywords = [[b % 5] for b in range(math.prod(lead))]
    value = keyword_presence(logits, keywords, reduction="none")
    assert value.shape == lead
    flat = keyword_presence(logits.reshape(-1, 4, 5), keywords, reduction="none")
    torch.testing.assert_close(value.flatten(), flat)


def test_sequences_without_anything_to_say_are_no_units() -> None:
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


def test_positions_whose_target_is_ignored_are_not_real() -> None:
    logits, target, mask = random_batch(7)
    padded = torch.where(mask, target, -100)
    for keywords in ([1, 3], [(1, 2)]):
        torch.testing.assert_close(
            keyword_presence(logits, keywords, target=padded),
            keyword_presence(logits, keywords, target=target, mask=mask),
        )


def test_the_source_penalty_has_no_gradient_and_ours_has() -> None:
    logits, target, _ = random_batch(10)
    z = logits.clone().requires_grad_()

    def plain(z: Tensor) -> Tensor:
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


def test_what_the_reference_has_said_is_not_asked_for_again() -> None:
    z = torch.zeros(1, 5, 4, requires_grad=True)
    target = torch.tensor([[0, 2, 1, 0, 0]])
    value = keyword_presence(z, [2], target=target)
    assert value.item() == pytest.approx(0.75**2)
    (gradient,) = torch.autograd.grad(value, z)
    assert (gradient[0, :2, 2] < 0).all()
    assert gradient[0, 2:].abs().max().item() == 0.0
    assert keyword_presence(z, [3], target=target).item() == pytest.approx(0.75**5)
    # The phrase is said by the third position; until then it may end at two, never at both.
    value = keyword_presence(z, [(2, 1)], target=target)
    assert value.item() == pytest.approx(1 - 2 * 0.25**2)
    (gradient,) = torch.autograd.grad(value, z)
    assert gradient[0, :3].abs().max().item() > 0.0
    assert gradient[0, 3:].abs().max().item() == 0.0


def test_where_the_output_is_certain_the_cost_is_the_share_without_a_keyword() -> None:
    # The scale of the source's penalty, which counts sequences without any of the keywords.
    _, output, _ = random_batch(21, batch=40)
    logits = F.one_hot(output, 4).double().log()
    for keywords in ([3], [0, 3], [(1, 2)], [(1, 1), 3]):
        phrases = [k if isinstance(k, tuple) else (k,) for k in keywords]
        lacking = {p: [first_end([*row, -1], p) > 5 for row in output.tolist()] for p in phrases}
        share = sum(map(all, zip(*lacking.values(), strict=True))) / 40
        assert 0 < share < 1
        assert keyword_presence(logits, keywords).item() == pytest.approx(share)
        shares = [sum(rows) / 40 for rows in lacking.values()]
        value = keyword_presence(logits, keywords, require="each").item()
        assert value == pytest.approx(sum(shares) / len(shares))


def test_any_and_each_are_one_where_a_sequence_has_one_keyword() -> None:
    logits, target, mask = random_batch(22)
    for form, keywords in itertools.product(FORMS, ([[1], [(2, 0)], [], [3, 3]], [(1, 1)], [2])):
        knobs = {"form": form, "mask": mask, "target": target, "reduction": "none"}
        any_of = keyword_presence(logits, keywords, require="any", **knobs)
        torch.testing.assert_close(
            any_of, keyword_presence(logits, keywords, require="each", **knobs)
        )


@pytest.mark.parametrize("keywords", [[1, 2], [(1, 2), 3], [[1], [2, 3], [(0, 1)], []]])
@pytest.mark.parametrize("require", REQUIRE)
def test_presence_is_one_graph(keywords: list[object], require: str) -> None:
    logits, target, mask = random_batch(19)

    def loss(z: Tensor) -> Tensor:
        return keyword_presence(z, keywords, require=require, form="nll", target=target, mask=mask)

    compiled = torch.compile(loss, fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(logits), loss(logits))


def test_errors_name_what_is_wrong() -> None:
    logits, _, mask = random_batch(20)
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
