"""The probability that keywords occur, against counting every possible sequence."""

from __future__ import annotations

import itertools
from decimal import Decimal, localcontext

import pytest
import torch
from torch import Tensor

from lossmith.kernels.keywords import occurrence, read_keywords
from lossmith.kernels.phrases import build_automata

PHRASES = [
    [(0, 1)],
    [(0, 0)],
    [(0, 1, 0)],
    [(1, 1, 1)],
    [(0, 1, 0, 1)],
    [(0, 0, 1)],
    [(0, 1), (1, 2)],
    [(0, 1, 2), (1,)],
    [(0, 1, 2), (1, 2)],
    [(0, 1), (0, 1, 2), (2, 2, 0)],
    [(1, 0, 1), (0, 0), (2,)],
    [(2,), (0, 2)],
    [(1, 2), (1, 2)],
]


def holds(sequence: tuple[int, ...], phrase: tuple[int, ...]) -> bool:
    n = len(phrase)
    return any(sequence[i : i + n] == phrase for i in range(len(sequence) - n + 1))


def counted_probability(p: Tensor, phrases: list[tuple[int, ...]]) -> float:
    """P(any of the phrases occurs) by going through all sequences over rows of p."""
    total = 0.0
    for sequence in itertools.product(range(p.shape[1]), repeat=p.shape[0]):
        if any(holds(sequence, phrase) for phrase in phrases):
            chance = 1.0
            for t, token in enumerate(sequence):
                chance *= float(p[t, token])
            total += chance
    return total


def random_log_p(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64).log_softmax(dim=-1)


@pytest.mark.parametrize("phrases", PHRASES)
def test_any_equals_counting_all_sequences(phrases: list[tuple[int, ...]]) -> None:
    log_p = random_log_p(2, 5, 3)
    found = occurrence(log_p, phrases, torch.ones(2, 5).bool(), require="any")
    for b in range(2):
        want = counted_probability(log_p[b].exp(), phrases)
        assert found.log_occurs[b, 0].exp().item() == pytest.approx(want, rel=1e-12)
        assert found.log_none[b, 0].exp().item() == pytest.approx(1 - want, rel=1e-10)


@pytest.mark.parametrize("phrases", PHRASES)
def test_each_equals_counting_all_sequences(phrases: list[tuple[int, ...]]) -> None:
    log_p = random_log_p(1, 5, 3, seed=1)
    found = occurrence(log_p, phrases, torch.ones(1, 5).bool(), require="each")
    want = sorted(counted_probability(log_p[0].exp(), [phrase]) for phrase in phrases)
    assert sorted(found.log_occurs[0].exp().tolist()) == pytest.approx(want, rel=1e-12)
    absent = sorted(1 - x for x in want)
    assert sorted(found.log_none[0].exp().tolist()) == pytest.approx(absent, rel=1e-10)


def test_each_sequence_has_its_own_keywords() -> None:
    log_p = random_log_p(4, 5, 3, seed=2)
    keywords = [[(0, 1), 2], [], [(1, 1, 2)], [0]]
    real = torch.ones(4, 5).bool()
    found = occurrence(log_p, keywords, real, require="any")
    assert found.asked[:, 0].tolist() == [True, False, True, True]
    for b, phrases in enumerate([[(0, 1), (2,)], None, [(1, 1, 2)], [(0,)]]):
        if phrases:
            want = counted_probability(log_p[b].exp(), phrases)
            assert found.log_occurs[b, 0].exp().item() == pytest.approx(want, rel=1e-12)
    each = occurrence(log_p, keywords, real, require="each")
    assert each.asked.sum(dim=1).tolist() == [2, 0, 1, 1]


def test_masked_positions_are_skipped_as_if_they_were_not_there() -> None:
    log_p = random_log_p(1, 6, 3, seed=3)
    real = torch.tensor([[True, False, True, True, False, True]])
    for require in ("any", "each"):
        for keywords in ([(0, 1, 0)], [(0, 0), (1, 2)], [1]):
            skipped = occurrence(log_p, keywords, real, require=require)
            short = log_p[:, real[0]]
            without = occurrence(short, keywords, torch.ones(1, 4).bool(), require=require)
            torch.testing.assert_close(skipped.log_occurs, without.log_occurs)
            torch.testing.assert_close(skipped.log_none, without.log_none)


def test_reference_ends_the_count_at_the_first_occurrence() -> None:
    log_p = random_log_p(1, 6, 3, seed=4)
    reference = torch.tensor([[2, 0, 0, 1, 0, 1]])
    real = torch.ones(1, 6).bool()
    # (0, 1) is first complete at position 3, (1, 2) never, 2 at position 0.
    counts = {(0, 1): 4, (1, 2): 6, 2: 1, (0, 0, 1, 0): 5}
    for keyword, length in counts.items():
        for require in ("any", "each"):
            got = occurrence(log_p, [keyword], real, require=require, reference=reference)
            cut = occurrence(log_p[:, :length], [keyword], real[:, :length], require=require)
            torch.testing.assert_close(got.log_occurs, cut.log_occurs)
    # Any of them: up to the first of all; each: every keyword on its own.
    got = occurrence(log_p, [(0, 1), (0, 0)], real, require="any", reference=reference)
    cut = occurrence(log_p[:, :3], [(0, 1), (0, 0)], real[:, :3], require="any")
    torch.testing.assert_close(got.log_occurs, cut.log_occurs)
    got = occurrence(log_p, [(0, 1), (0, 0)], real, require="each", reference=reference)
    for k, (phrase, length) in enumerate([((0, 1), 4), ((0, 0), 3)]):
        cut = occurrence(log_p[:, :length], [phrase], real[:, :length], require="each")
        torch.testing.assert_close(got.log_occurs[:, k], cut.log_occurs[:, 0])


def test_masked_positions_of_the_reference_complete_nothing() -> None:
    log_p = random_log_p(1, 4, 3, seed=5)
    reference = torch.tensor([[0, 1, 0, 1]])
    real = torch.tensor([[True, False, True, True]])
    for keyword in (1, (0, 1)):
        got = occurrence(log_p, [keyword], real, require="any", reference=reference)
        plain = occurrence(log_p, [keyword], real, require="any")
        torch.testing.assert_close(got.log_occurs, plain.log_occurs)  # first at the last position


def test_a_phrase_longer_than_the_sequence_is_not_asked() -> None:
    log_p = random_log_p(2, 3, 3)
    real = torch.tensor([[True, True, True], [True, False, False]])
    found = occurrence(log_p, [(0, 1)], real, require="any")
    assert found.asked.tolist() == [[True], [False]]
    assert occurrence(log_p, [(0, 1, 2, 0)], real, require="each").asked.any().item() is False


def decimal_occurrence(logits: Tensor, phrase: tuple[int, ...]) -> tuple[Decimal, list[Decimal]]:
    """P(phrase occurs) and its gradient with respect to the logits, exactly."""
    rows = [[Decimal(float(z)).exp() for z in row] for row in logits]
    rows = [[e / sum(row) for e in row] for row in rows]
    size = len(rows[0])
    total = Decimal(0)
    gradient = [Decimal(0)] * (len(rows) * size)
    for sequence in itertools.product(range(size), repeat=len(rows)):
        if not holds(sequence, phrase):
            continue
        chance = Decimal(1)
        for row, token in zip(rows, sequence, strict=True):
            chance *= row[token]
        total += chance
        for t, token in enumerate(sequence):
            for v in range(size):
                gradient[t * size + v] += chance * ((1 if v == token else 0) - rows[t][v])
    return total, gradient


@pytest.mark.parametrize("shift", [0.0, -18.0, -46.0, -69.0, -92.0, -138.0, 20.0, 60.0])
@pytest.mark.parametrize("phrase", [(0, 1), (0, 0)])
def test_float32_keeps_its_digits_at_both_ends(shift: float, phrase: tuple[int, ...]) -> None:
    generator = torch.Generator().manual_seed(6)
    logits = torch.randn(4, 3, generator=generator)
    logits[:, 0] += shift if phrase == (0, 1) else shift / 2
    with localcontext() as context:
        context.prec = 150
        chance, exact = decimal_occurrence(logits, phrase)
        nll = float(-chance.ln())
        nll_gradient = torch.tensor([float(-g / chance) for g in exact], dtype=torch.float64)
        expected = float(1 - chance)
        expected_gradient = torch.tensor([float(-g) for g in exact], dtype=torch.float64)
    z = logits.clone().requires_grad_()
    found = occurrence(
        z.unsqueeze(0).log_softmax(dim=-1), [phrase], torch.ones(1, 4).bool(), require="any"
    )
    assert -found.log_occurs.item() == pytest.approx(nll, rel=1e-4)
    assert found.log_none.exp().item() == pytest.approx(expected, rel=1e-4, abs=1e-37)
    (got,) = torch.autograd.grad(-found.log_occurs.sum(), z, retain_graph=True)
    largest = nll_gradient.abs().max()
    assert ((got.double().flatten() - nll_gradient).abs().max() / largest).item() <= 1e-4
    (got,) = torch.autograd.grad(found.log_none.exp().sum(), z)
    largest = expected_gradient.abs().max()
    if largest > 1e-30:  # below that float32 ends
        error = (got.double().flatten() - expected_gradient).abs().max() / largest
        assert error.item() <= 1e-4


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("phrase", [(0, 1), (0, 1, 2), (2, 0, 1, 1)])
def test_a_long_sequence_equals_the_recursion_over_first_occurrences(
    phrase: tuple[int, ...], dtype: torch.dtype
) -> None:
    # No end of these phrases begins them, so that two occurrences never overlap:
    # P(none in t) = P(none in t - 1) - P(none in t - n) P(the phrase at the last n positions).
    log_p = random_log_p(1, 150, 4, seed=8)
    p, n = log_p[0].exp(), len(phrase)
    none = [1.0] * n
    for t in range(n, 151):
        here = float(torch.stack([p[t - n + i, token] for i, token in enumerate(phrase)]).prod())
        none.append(none[t - 1] - none[t - n] * here)
    assert len(none) == 151
    found = occurrence(log_p.to(dtype), [phrase], torch.ones(1, 150).bool(), require="any")
    tolerance = 1e-10 if dtype is torch.float64 else 1e-4
    assert found.log_none.exp().item() == pytest.approx(none[-1], rel=tolerance)
    assert found.log_occurs.exp().item() == pytest.approx(1 - none[-1], rel=tolerance)


def test_gradient_of_phrases_passes_gradcheck() -> None:
    z = random_log_p(2, 4, 3, seed=7).requires_grad_()
    reference = torch.tensor([[0, 1, 1, 2], [2, 2, 0, 0]])
    real = torch.tensor([[True, True, True, True], [True, False, True, True]])

    def both_ends(z: Tensor) -> tuple[Tensor, Tensor]:
        keywords = [[(0, 1), 2], [(0, 0)]]
        found = occurrence(
            z.log_softmax(dim=-1), keywords, real, require="each", reference=reference
        )
        asked = found.asked
        return torch.where(asked, found.log_occurs, 0.0), torch.where(asked, found.log_none, 0.0)

    assert torch.autograd.gradcheck(both_ends, (z,))


def test_automaton_of_a_self_overlapping_phrase() -> None:
    automata = build_automata([[[(4, 7, 4, 8)]]], torch.device("cpu"))
    assert automata.alphabet.ids.tolist() == [[4, 7, 8]]
    # Columns 4, 7, 8, other; after 4 7 4, a 7 goes back to having read 4 7; 4 = occurred.
    assert automata.step.tolist() == [[[[1, 0, 0, 0], [1, 2, 0, 0], [3, 0, 0, 0], [1, 2, 4, 0]]]]


def test_automaton_stops_at_a_shorter_phrase_inside_a_longer_one() -> None:
    automata = build_automata([[[(0, 1, 2), (1,)]]], torch.device("cpu"))
    # Any 1 ends the search, so having read 0 leads nowhere but back.
    assert automata.step.tolist() == [[[[1, 2, 0, 0], [1, 2, 0, 0]]]]
    assert automata.shortest.tolist() == [[1]]


@pytest.mark.parametrize(
    ("keywords", "error", "message"),
    [
        ("heart", TypeError, "must be token ids; got str 'heart'"),
        (7, TypeError, r"Try \[7, \(3, 4\)\]"),
        (["heart"], TypeError, r"keywords\[0\] is 'heart'; expected a token id"),
        ([1, (2, 9)], ValueError, r"keywords\[1\]\[1\] is 9; expected a token id in \[0, 4\]"),
        ([[1], [-1]], ValueError, r"keywords\[1\]\[0\] is -1"),
        ([[1], [0, (2, 5)]], ValueError, r"keywords\[1\]\[1\]\[1\] is 5"),
        ([1, ()], ValueError, r"keywords\[1\] is an empty phrase"),
        ([1, [2]], TypeError, r"Try a tuple for keywords\[1\]"),
        ([[1], [2], [3]], ValueError, "holds 3 lists, logits 2 sequences"),
    ],
)
def test_wrong_keywords_are_named(keywords: object, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        read_keywords(keywords, vocabulary=5, sequences=2)
