from __future__ import annotations

import math
import random

import pytest
import torch
from scipy.stats import chi2_contingency
from torch import Tensor

from lossmith.kernels.dot_scores import dot_scores
from lossmith.kernels.known_items import KnownItems
from lossmith.kernels.violators import (
    Violators,
    expected_rank_weight,
    rank_weight,
    sample_violators,
)
from lossmith.losses.recommendation import expected_warp, warp

METHODS = ("rounds", "at_once", "closed_form")

# ---------------------------------------------------------------------------------- the law
#
# One user, seven items: the positive (0), two known likes of which one scores high (1) and one
# low (2), two violators (3, 4), one at the margin exactly (5), which does not violate, one below.
SCORES = [2.0, 3.0, 0.0, 1.5, 2.5, 1.0, 0.5]
KNOWN = [True, True, True, False, False, False, False]
TRIALS = 7  # which take two rounds


def sequential(scores: list[float], known: list[bool], redraw: bool, rng: random.Random) -> tuple:
    """One trial after the other: (item, trials, found)."""
    for trial in range(1, TRIALS + 1):
        item = rng.randrange(len(scores))
        while redraw and known[item]:
            item = rng.randrange(len(scores))
        if scores[item] > scores[0] - 1.0 and not known[item]:
            return item, trial, True
    return 0, TRIALS, False


def outcomes_of(found: Violators) -> list[tuple]:
    return list(zip(*(field.tolist() for field in found), strict=True))


def chi_square(a: list[tuple], b: list[tuple]) -> float:
    """The p-value of "both samples come from one law", over every (item, trials, found)."""
    cells = sorted(set(a) | set(b))
    return float(chi2_contingency([[sample.count(cell) for cell in cells] for sample in (a, b)])[1])


def sample_many(method: str, redraw: bool, rows: int = 20_000) -> list[tuple]:
    table = torch.tensor([SCORES])
    known = KnownItems.from_mask(torch.tensor([KNOWN]))
    users = torch.zeros(rows, dtype=torch.long)
    found = sample_violators(
        lambda rows, items: table[users[rows].unsqueeze(-1), items],
        users,
        num_items=7,
        max_trials=TRIALS,
        known=known.rows(users),
        redraw_known=redraw,
        method=method,
        generator=torch.Generator().manual_seed(1),
    )
    return outcomes_of(found)


@pytest.mark.parametrize("redraw", [False, True])
@pytest.mark.parametrize("method", METHODS)
def test_every_method_has_the_law_of_the_sequential_sampler(method: str, redraw: bool) -> None:
    rng = random.Random(0)
    loop = [sequential(SCORES, KNOWN, redraw, rng) for _ in range(20_000)]
    sampled = sample_many(method, redraw)
    assert chi_square(loop, sampled) > 1e-3
    other_rule = [sequential(SCORES, KNOWN, not redraw, rng) for _ in range(20_000)]
    assert chi_square(other_rule, sampled) < 1e-12  # the test can tell the two rules apart


@pytest.mark.parametrize("redraw", [False, True])
@pytest.mark.parametrize("method", METHODS)
def test_the_law_is_the_truncated_geometric_of_the_violators_share(
    method: str, redraw: bool
) -> None:
    sampled = sample_many(method, redraw)
    chance = 2 / 4 if redraw else 2 / 7
    for trial in range(1, TRIALS + 1):
        for item in (3, 4):
            wanted = (1 - chance) ** (trial - 1) * chance / 2
            error = math.sqrt(wanted * (1 - wanted) / len(sampled))
            share = sampled.count((item, trial, True)) / len(sampled)
            assert abs(share - wanted) < 4.5 * error
    wanted = (1 - chance) ** TRIALS
    share = sampled.count((0, TRIALS, False)) / len(sampled)
    assert abs(share - wanted) < 4.5 * math.sqrt(wanted * (1 - wanted) / len(sampled))


def test_sampled_weights_average_to_the_expected_weight() -> None:
    generator = torch.Generator().manual_seed(2)
    scores = torch.randn(1, 200, generator=generator)
    scores[0, 0] = 2.5
    mask = torch.ones(1, 200, dtype=torch.bool)
    mask[0, 0] = False
    exact = expected_warp(scores[:, 0], scores, max_trials=30, mask=mask)
    for method in METHODS:
        users = torch.zeros(40_000, dtype=torch.long)
        found = sample_violators(
            lambda rows, items: scores[0, items],
            users,
            num_items=200,
            max_trials=30,
            method=method,
            generator=generator,
        )
        costs = warp(
            scores[0, users],
            scores[0, found.item].unsqueeze(-1),
            num_items=200,
            trials=found.trials.unsqueeze(-1),
            mask=found.found.unsqueeze(-1),
            reduction="none",
        )
        assert abs(float(costs.mean() - exact)) < 4 * float(costs.std()) / math.sqrt(len(users))


# ------------------------------------------------------------------------ batches of many rows


class Batch:
    """A random batch over a shared catalogue, with known positives for every user."""

    def __init__(self, seed: int, *, rows: int = 300, items: int = 40) -> None:
        self.generator = torch.Generator().manual_seed(seed)
        self.items = items
        users = torch.randn(25, 4, generator=self.generator)
        vectors = torch.randn(items, 4, generator=self.generator)
        bias = torch.randn(items, generator=self.generator)
        liked = torch.rand(25, items, generator=self.generator) < 0.2
        pair_users, pair_items = liked.nonzero(as_tuple=True)
        pick = torch.randint(len(pair_users), (rows,), generator=self.generator)
        self.users, self.positive = pair_users[pick], pair_items[pick]
        self.known = KnownItems(pair_users, pair_items, num_items=items).rows(self.users)
        self.liked = liked[self.users]
        self.score = dot_scores(users[self.users], vectors, bias)
        self.table = self.score.catalogue()
        self.positive_scores = self.table.gather(1, self.positive.unsqueeze(-1)).squeeze(-1)

    def sample(self, **options: object) -> Violators:
        given: dict = {"num_items": self.items, "known": self.known, "generator": self.generator}
        given.update(options)
        score, positive = given.pop("score", self.score), given.pop("positive", self.positive)
        return sample_violators(score, positive, **given)


@pytest.mark.parametrize("redraw", [False, True])
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("positive", ["items", "scores"])
@pytest.mark.parametrize("known", ["pairs", "table"])
def test_what_is_found_violates_and_is_never_known(
    method: str, redraw: bool, positive: str, known: str
) -> None:
    batch = Batch(1)
    found = batch.sample(
        method=method,
        redraw_known=redraw,
        max_trials=9,
        positive=batch.positive if positive == "items" else batch.positive_scores,
        known=batch.known if known == "pairs" else batch.liked,
    )
    score = batch.table.gather(1, found.item.unsqueeze(-1)).squeeze(-1)
    known_hit = batch.liked.gather(1, found.item.unsqueeze(-1)).squeeze(-1)
    assert 50 < int(found.found.sum()) < 300
    assert bool((score > batch.positive_scores - 1.0)[found.found].all())
    assert not bool(known_hit[found.found].any())
    assert found.item[~found.found].eq(0).all()
    assert found.trials[~found.found].eq(9).all()
    assert 1 <= int(found.trials.min()) <= int(found.trials.max()) <= 9


@pytest.mark.parametrize("method", METHODS)
def test_the_same_generator_gives_the_same_result(method: str) -> None:
    batch = Batch(2)
    first, again, other = (
        batch.sample(method=method, generator=torch.Generator().manual_seed(seed))
        for seed in (5, 5, 6)
    )
    assert all(a.equal(b) for a, b in zip(first, again, strict=True))
    assert not first.item.equal(other.item)


@pytest.mark.parametrize("method", ["rounds", "at_once"])
def test_a_table_and_a_function_of_the_same_scores_give_the_same_result(method: str) -> None:
    batch = Batch(3)
    table = batch.table

    def function(rows: Tensor, items: Tensor) -> Tensor:
        return table[rows.unsqueeze(-1), items]

    results = [
        batch.sample(score=score, method=method, generator=torch.Generator().manual_seed(5))
        for score in (table, function)
    ]
    assert all(a.equal(b) for a, b in zip(*results, strict=True))


def test_the_closed_form_takes_a_table_a_function_and_a_factor_model() -> None:
    batch = Batch(4)
    results = [
        batch.sample(score=score, method="closed_form", generator=torch.Generator().manual_seed(5))
        for score in (
            batch.table,
            lambda rows, items: batch.table[rows].gather(1, items),
            batch.score,
        )
    ]
    for result in results[1:]:
        assert all(a.equal(b) for a, b in zip(results[0], result, strict=True))


@pytest.mark.parametrize("weighting", ["log", "harmonic"])
def test_warp_of_the_violators_found_is_warp_of_all_the_draws(weighting: str) -> None:
    batch = Batch(5)
    drawn: list[Tensor] = []

    def score(rows: Tensor, items: Tensor) -> Tensor:
        drawn.append(items)
        return batch.table[rows.unsqueeze(-1), items]

    found = batch.sample(
        score=score, positive=batch.positive_scores, method="at_once", max_trials=10
    )
    (items,) = drawn
    leaf = batch.table.clone().requires_grad_()
    positive = leaf.gather(1, batch.positive.unsqueeze(-1)).squeeze(-1)
    from_draws = warp(
        positive,
        leaf.gather(1, items),
        num_items=batch.items,
        weighting=weighting,
        mask=~batch.liked.gather(1, items),
        reduction="none",
    )
    from_found = warp(
        positive,
        leaf.gather(1, found.item.unsqueeze(-1)),
        num_items=batch.items,
        weighting=weighting,
        trials=found.trials.unsqueeze(-1),
        mask=found.found.unsqueeze(-1),
        reduction="none",
    )
    assert from_draws.equal(from_found)
    assert int((from_draws > 0).sum()) > 50
    slopes = [
        torch.autograd.grad(x.sum(), leaf, retain_graph=True)[0] for x in (from_draws, from_found)
    ]
    assert slopes[0].equal(slopes[1])


def test_each_round_draws_three_times_as_many_for_the_unresolved_rows_alone() -> None:
    batch = Batch(6)
    batch.positive_scores += 1.5  # so that some have few violators, and some none
    asked: list[tuple[list[int], int]] = []

    def score(rows: Tensor, items: Tensor) -> Tensor:
        asked.append((rows.tolist(), items.shape[1]))
        return batch.table[rows.unsqueeze(-1), items]

    found = batch.sample(score=score, positive=batch.positive_scores, max_trials=55)
    assert [draws for _, draws in asked] == [4, 12, 36, 3]
    for (rows, _), done in zip(asked, (0, 4, 16, 52), strict=True):
        unresolved = (found.trials > done) | ~found.found
        assert rows == unresolved.nonzero().squeeze(-1).tolist()


def test_nothing_is_recorded_for_the_gradient() -> None:
    users = torch.randn(6, 3, requires_grad=True)
    vectors = torch.randn(9, 3, requires_grad=True)
    seen: list[bool] = []

    def score(rows: Tensor, items: Tensor) -> Tensor:
        scores = dot_scores(users, vectors)(rows, items)
        seen.append(scores.requires_grad)
        return scores

    sample_violators(score, torch.zeros(6, dtype=torch.long), num_items=9)
    assert seen
    assert not any(seen)


# ------------------------------------------------------------------------------- rank weights


def test_rank_weights_and_their_expectation_at_the_ends() -> None:
    ranks = torch.tensor([0, 1, 2, 3])
    log = rank_weight(ranks, "log", torch.float64)
    harmonic = rank_weight(ranks, "harmonic", torch.float64)
    torch.testing.assert_close(log, torch.tensor([0, 0, math.log(2), math.log(3)]).double())
    torch.testing.assert_close(harmonic, torch.tensor([0, 1, 3 / 2, 11 / 6]).double())
    (large,) = rank_weight(torch.tensor([100_000]), "harmonic", torch.float64).tolist()
    assert large == pytest.approx(math.fsum(1 / i for i in range(1, 100_001)), rel=1e-13)
    none_or_all = torch.tensor([0, 50])
    for limit in (1, 10, None):
        value = expected_rank_weight(none_or_all, 50, max_trials=limit, weighting="log")
        torch.testing.assert_close(value, torch.tensor([0.0, math.log(49)]).double())
