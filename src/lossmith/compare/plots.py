"""The figures of a report: SVG text whose colours follow the page it stands in.

Lines and letters take the page's text colour and the data take its palette (CSS variables with
fallbacks), so one figure serves a light page, a dark one and print. Nothing global is touched.
"""

from __future__ import annotations

import io
import math
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from lossmith.compare.plan import Plan
from lossmith.compare.statistics import Analysis
from lossmith.compare.trade_off import TradeOff
from lossmith.compare.wording import interval_text, metric_places, number
from lossmith.training.job import Outcome

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Told apart by people with any colour vision, on white and on dark (Okabe and Ito 2008, ordered).
PALETTE = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
DASHES = ("-", "--", ":", "-.")
_SIGNS = {"o": "●", "s": "■", "^": "▲", "D": "◆", "v": "▼"}
MARKERS = tuple(_SIGNS)  # five signs beside six colours: a pair comes back after thirty
# Stand-ins that no figure uses otherwise; each becomes a colour of the page.
_INK, _FAINT = "#010203", "#040506"
_WIDTH = 4.8  # inches; narrow, so that the letters stay readable on a phone
_FONT = 10.5  # points


def colour_of(index: int) -> str:
    """The page's colour of a series."""
    return f"var(--series-{index % len(PALETTE)}, {PALETTE[index % len(PALETTE)]})"


def dash_of(index: int) -> str:
    """The SVG dash pattern of a series; it changes when the colours start over."""
    return {"-": "none", "--": "6 3", ":": "2 3", "-.": "7 3 2 3"}[_dash(index)]


def forest(analysis: Analysis) -> str:
    """Each loss's difference to the baseline with its interval; to the right is better."""
    rows = [one for one in analysis.comparisons if one.effect.n]
    places = metric_places(analysis)
    figure, axes = _figure(0.75 + 0.62 * max(len(rows), 1))
    order = {summary.arm: i for i, summary in enumerate(analysis.summaries)}
    for i, one in enumerate(rows):
        colour = PALETTE[order[one.arm] % len(PALETTE)]
        effect = one.effect
        seeds = list(one.differences.values())
        axes.plot(seeds, [i] * len(seeds), "|", color=colour, alpha=0.55, markersize=9)
        if math.isfinite(effect.low):
            axes.plot([effect.low, effect.high], [i, i], color=colour, linewidth=3)
        axes.plot([effect.difference], [i], "o", color=colour, markersize=8)
        axes.vlines(0, i - 0.2, i + 0.2, color=_INK, linewidth=1)
        title = axes.annotate(
            f"{_short(one.arm)}  {number(effect.difference, places, sign=True)}",
            (0, i),
            (0, 11),
            xycoords=("axes fraction", "data"),
            textcoords="offset points",
        )
        title.set_in_layout(False)  # a long name may not squeeze the plot
    axes.set_ylim(len(rows) - 0.55, -0.85)
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    if not analysis.higher_is_better:
        axes.invert_xaxis()
    axes.set_xlabel(f"difference in {analysis.metric}; right is better")
    label = "; ".join(
        f"{one.arm}: {number(one.effect.difference, places, sign=True)}, 95 % interval "
        f"{interval_text(one.effect, places)}"
        for one in rows
    )
    return _svg(
        figure, "forest", f"Difference in {analysis.metric} to {analysis.baseline}. {label}"
    )


def curves(plan: Plan, outcomes: Mapping[tuple[str, int], Outcome]) -> str:
    """The test metric after each epoch: mean over the seeds, and one standard deviation."""
    figure, axes = _figure(3.2)
    ends = []
    for i, arm in enumerate(plan.arms):
        runs = [outcomes[arm.text, s] for s in plan.seeds if (arm.text, s) in outcomes]
        epochs, mean, sd = _by_epoch(runs, plan.metric)
        if not len(epochs):
            continue
        colour = PALETTE[i % len(PALETTE)]
        single = "o" if len(epochs) == 1 else ""
        axes.plot(epochs, mean, linestyle=_dash(i), marker=single, color=colour, linewidth=2)
        axes.fill_between(epochs, mean - sd, mean + sd, color=colour, alpha=0.16, linewidth=0)
        ends.append(f"{arm.text} ends at {mean[-1]:.4g}")
    axes.grid(axis="y", color=_FAINT, linewidth=0.8)
    axes.set_xlabel("epoch")
    axes.set_ylabel(f"test {plan.metric}")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    return _svg(figure, "curves", f"Test {plan.metric} after each epoch. {'; '.join(ends)}")


def trade_off(plan: Plan, found: TradeOff) -> str:
    """A point for each loss and seed, the means of each loss, and the front of those means."""
    figure, axes = _figure(3.6)
    for sweep in found.sweeps:
        axes.plot(*_columns(found, sweep), color=_FAINT, linewidth=1.5, zorder=1)
    axes.plot(*_columns(found, found.front), ":", color=_INK, linewidth=1.5, zorder=2)
    for i, arm in enumerate(plan.arms):
        if arm.text not in found.means:
            continue
        colour, marker = PALETTE[i % len(PALETTE)], MARKERS[i % len(MARKERS)]
        across, up = zip(*found.places[arm.text].values(), strict=True)
        axes.plot(across, up, marker, color=colour, alpha=0.45, markersize=4, zorder=3)
        axes.plot(*found.means[arm.text], marker, color=colour, markersize=9, zorder=4)
    for limits, higher in zip((axes.xaxis, axes.yaxis), found.higher_is_better, strict=True):
        limits.set_inverted(not higher)
    axes.grid(color=_FAINT, linewidth=0.8)
    axes.set_xlabel(f"test {found.across}")
    axes.set_ylabel(f"test {found.up}")
    said = "; ".join(
        f"{arm}: {found.across} {across:.4g}, {found.up} {up:.4g}"
        + (", on the front" if arm in found.front else "")
        for arm, (across, up) in found.means.items()
    )
    label = f"Trade-off of {found.across} and {found.up}, mean over the seeds. {said}"
    return _svg(figure, "trade-off", label)


def _columns(found: TradeOff, arms: Sequence[str]) -> tuple[list[float], list[float]]:
    return [found.means[arm][0] for arm in arms], [found.means[arm][1] for arm in arms]


def marker_of(index: int) -> str:
    """The sign of a series as text, for a legend."""
    return _SIGNS[MARKERS[index % len(MARKERS)]]


def _by_epoch(runs: Sequence[Outcome], metric: str) -> tuple[Any, Any, Any]:
    series: dict[int, list[float]] = {}
    for run in runs:
        for epoch in run.epochs:
            if math.isfinite(epoch.test.get(metric, math.nan)):
                series.setdefault(epoch.number, []).append(epoch.test[metric])
    epochs = sorted(series)
    mean = np.array([np.mean(series[epoch]) for epoch in epochs])
    sd = np.array([np.std(series[e], ddof=1) if len(series[e]) > 1 else 0.0 for e in epochs])
    return np.array(epochs), mean, sd


def _dash(index: int) -> str:
    return DASHES[index // len(PALETTE) % len(DASHES)]


def _short(text: str) -> str:
    return text if len(text) <= 44 else text[:43] + "…"


def _figure(height: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(_WIDTH, height), layout="constrained", facecolor="none")
    axes = figure.add_subplot(facecolor="none")
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for spine in axes.spines.values():
        spine.set_color(_INK)
    axes.tick_params(colors=_INK, labelsize=_FONT - 1)
    return figure, axes


def _svg(figure: Figure, name: str, label: str) -> str:
    """The figure as an inline element: colours of the page, ids of its own, a spoken label."""
    for text in figure.findobj(matplotlib.text.Text):
        text.set_color(_INK)
        if text.get_fontsize() == matplotlib.rcParams["font.size"]:
            text.set_fontsize(_FONT)
    buffer = io.StringIO()
    # A salt makes the ids, which are random otherwise, the same every time.
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": name, "svg.id": name}):
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>\s*", "", svg, flags=re.DOTALL)
    svg = re.sub(r"\bid=\"", f'id="{name}-', svg)
    svg = re.sub(r"(xlink:href=\"#|url\(#)", rf"\g<1>{name}-", svg)
    svg = re.sub(r"font(-family)?: ?([0-9.]+px )?[^;\"]*DejaVu Sans[^;\"]*", _page_font, svg)
    svg = svg.replace(_INK, "currentColor").replace(_FAINT, "var(--line, #d0d0d0)")
    for i, colour in enumerate(PALETTE):
        svg = svg.replace(colour, colour_of(i))
    escaped = label.replace("&", "&amp;").replace("<", "&lt;").replace('"', "&quot;")
    return svg.replace("<svg ", f'<svg role="img" aria-label="{escaped}" ', 1)


def _page_font(match: re.Match[str]) -> str:
    size = f"font-size: {match[2].strip()}; " if match[2] else ""
    return f"{size}font-family: inherit"
