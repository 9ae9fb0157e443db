from __future__ import annotations

import math

import numpy as np
import pytest
from fake_study import study
from scipy import stats

from lossmith.compare.statistics import (
    analyse,
    effect,
    holm,
    probability_of_improvement,
    seeds_needed,
    sign_flip_p,
    spread,
    swing,
    t_interval,
)
from lossmith.training.job import Epoch, Outcome


def outcome(*series: float, **more: float) -> Outcome:
    epochs = tuple(Epoch(i, 0.0, 1.0, {}, {"accuracy": x}) for i, x in enumerate(series, 1))
    return Outcome(epochs, len(epochs), {"accuracy": series[-1], **more}, 2.0, 100.0, 7)


def test_all_differences_of_one_sign_reach_the_smallest_p():
    for n in range(1, 15):
        assert sign_flip_p(np.full(n, 0.1)) == 2 / 2**n


def test_the_sign_flip_p_counts_patterns():
    # Sums of +-1 +-2 +-4 are the odd numbers up to 7; all lie as far out as 1 + 2 - 4 = -1.
    assert sign_flip_p(np.array([1.0, 2.0, -4.0])) == 1
    # As far out as -1 + 2 + 4 = 5: +-5 and +-7, of eight.
    assert sign_flip_p(np.array([-1.0, 2.0, 4.0])) == 4 / 8


def test_no_difference_at_all_gives_p_one():
    assert sign_flip_p(np.zeros(8)) == 1
    assert sign_flip_p(np.zeros(0)) == 1


def test_equal_sums_in_another_order_count_as_equal():
    # 0.1 + 0.2 - 0.3 is 5.6e-17 and not 0: rounding must not decide.
    assert sign_flip_p(np.array([0.1, 0.2, -0.3])) == 1


@pytest.mark.parametrize("n", [3, 6, 9])
def test_the_sign_flip_p_is_that_of_scipy(n):
    generator = np.random.default_rng(n)
    for _ in range(5):
        d = generator.normal(0.5, 1.0, n)
        expected = stats.permutation_test(
            (d,), lambda x, axis: x.mean(axis=axis), permutation_type="samples",
            vectorized=True, n_resamples=2**n,
        )  # fmt: skip
        assert sign_flip_p(d) == pytest.approx(float(expected.pvalue))


def test_beyond_twenty_pairs_patterns_are_drawn_and_agree_with_the_normal_limit():
    d = np.random.default_rng(1).normal(0.3, 1.0, 60)
    z = d.sum() / math.sqrt((d**2).sum())
    assert sign_flip_p(d) == pytest.approx(2 * stats.norm.sf(abs(z)), abs=0.01)
    assert sign_flip_p(d) == sign_flip_p(d)
    assert sign_flip_p(np.full(40, 1.0)) == 1 / 100_000


def test_many_studies_at_once_give_what_each_gives_alone():
    d = np.random.default_rng(2).normal(size=(4, 3, 7))
    together = sign_flip_p(d)
    alone = np.array([[sign_flip_p(row) for row in rows] for rows in d])
    np.testing.assert_allclose(together, alone)


def test_holm_steps_down_by_hand():
    # Sorted .01 .02 .03 .04: x4 = .04, x3 = .06, x2 = .06, x1 = .04 raised to .06.
    p = np.array([0.03, 0.01, 0.04, 0.02])
    np.testing.assert_allclose(holm(p), [0.06, 0.04, 0.06, 0.06])
    np.testing.assert_allclose(holm(np.array([0.4, 0.9])), [0.8, 0.9])
    assert holm(np.array([])).size == 0


def test_the_interval_is_that_of_scipy_and_its_edges_are_where_the_t_test_reaches_five_percent():
    x, y = np.random.default_rng(3).normal(size=(2, 9))
    low, high = t_interval(x - y)
    expected = stats.ttest_rel(x, y).confidence_interval(0.95)
    assert (low, high) == pytest.approx((expected.low, expected.high))
    assert stats.ttest_rel(x, y + float(low)).pvalue == pytest.approx(0.05)


def test_one_pair_has_no_interval():
    found = effect([0.25])
    assert found.difference == 0.25
    assert math.isnan(found.low) and math.isnan(found.high)


def test_intervals_cover_the_truth_as_often_as_they_say():
    d = np.random.default_rng(4).normal(0.7, 2.0, size=(400_000, 6))
    low, high = t_interval(d)
    covered = ((low <= 0.7) & (high >= 0.7)).mean()
    assert abs(covered - 0.95) < 3 * math.sqrt(0.95 * 0.05 / 400_000)


def test_eight_equal_losses_give_a_false_alarm_in_at_most_five_percent_of_studies():
    generator = np.random.default_rng(5)
    studies, losses, seeds = 400, 8, 10
    scores = generator.normal(size=(studies, losses, seeds)) + generator.normal(
        size=(studies, 1, seeds)
    )
    p = sign_flip_p(scores[:, 1:] - scores[:, :1])
    tolerance = 3 * math.sqrt(0.05 * 0.95 / studies)
    assert (holm(p) <= 0.05).any(axis=-1).mean() <= 0.05 + tolerance
    assert (p <= 0.05).any(axis=-1).mean() > 0.15  # what the correction is there for


def test_a_true_gain_of_one_loss_is_found():
    generator = np.random.default_rng(6)
    scores = generator.normal(size=(200, 8, 10))
    scores[:, 3] += 4
    p = holm(sign_flip_p(scores[:, 1:] - scores[:, :1]))
    assert (p[:, 2] <= 0.05).mean() > 0.95


@pytest.mark.parametrize("comparisons", range(1, 40))
def test_seeds_needed_is_the_first_count_that_can_reach_five_percent(comparisons):
    n = seeds_needed(comparisons)
    assert comparisons * 2 / 2**n <= 0.05 < comparisons * 2 / 2 ** (n - 1)


def test_probability_of_improvement_counts_every_pair_and_halves_ties():
    # (1,1) tie, (1,2) lost, (3,1) won, (3,2) won: 2.5 of 4.
    x, y = np.array([1.0, 3.0]), np.array([1.0, 2.0])
    assert probability_of_improvement(x, y, higher_is_better=True) == 2.5 / 4
    assert probability_of_improvement(x, y, higher_is_better=False) == 1.5 / 4


def test_swing_looks_at_the_last_half_and_at_no_fewer_than_three():
    assert swing(outcome(0, 0, 0, 1, 2, 3), "accuracy") == 1.0
    assert swing(outcome(9, 1, 2, 3), "accuracy") == 1.0
    assert math.isnan(swing(outcome(1, 2), "accuracy"))


def test_spread_of_one_value_has_no_deviation():
    assert spread([2.0]).mean == 2.0
    assert math.isnan(spread([2.0]).sd) and math.isnan(spread([]).mean)


def analysed(tmp_path, base, other, **asked):
    plan = study(tmp_path, seeds=len(base), **asked).plan
    found = {("a", i): outcome(x) for i, x in enumerate(base) if x is not None}
    found |= {("b", i): outcome(x) for i, x in enumerate(other) if x is not None}
    return analyse(plan, found)


def test_a_steady_gain_over_six_seeds_is_better_and_wins(tmp_path):
    base = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6]
    found = analysed(tmp_path, base, [x + 0.01 + 0.001 * i for i, x in enumerate(base)])
    one = found.comparisons[0]
    assert (one.verdict, one.wins, one.ties, one.effect.n) == ("better", 6, 0, 6)
    assert one.effect.difference == pytest.approx(0.01 + 0.001 * 2.5)
    assert one.p == one.holm_p == 2 / 2**6
    assert found.winner == "b"


def test_a_steady_loss_is_worse_and_the_baseline_wins(tmp_path):
    found = analysed(tmp_path, [0.5] * 6, [0.4, 0.41, 0.42, 0.43, 0.44, 0.45])
    assert found.comparisons[0].verdict == "worse"
    assert found.winner == "a"


def test_the_same_numbers_read_the_other_way_where_lower_is_better(tmp_path):
    plan = study(tmp_path, seeds=6, metric="log_loss").plan
    runs = {("a", i): outcome(0.0, log_loss=0.5) for i in range(6)}
    runs |= {("b", i): outcome(0.0, log_loss=0.4 - 0.01 * i) for i in range(6)}
    found = analyse(plan, runs)
    assert found.comparisons[0].verdict == "better"
    assert found.comparisons[0].effect.difference < 0
    assert (found.comparisons[0].wins, found.comparisons[0].probability) == (6, 1.0)


def test_five_seeds_are_not_enough_however_clear_the_gain(tmp_path):
    found = analysed(tmp_path, [0.1] * 5, [0.9, 0.91, 0.92, 0.93, 0.94])
    assert found.comparisons[0].verdict == "not enough seeds"
    assert found.comparisons[0].seeds_needed == 6
    assert found.winner is None


def test_noise_is_no_difference_found(tmp_path):
    found = analysed(tmp_path, [0.1] * 6, [0.2, 0.0, 0.2, 0.0, 0.2, 0.1])
    one = found.comparisons[0]
    assert (one.verdict, one.wins, one.ties) == ("no difference found", 3, 1)


def test_identical_means_every_metric_of_every_seed(tmp_path):
    plan = study(tmp_path, seeds=2).plan

    def verdict(log_loss: float, other: float) -> str:
        runs = {("a", i): outcome(0.5, log_loss=log_loss) for i in range(2)}
        runs |= {("b", i): outcome(0.5, log_loss=other if i else log_loss) for i in range(2)}
        return analyse(plan, runs).comparisons[0].verdict

    assert verdict(0.4, 0.4) == verdict(math.nan, math.nan) == "identical"
    assert verdict(0.4, 0.3) == "not enough seeds"


def test_failed_and_diverged_runs_leave_the_pairs_that_are_whole(tmp_path):
    found = analysed(tmp_path, [0.1, None, 0.1, 0.1], [0.2, 0.2, math.nan, 0.2])
    assert found.comparisons[0].effect.n == 2
    assert found.summaries[0].missing == (1,)
    assert found.summaries[1].missing == (2,)


def test_an_arm_without_any_run_is_still_reported(tmp_path):
    found = analysed(tmp_path, [0.1] * 6, [None] * 6)
    one = found.comparisons[0]
    assert (one.effect.n, one.p, one.verdict) == (0, 1.0, "not enough seeds")
    assert math.isnan(one.effect.difference)
