"""Numbers and verdicts in words, the same in the terminal, the page and the Markdown."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from lossmith.compare.statistics import Analysis, Comparison, Effect, Spread

MINUS = "\N{MINUS SIGN}"
NOTHING = "\N{EM DASH}"


def decimals(uncertainties: Iterable[float]) -> int:
    """As many decimals as the middle one of the uncertainties deserves: its first two digits.

    >>> decimals([0.0123, 0.2]), decimals([3.1]), decimals([])
    (3, 1, 4)
    """
    known = sorted(value for value in uncertainties if math.isfinite(value) and value > 0)
    if not known:
        return 4
    return min(max(1 - math.floor(math.log10(known[(len(known) - 1) // 2])), 1), 6)


def number(value: float, places: int, *, sign: bool = False) -> str:
    """A number with a true minus sign; a dash where there is none.

    >>> number(0.1234, 3, sign=True), number(float("nan"), 3)
    ('+0.123', '—')
    """
    if not math.isfinite(value):
        return NOTHING
    text = f"{value:+.{places}f}" if sign else f"{value:.{places}f}"
    if float(text) == 0:
        text = f"{0:.{places}f}"
    return text.replace("-", MINUS)


def p_text(p: float) -> str:
    """A p value with the digits it deserves.

    >>> p_text(0.00042), p_text(0.0156), p_text(0.25)
    ('<\N{NO-BREAK SPACE}0.001', '0.016', '0.25')
    """
    if p < 0.001:
        return "<\N{NO-BREAK SPACE}0.001"
    return f"{p:.3f}" if p < 0.1 else f"{p:.2f}"


def spread_text(spread: Spread, places: int) -> str:
    """``0.812 ± 0.004``."""
    if spread.n < 2:
        return number(spread.mean, places)
    return f"{number(spread.mean, places)} ± {number(spread.sd, places)}"


def interval_text(effect: Effect, places: int) -> str:
    """``+0.006 to +0.018``."""
    if not math.isfinite(effect.low):
        return NOTHING
    return f"{number(effect.low, places, sign=True)} to {number(effect.high, places, sign=True)}"


def seconds_text(seconds: float) -> str:
    """A duration as a person says it.

    >>> seconds_text(0.42), seconds_text(2.04), seconds_text(75), seconds_text(4000)
    ('0.42 s', '2.0 s', '75 s', '67 min')
    """
    if not math.isfinite(seconds):
        return NOTHING
    if seconds < 600:
        return f"{seconds:.{2 if seconds < 1 else 1 if seconds < 10 else 0}f} s"
    return f"{seconds / 60:.0f} min" if seconds < 36000 else f"{seconds / 3600:.0f} h"


def metric_places(analysis: Analysis) -> int:
    """Decimals for the deciding metric, shared by its values and differences."""
    spreads = [one.metrics[analysis.metric] for one in analysis.summaries if one.metrics]
    halves = [(one.effect.high - one.effect.low) / 2 for one in analysis.comparisons]
    return decimals([*(spread.sd for spread in spreads), *halves])


def wins_text(one: Comparison) -> str:
    """``8 of 10``, with the ties if there are any."""
    ties = f" ({one.ties} tied)" if one.ties else ""
    return f"{one.wins} of {one.effect.n}{ties}"


def evidence(one: Comparison, places: int) -> str:
    """Interval, seeds and p: what stands behind a difference."""
    return (
        f"95 % interval {interval_text(one.effect, places)}, better in {wins_text(one)} seeds, "
        f"Holm p = {p_text(one.holm_p)}".replace("= <", "<")
    )


def headline(analysis: Analysis) -> str:
    """The verdict in a few words."""
    if not analysis.comparisons:
        return "One loss, nothing to compare"
    verdicts = {one.verdict for one in analysis.comparisons if one.verdict != "identical"}
    winner = analysis.winner
    if winner == analysis.baseline:
        return f"Nothing beats {winner}"
    if winner is not None:
        return f"{winner} beats {analysis.baseline}"
    if not verdicts:
        names = [analysis.baseline, *(one.arm for one in analysis.comparisons)]
        return f"{listing(names) if len(names) < 4 else 'All losses'} gave identical results"
    if verdicts == {"not enough seeds"}:
        return "Not enough seeds"
    return f"No loss beats {analysis.baseline}" if "worse" in verdicts else "No difference found"


def sentences(analysis: Analysis) -> list[str]:
    """The verdict in plain sentences, the most important first."""
    if not analysis.comparisons:
        return [
            f"Only {analysis.baseline} was trained; name a second loss with --losses to compare it."
        ]
    places = metric_places(analysis)
    sign = 1 if analysis.higher_is_better else -1
    groups: dict[str, list[Comparison]] = {}
    for one in sorted(analysis.comparisons, key=lambda one: -sign * one.effect.difference):
        groups.setdefault(one.verdict, []).append(one)
    return [
        *_better(analysis, groups.get("better", []), places),
        *_worse(analysis, groups.get("worse", []), places),
        *_undecided(analysis, groups.get("no difference found", []), places),
        *_too_few(analysis, groups.get("not enough seeds", []), places),
        *_identical(analysis, groups.get("identical", [])),
        *_missing(analysis),
        *([] if analysis.higher_is_better else [f"Lower {analysis.metric} is better."]),
    ]


def _signed(analysis: Analysis, one: Comparison, places: int) -> str:
    return f"{number(one.effect.difference, places, sign=True)} {analysis.metric}"


def _better(analysis: Analysis, found: Sequence[Comparison], places: int) -> list[str]:
    if not found:
        return []
    first, *rest = found
    said = [
        f"{first.arm} beats {analysis.baseline} by {_signed(analysis, first, places)} "
        f"({evidence(first, places)})."
    ]
    said += [
        f"{one.arm} beats it too, by {_signed(analysis, one, places)} ({evidence(one, places)})."
        for one in rest
    ]
    if rest:
        said.append("The winners were compared with the baseline, not with each other.")
    return said


def _worse(analysis: Analysis, found: Sequence[Comparison], places: int) -> list[str]:
    return [
        f"{one.arm} is worse than {analysis.baseline} by {_signed(analysis, one, places)} "
        f"({evidence(one, places)})."
        for one in found
    ]


def _undecided(analysis: Analysis, found: Sequence[Comparison], places: int) -> list[str]:
    if not found:
        return []
    names = listing([one.arm for one in found])
    each = _each(analysis, found, places)
    return [
        f"No difference was found between {analysis.baseline} and {names} "
        f"with {_counts(found)} seeds ({each}); a difference inside "
        f"{'that interval' if len(found) == 1 else 'those intervals'} may still exist."
    ]


def _too_few(analysis: Analysis, found: Sequence[Comparison], places: int) -> list[str]:
    if not found:
        return []
    first = found[0]
    number_of = len(analysis.comparisons)
    reason = (
        f"with {number_of} comparison{'s' if number_of > 1 else ''} at least {first.seeds_needed} "
        "are needed before any difference could be established"
    )
    each = _each(analysis, found, places)
    counts = _counts(found)
    have = "1 seed is" if counts == "1" else f"{counts} seeds are"
    return [
        f"{have} not enough to judge {listing([one.arm for one in found])} "
        f"against {analysis.baseline}: {reason}. So far: {each}. "
        f"The same command with --seeds {max(10, first.seeds_needed)} adds the missing ones."
    ]


def _each(analysis: Analysis, found: Sequence[Comparison], places: int) -> str:
    """What was seen of each arm; of many, the first alone, as the table says it of all."""
    shown = found if len(found) < 4 else found[:1]
    said = "; ".join(
        f"{one.arm} {_signed(analysis, one, places)}, {evidence(one, places)}"
        if one.effect.n
        else f"{one.arm} has no seed in common with {analysis.baseline}"
        for one in shown
    )
    rest = len(found) - len(shown)
    return f"{said}; the table has the other {rest}" if rest else said


def _identical(analysis: Analysis, found: Sequence[Comparison]) -> list[str]:
    return [
        f"{one.arm} gave exactly the numbers of {analysis.baseline}, in every metric, in "
        + (f"each of {one.effect.n} seeds" if one.effect.n > 1 else "the one seed")
        + ": on this data they seem to be one function."
        for one in found
    ]


def _missing(analysis: Analysis) -> list[str]:
    return [
        f"{one.arm} gave no number for {len(one.missing)} of {len(analysis.seeds)} seeds."
        for one in analysis.summaries
        if one.missing
    ]


def _counts(found: Sequence[Comparison]) -> str:
    counts = sorted({one.effect.n for one in found})
    return str(counts[0]) if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"


def listing(names: Sequence[str]) -> str:
    """``a, b and c``."""
    if len(names) < 2:
        return "".join(names)
    return f"{', '.join(names[:-1])} and {names[-1]}"
