"""The report of a comparison: one page that opens offline, and the same as text and as data."""

from __future__ import annotations

import csv
import functools
import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jinja2

from lossmith.compare import plots, wording
from lossmith.compare.plan import Plan
from lossmith.compare.statistics import Analysis, Comparison, Summary, analyse
from lossmith.compare.store import Store, describe
from lossmith.compare.trade_off import TradeOff, find_trade_off
from lossmith.compare.tune import Found, tuned
from lossmith.core.metric import find_metric
from lossmith.training.files import without_nan
from lossmith.training.job import Outcome

if TYPE_CHECKING:  # needs torch, and a report does not
    from lossmith.tasks.task import Description, Task


@dataclass(frozen=True)
class Report:
    """What a comparison found. In a notebook it shows itself."""

    folder: Path
    plan: Plan
    data: Mapping[str, Any]  # the description of the data as plain values
    analysis: Analysis
    outcomes: Mapping[tuple[str, int], Outcome]
    failures: Mapping[tuple[str, int], str]
    environments: tuple[Mapping[str, Any], ...]  # the different ones the trainings were made in
    found: tuple[Found, ...]  # what the search of each loss found; empty where nothing was searched
    usage: str  # lines of PyTorch with the loss to take
    trade_off: TradeOff | None = None  # of the two metrics that the task says pull apart

    @property
    def headline(self) -> str:
        """The verdict in a few words."""
        return wording.headline(self.analysis)

    @property
    def verdict(self) -> str:
        """The verdict in plain sentences."""
        return " ".join(self.sentences)

    @property
    def sentences(self) -> list[str]:
        """The verdict sentence by sentence, the most important first."""
        return wording.sentences(self.analysis)

    @property
    def comparisons(self) -> tuple[Comparison, ...]:
        """Each loss against the baseline."""
        return self.analysis.comparisons

    @property
    def path(self) -> Path:
        """The page."""
        return self.folder / "report.html"

    @property
    def signature(self) -> str:
        """What it takes to get the same numbers again, in one line."""
        by_valid = any(epoch.valid for one in self.outcomes.values() for epoch in one.epochs)
        threads = sorted({str(arm.settings.get("threads", "?")) for arm in self.plan.arms})
        devices = sorted({str(arm.settings.get("device", "cpu")) for arm in self.plan.arms})
        seeds, count = self.plan.seeds, len(self.plan.seeds)
        in_a_row = count > 1 and seeds == tuple(range(count))
        defined = self.plan.definition
        parts = {
            "metric": f"{self.plan.metric} ({defined})" if defined else self.plan.metric,
            "split": self.data["split"],
            "seeds": f"0-{count - 1}" if in_a_row else ",".join(map(str, seeds)),
            "epoch": "best on valid" if by_valid else "last",
            **({"search": f"{self.plan.tune} trials on valid"} if self.plan.tune else {}),
            "lossmith": self.plan.version,
            "data": self.plan.fingerprint,
            **({"code": "+".join(sorted({*self.plan.code.values()}))} if self.plan.code else {}),
            "torch": "+".join(sorted({str(one.get("torch", "?")) for one in self.environments})),
            "threads": "+".join(threads),
            **({"device": "+".join(devices)} if devices != ["cpu"] else {}),
        }
        return "|".join(f"{key}:{value}" for key, value in parts.items())

    @property
    def warnings(self) -> list[str]:
        """What a reader has to know before believing the numbers."""
        found = []
        for name in ("torch", "numpy"):
            versions = sorted({str(one[name]) for one in self.environments if name in one})
            if len(versions) > 1:
                found.append(
                    f"The trainings were made with {wording.listing(versions)} of {name}; their "
                    "numbers may differ in the last digits."
                )
        found += [
            f"{arm}, seed {seed}, failed: {reason}" for (arm, seed), reason in self.failures.items()
        ]
        return found

    def as_dict(self) -> dict[str, Any]:
        """Everything, each epoch of each training included; NaN is None."""
        values = {
            "headline": self.headline,
            "verdict": self.verdict,
            "winner": self.analysis.winner,
            "signature": self.signature,
            "command": self.plan.command(),
            "plan": self.plan.as_dict(),
            "data": dict(self.data),
            "environments": [dict(one) for one in self.environments],
            "analysis": self.analysis.as_dict(),
            "search": [asdict(one) for one in self.found],
            "trade_off": asdict(self.trade_off) if self.trade_off else None,
            "runs": [
                {"arm": arm, "seed": seed, **outcome.as_dict()}
                for (arm, seed), outcome in self.outcomes.items()
            ],
            "failures": [
                {"arm": arm, "seed": seed, "reason": reason}
                for (arm, seed), reason in self.failures.items()
            ],
        }
        plain: dict[str, Any] = without_nan(values)
        return plain

    def html(self) -> str:
        """The page."""
        return _template("report.html.j2").render(**self._view(), **self._figures())

    def markdown(self) -> str:
        """The report as text."""
        return _template("report.md.j2").render(**self._view())

    def csv(self) -> str:
        """One row per loss and seed."""
        names = list(dict.fromkeys(name for one in self.outcomes.values() for name in one.scores))
        file = io.StringIO()
        writer = csv.writer(file, lineterminator="\n")
        fixed = ("arm", "seed", "status", "epoch", "seconds", "peak_memory_mb", "parameters")
        writer.writerow([*fixed, *names])
        for run in self.plan.runs():
            outcome = self.outcomes.get(run.key)
            if outcome is None:
                writer.writerow([*run.key, "failed", *[""] * (len(fixed) - 3 + len(names))])
                continue
            cost = (outcome.chosen, outcome.seconds, outcome.peak_memory_mb, outcome.parameters)
            scores = (outcome.scores.get(name, "") for name in names)
            writer.writerow([*run.key, "finished", *cost, *scores])
        return file.getvalue()

    def write(self, store: Store) -> None:
        """Put the files of the report into the run folder."""
        store.write_text("results.json", json.dumps(self.as_dict(), indent=1, default=str) + "\n")
        store.write_text("results.csv", self.csv())
        store.write_text("report.md", self.markdown())
        store.write_text("report.html", self.html())

    def rows(self) -> list[dict[str, str]]:
        """The table of the deciding metric, as text: one row per loss, the baseline first."""
        places = wording.metric_places(self.analysis)
        found = {one.arm: one for one in self.comparisons}
        ordered = sorted(self.analysis.summaries, key=lambda one: one.arm in found)
        return [_row(one, found.get(one.arm), self.analysis, places) for one in ordered]

    def __repr__(self) -> str:
        return f"<Report {self.path}: {self.headline}>"

    def _repr_html_(self) -> str:
        page = self.html().replace("&", "&amp;").replace('"', "&quot;")
        return f'<iframe srcdoc="{page}" style="width:100%;height:60em;border:0"></iframe>'

    def _figures(self) -> dict[str, Any]:
        legend = [
            {
                "text": arm.text,
                "colour": plots.colour_of(i),
                "dash": plots.dash_of(i),
                "marker": plots.marker_of(i),
            }
            for i, arm in enumerate(self.plan.arms)
        ]
        return {
            "forest": plots.forest(self.analysis) if self.comparisons else "",
            "curves": plots.curves(self.plan, self.outcomes) if self.outcomes else "",
            "trade_off": plots.trade_off(self.plan, self.trade_off) if self.trade_off else "",
            "legend": legend,
        }

    def _view(self) -> dict[str, Any]:
        return {
            "report": self,
            "plan": self.plan,
            "data": self.data,
            "rows": self.rows(),
            "direction": "higher" if self.plan.higher_is_better else "lower",
            "metrics": _metric_table(self.analysis),
            "trade": _trade_rows(self.trade_off) if self.trade_off else [],
            "costs": _cost_rows(self.analysis),
            "found": _search_rows(self.found),
            "settings": _settings(self.plan),
            "chosen": self.analysis.winner or self.plan.baseline,
            "machines": self.environments,
        }


def make_report(
    store: Store,
    plan: Plan,
    description: Description,
    task: Task,
    failures: Mapping[tuple[str, int], str],
) -> Report:
    """Read what the folder holds and judge it."""
    plan, found = tuned(plan, task, store)
    outcomes, environments = {}, []
    for run in plan.runs():
        outcome = store.outcome(run)
        if outcome is not None:
            outcomes[run.key] = outcome
            made_in = store.environment_of(run)
            if made_in not in environments:
                environments.append(made_in)
    analysis = analyse(plan, outcomes)
    chosen = analysis.winner or plan.baseline
    loss = next(arm.loss for arm in plan.arms if arm.text == chosen)
    return Report(
        folder=store.folder,
        plan=plan,
        data=describe(description),
        analysis=analysis,
        outcomes=outcomes,
        failures=dict(failures),
        environments=tuple(environments),
        found=found,
        usage=_usage(task, plan, loss),
        trade_off=_trade_off(task, plan, outcomes),
    )


def _usage(task: Task, plan: Plan, loss: str) -> str:
    """The lines that use a loss; one of the user's own need not be at hand any more."""
    if loss in plan.code:
        return f"# {loss} is a loss of your own: call it as it was called here."
    return task.usage(loss)


def _trade_off(
    task: Task, plan: Plan, outcomes: Mapping[tuple[str, int], Outcome]
) -> TradeOff | None:
    scored = {name for one in outcomes.values() for name in one.scores}
    if task.trade_off is None or not set(task.trade_off) <= scored:
        return None
    across, up = (find_metric(name, task.family) for name in task.trade_off)
    names, directions = (across.name, up.name), (across.higher_is_better, up.higher_is_better)
    return find_trade_off(plan, outcomes, names, directions)


def _row(
    summary: Summary, one: Comparison | None, analysis: Analysis, places: int
) -> dict[str, str]:
    spread = summary.metrics.get(analysis.metric)
    value = wording.spread_text(spread, places) if spread else wording.NOTHING
    row = {"arm": summary.arm, "value": value, "n": str(len(summary.values))}
    if one is None:
        return {
            **row,
            "difference": "",
            "interval": "",
            "p": "",
            "wins": "",
            "probability": "",
            "verdict": "baseline",
        }
    return {
        **row,
        "difference": wording.number(one.effect.difference, places, sign=True),
        "interval": wording.interval_text(one.effect, places),
        "p": wording.p_text(one.holm_p),
        "wins": wording.wins_text(one),
        "probability": wording.number(one.probability, 2),
        "verdict": one.verdict,
    }


def _metric_table(analysis: Analysis) -> list[dict[str, Any]]:
    """Every metric: one block of rows each, the deciding one first."""
    names = dict.fromkeys(
        [analysis.metric, *(name for one in analysis.summaries for name in one.metrics)]
    )
    table = []
    for name in names:
        having = [one for one in analysis.summaries if name in one.metrics]
        halves = [
            (one.effects[name].high - one.effects[name].low) / 2 for one in having if one.effects
        ]
        places = wording.decimals([*(one.metrics[name].sd for one in having), *halves])
        cells = [
            {
                "arm": one.arm,
                "value": wording.spread_text(one.metrics[name], places),
                "difference": wording.number(one.effects[name].difference, places, sign=True)
                if one.effects
                else "baseline",
                "interval": wording.interval_text(one.effects[name], places) if one.effects else "",
            }
            for one in having
        ]
        table.append({"name": name, "cells": cells})
    return table


def _trade_rows(found: TradeOff) -> list[dict[str, str]]:
    """Each loss's place between the two metrics, from left to right in the figure."""
    columns = [[place[i] for place in found.means.values()] for i in (0, 1)]
    places = [wording.decimals([max(max(column) - min(column), 1e-4) / 10]) for column in columns]
    return [
        {
            "arm": arm,
            "across": wording.number(across, places[0]),
            "up": wording.number(up, places[1]),
            "front": "yes" if arm in found.front else "",
        }
        for arm, (across, up) in sorted(found.means.items(), key=lambda one: one[1])
    ]


def _cost_rows(analysis: Analysis) -> list[dict[str, Any]]:
    slowest = max((one.seconds.mean for one in analysis.summaries), default=math.nan)
    return [
        {
            "arm": one.arm,
            "seconds": wording.seconds_text(one.seconds.mean),
            "share": f"{100 * one.seconds.mean / slowest:.0f}" if slowest > 0 else "0",
            "memory": f"{one.peak_memory_mb:,.0f} MB"
            if math.isfinite(one.peak_memory_mb)
            else wording.NOTHING,
            "parameters": f"{one.parameters:,}",
            "swing": wording.number(one.swing, wording.decimals([one.swing])),
        }
        for one in analysis.summaries
    ]


def _search_rows(found: Sequence[Found]) -> list[dict[str, str]]:
    places = wording.decimals([abs(one.best - one.default) for one in found])
    return [
        {
            "arm": one.arm,
            "trials": f"{one.trials}" + (f", {one.failed} without a number" if one.failed else ""),
            "default": wording.number(one.default, places),
            "best": wording.number(one.best, places),
            "values": ", ".join(f"{key}={_short(value)}" for key, value in one.values.items())
            or ("the default" if one.trials else "not searched"),
        }
        for one in found
    ]


def _short(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _settings(plan: Plan) -> dict[str, str]:
    """Each setting once, with the losses named where they differ."""
    names = dict.fromkeys(name for arm in plan.arms for name in arm.settings)
    shown = {}
    for name in names:
        values = {arm.text: arm.settings.get(name) for arm in plan.arms}
        different = {str(value) for value in values.values()}
        if different <= {"", "None"}:
            continue
        shown[name] = (
            different.pop()
            if len(different) == 1
            else "; ".join(f"{value} ({text})" for text, value in values.items())
        )
    return shown


@functools.cache
def _template(name: str) -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("lossmith.compare"),
        autoescape=name.endswith(".html.j2"),
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    return environment.get_template(name)
