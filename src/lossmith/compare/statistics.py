"""Paired comparisons over seeds: effect with its interval first, then an exact p."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from lossmith.compare.plan import Plan
from lossmith.training.job import Outcome

Array = NDArray[np.float64]
Verdict = Literal["better", "worse", "no difference found", "not enough seeds", "identical"]

LEVEL = 0.05
EXACT_UP_TO = 20  # differences whose 2^n sign patterns are all looked at
DRAWS = 99_999  # sign patterns drawn where there are more


@dataclass(frozen=True)
class Effect:
    """The mean of paired differences, arm minus baseline, with its 95 % interval."""

    n: int
    difference: float
    low: float
    high: float


@dataclass(frozen=True)
class Spread:
    """Mean and standard deviation over runs."""

    n: int
    mean: float
    sd: float


@dataclass(frozen=True)
class Summary:
    """One arm over its seeds."""

    arm: str
    values: Mapping[int, float]  # seed -> the deciding metric, finite runs only
    metrics: Mapping[str, Spread]
    effects: Mapping[str, Effect]  # metric -> difference to the baseline; empty for the baseline
    swing: float  # standard deviation of the metric over the last epochs, averaged over seeds
    seconds: Spread
    peak_memory_mb: float
    parameters: int
    missing: tuple[int, ...]  # seeds without a number: failed, or not finite


@dataclass(frozen=True)
class Comparison:
    """One arm against the baseline, paired by seed."""

    arm: str
    baseline: str
    effect: Effect
    p: float
    holm_p: float
    wins: int
    ties: int
    probability: float  # that a run of the arm beats a run of the baseline, whatever their seeds
    verdict: Verdict
    seeds_needed: int  # the fewest with which anything could be found among so many comparisons
    differences: Mapping[int, float]  # seed -> difference


@dataclass(frozen=True)
class Analysis:
    """All that the numbers say."""

    metric: str
    higher_is_better: bool
    baseline: str
    seeds: tuple[int, ...]
    summaries: tuple[Summary, ...]
    comparisons: tuple[Comparison, ...]

    def as_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return asdict(self)

    @property
    def winner(self) -> str | None:
        """The arm with the largest established gain; the baseline if every other arm lost."""
        better = [one for one in self.comparisons if one.verdict == "better"]
        if better:
            sign = 1 if self.higher_is_better else -1
            return max(better, key=lambda one: sign * one.effect.difference).arm
        if self.comparisons and all(one.verdict == "worse" for one in self.comparisons):
            return self.baseline
        return None


def analyse(plan: Plan, outcomes: Mapping[tuple[str, int], Outcome]) -> Analysis:
    """Summarise every arm and compare each with the baseline."""
    runs = {
        arm.text: {
            seed: outcomes[arm.text, seed] for seed in plan.seeds if (arm.text, seed) in outcomes
        }
        for arm in plan.arms
    }
    base = runs[plan.baseline]
    others = [arm.text for arm in plan.arms if arm.text != plan.baseline]
    values = {text: _values(runs[text], plan.metric) for text in runs}
    paired = [_paired(values[text], values[plan.baseline]) for text in others]
    ps = np.array([float(sign_flip_p(np.array([*pairs.values()]))) for pairs in paired])
    adjusted = holm(ps)
    return Analysis(
        metric=plan.metric,
        higher_is_better=plan.higher_is_better,
        baseline=plan.baseline,
        seeds=plan.seeds,
        summaries=tuple(_summary(text, runs[text], base, plan) for text in runs),
        comparisons=tuple(
            _comparison(
                plan,
                text,
                values,
                paired[i],
                float(ps[i]),
                float(adjusted[i]),
                identical=bool(paired[i])
                and all(_alike(runs[text][seed], base[seed]) for seed in paired[i]),
            )
            for i, text in enumerate(others)
        ),
    )


def sign_flip_p(differences: Array) -> Array:
    """Exact two-sided p of "the sign of each difference is a coin's", along the last dimension.

    The share of sign patterns whose sum is at least as far from 0 as the one seen. Up to 20
    differences every pattern is looked at; beyond, 99,999 drawn with a fixed seed.

    >>> float(sign_flip_p(np.array([1.0, 2.0, 3.0])))  # 2 of 8 patterns
    0.25
    """
    n = differences.shape[-1]
    if n == 0:
        return np.ones(differences.shape[:-1])
    # Equal sums that were added in another order differ by rounding; they count as equal.
    slack = 1e-12 * np.abs(differences).sum(axis=-1, keepdims=True)
    seen = np.abs(differences.sum(axis=-1, keepdims=True)) - slack
    if n > EXACT_UP_TO:
        return _drawn_sign_flip_p(differences, seen)
    sums = differences[..., :1]  # the other half of the patterns has the opposite sums
    for i in range(1, n):
        step = differences[..., i : i + 1]
        sums = np.concatenate([sums + step, sums - step], axis=-1)
    share: Array = (np.abs(sums) >= seen).mean(axis=-1)
    return share


def _drawn_sign_flip_p(differences: Array, seen: Array) -> Array:
    generator = np.random.default_rng(0)
    hits = np.zeros(differences.shape[:-1])
    for start in range(0, DRAWS, 10_000):
        size = (differences.shape[-1], min(10_000, DRAWS - start))
        signs = generator.integers(0, 2, size=size) * 2.0 - 1.0
        hits += (np.abs(differences @ signs) >= seen).sum(axis=-1)
    return (hits + 1) / (DRAWS + 1)


def holm(p: Array) -> Array:
    """Holm's step-down correction along the last dimension.

    >>> holm(np.array([0.01, 0.04, 0.03])).round(2).tolist()  # .01 x 3, .03 x 2, then the larger
    [0.03, 0.06, 0.06]
    """
    m = p.shape[-1]
    order = np.argsort(p, axis=-1, kind="stable")
    steps = np.take_along_axis(p, order, axis=-1) * (m - np.arange(m))
    adjusted = np.minimum(np.maximum.accumulate(steps, axis=-1), 1.0)
    result = np.empty_like(p, dtype=np.float64)
    np.put_along_axis(result, order, adjusted, axis=-1)
    return result


def t_interval(differences: Array) -> tuple[Array, Array]:
    """The 95 % t interval of the mean along the last dimension; NaN for fewer than two."""
    n = differences.shape[-1]
    if n < 2:
        nothing = np.full(differences.shape[:-1], math.nan)
        return nothing, nothing
    half = stats.t.ppf(1 - LEVEL / 2, n - 1) * differences.std(axis=-1, ddof=1) / math.sqrt(n)
    mean = differences.mean(axis=-1)
    return mean - half, mean + half


def seeds_needed(comparisons: int) -> int:
    """The fewest pairs whose smallest possible p stays significant after the correction.

    >>> [seeds_needed(losses - 1) for losses in (2, 4, 8, 16)]
    [6, 7, 9, 10]
    """
    return math.ceil(1 + math.log2(max(comparisons, 1) / LEVEL))


def probability_of_improvement(values: Array, base: Array, *, higher_is_better: bool) -> float:
    """The share of all (run, baseline run) pairs that the arm wins; a tie is half a win."""
    if not values.size or not base.size:
        return math.nan
    difference = values[:, None] - base[None, :]
    gain = difference if higher_is_better else -difference
    return float((gain > 0).mean() + (gain == 0).mean() / 2)


def swing(outcome: Outcome, metric: str) -> float:
    """Standard deviation of the metric over the last half of the epochs, three at the least."""
    series = [epoch.test[metric] for epoch in outcome.epochs if metric in epoch.test]
    last = series[-max(3, math.ceil(len(series) / 2)) :]
    return float(np.std(last, ddof=1)) if len(last) >= 3 else math.nan


def spread(values: Sequence[float]) -> Spread:
    """Mean and standard deviation; NaN where there are too few."""
    n = len(values)
    return Spread(
        n,
        float(np.mean(values)) if n else math.nan,
        float(np.std(values, ddof=1)) if n > 1 else math.nan,
    )


def effect(differences: Sequence[float]) -> Effect:
    """Mean difference with its interval."""
    values = np.array(differences, dtype=np.float64)
    low, high = t_interval(values)
    mean = float(values.mean()) if values.size else math.nan
    return Effect(values.size, mean, float(low), float(high))


def _values(runs: Mapping[int, Outcome], metric: str) -> dict[int, float]:
    """The finite values by seed: a training that diverged gave no number."""
    found = {seed: outcome.scores.get(metric, math.nan) for seed, outcome in runs.items()}
    return {seed: value for seed, value in found.items() if math.isfinite(value)}


def _alike(one: Outcome, other: Outcome) -> bool:
    """Whether every metric has the same value; one that is undefined in both has."""
    return one.scores.keys() == other.scores.keys() and all(
        value == other.scores[name] or (math.isnan(value) and math.isnan(other.scores[name]))
        for name, value in one.scores.items()
    )


def _paired(values: Mapping[int, float], base: Mapping[int, float]) -> dict[int, float]:
    return {seed: values[seed] - base[seed] for seed in values if seed in base}


def _summary(
    text: str, runs: Mapping[int, Outcome], base: Mapping[int, Outcome], plan: Plan
) -> Summary:
    names = list(dict.fromkeys(name for outcome in runs.values() for name in outcome.scores))
    by_metric = {name: _values(runs, name) for name in names}
    swings = [swing(outcome, plan.metric) for outcome in runs.values()]
    finite = [value for value in swings if math.isfinite(value)]
    values = by_metric.get(plan.metric, {})
    return Summary(
        arm=text,
        values=values,
        metrics={name: spread(list(found.values())) for name, found in by_metric.items()},
        effects={}
        if text == plan.baseline
        else {
            name: effect(list(_paired(found, _values(base, name)).values()))
            for name, found in by_metric.items()
        },
        swing=float(np.mean(finite)) if finite else math.nan,
        seconds=spread([outcome.seconds for outcome in runs.values()]),
        peak_memory_mb=max((outcome.peak_memory_mb for outcome in runs.values()), default=math.nan),
        parameters=max((outcome.parameters for outcome in runs.values()), default=0),
        missing=tuple(seed for seed in plan.seeds if seed not in values),
    )


def _comparison(
    plan: Plan,
    text: str,
    values: Mapping[str, Mapping[int, float]],
    pairs: Mapping[int, float],
    p: float,
    holm_p: float,
    *,
    identical: bool,
) -> Comparison:
    sign = 1 if plan.higher_is_better else -1
    found = effect(list(pairs.values()))
    needed = seeds_needed(len(plan.arms) - 1)
    verdict: Verdict
    if identical:
        verdict = "identical"
    elif holm_p <= LEVEL:
        verdict = "better" if sign * found.difference > 0 else "worse"
    else:
        verdict = "not enough seeds" if found.n < needed else "no difference found"
    return Comparison(
        arm=text,
        baseline=plan.baseline,
        effect=found,
        p=p,
        holm_p=holm_p,
        wins=sum(sign * difference > 0 for difference in pairs.values()),
        ties=sum(difference == 0 for difference in pairs.values()),
        probability=probability_of_improvement(
            np.array([*values[text].values()]),
            np.array([*values[plan.baseline].values()]),
            higher_is_better=plan.higher_is_better,
        ),
        verdict=verdict,
        seeds_needed=needed,
        differences=pairs,
    )
