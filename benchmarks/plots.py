"""Growth curves: time and memory of every contender against the size, both on log scales."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib
from matplotlib.figure import Figure

# Told apart with any colour vision (Okabe and Ito 2008).
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#666666")
MARKERS = "os^vDPX"

Curve = Mapping[float, float]


def draw(
    path: Path, x_name: str, panels: Mapping[str, Mapping[str, Curve]], ours: Sequence[str]
) -> None:
    """One panel for each quantity, one curve for each contender; ours is the thick one."""
    figure = Figure(figsize=(4.6 * len(panels), 3.6), layout="constrained")
    every = list(dict.fromkeys(name for curves in panels.values() for name in curves))
    for place, (quantity, curves) in enumerate(panels.items(), start=1):
        axes = figure.add_subplot(1, len(panels), place)
        for name, curve in curves.items():
            which = every.index(name)
            axes.loglog(
                list(curve),
                list(curve.values()),
                label=name,
                color="black" if name == "floor" else COLOURS[which % len(COLOURS)],
                marker=MARKERS[which % len(MARKERS)],
                linestyle=":" if name == "floor" else "-",
                linewidth=2.5 if name in ours else 1.2,
                markersize=5,
            )
        axes.set_xlabel(x_name)
        axes.set_ylabel(quantity)
        axes.grid(True, which="major", linewidth=0.4, color="#cccccc")
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=2, fontsize=8, frameon=False)
    # A fixed salt and no date: the same results give the same file.
    with matplotlib.rc_context({"svg.hashsalt": path.stem, "svg.fonttype": "none"}):
        figure.savefig(path, format="svg", metadata={"Date": None, "Creator": None})
