"""``lossmith compare``: the same model under several losses and seeds, and a verdict."""

from __future__ import annotations

import shlex
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.text import Text

from lossmith.cli.options import (
    RUNNING,
    BatchSize,
    Device,
    Epochs,
    Features,
    Glossary,
    Item,
    Keywords,
    Label,
    LearningRate,
    Model,
    Negative,
    Positive,
    Query,
    Settings,
    Source,
    Target,
    TextColumn,
    User,
    check_family,
    given_settings,
)
from lossmith.cli.show import output, print_json, print_report
from lossmith.tasks import TASK_FAMILIES

if TYPE_CHECKING:
    from lossmith.compare.estimate import Estimate
    from lossmith.compare.report import Report
    from lossmith.compare.study import Study


def compare(
    context: typer.Context,
    family: Annotated[
        str | None,
        typer.Argument(metavar="FAMILY", help=f"{', '.join(TASK_FAMILIES)}."),
    ] = None,
    data: Annotated[
        str | None, typer.Argument(metavar="DATA", help='A file or a folder, or "embedded".')
    ] = None,
    losses: Annotated[
        list[str] | None,
        typer.Option(help="What to compare: 'bpr,warp(margin=0.5)', or yours: my.py:MyLoss."),
    ] = None,
    metric: Annotated[
        str | None, typer.Option(help="What decides: precision@10, or yours: my.py:f.")
    ] = None,
    seeds: Annotated[
        str | None, typer.Option(help="How many, or which: 0,3,5; default: 10.")
    ] = None,
    baseline: Annotated[
        str | None, typer.Option(help="The loss to compare with; default: the first.")
    ] = None,
    tune: Annotated[
        int | None,
        typer.Option(help="Search: trials of each loss, on validation data. Default: 0."),
    ] = None,
    plan: Annotated[
        str | None, typer.Option(help="A TOML file with any of these; a flag wins over it.")
    ] = None,
    model: Model = None,
    epochs: Epochs = None,
    batch_size: BatchSize = None,
    learning_rate: LearningRate = None,
    device: Device = None,
    settings: Settings = None,
    text: TextColumn = None,
    label: Label = None,
    target: Target = None,
    features: Features = None,
    query: Query = None,
    positive: Positive = None,
    negative: Negative = None,
    user: User = None,
    item: Item = None,
    source: Source = None,
    keywords: Keywords = None,
    glossary: Glossary = None,
    out: Annotated[
        str | None, typer.Option(help="Run folder; default: runs/...", rich_help_panel=RUNNING)
    ] = None,
    jobs: Annotated[
        int | None, typer.Option(help="Trainings at a time.", rich_help_panel=RUNNING)
    ] = None,
    executor: Annotated[
        str, typer.Option(help="local, or ray for a cluster.", rich_help_panel=RUNNING)
    ] = "local",
    address: Annotated[
        str | None, typer.Option(help="Of the Ray cluster.", rich_help_panel=RUNNING)
    ] = None,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Start the folder over.", rich_help_panel=RUNNING)
    ] = False,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="No progress.", rich_help_panel=RUNNING)
    ] = False,
    as_json: Annotated[
        bool,
        typer.Option("--json", help="The result as JSON, on stdout.", rich_help_panel=RUNNING),
    ] = False,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run",
            help="Show the plan, and its cost from a few timed steps.",
            rich_help_panel=RUNNING,
        ),
    ] = False,
) -> None:
    """Train the same model under several losses and seeds on your data; give a verdict.

    The same command again finishes what is missing, after any stop; more --seeds are added to
    what is there. stdout is the result, stderr the progress.

    lossmith compare recommendation ratings.csv --losses bpr,warp --metric precision@10

    lossmith compare --plan runs/.../plan.toml --out again
    """
    from lossmith.compare.plan import read_seeds
    from lossmith.core.call import split_list

    asked = _read_plan(plan)
    family, data = family or asked.get("family"), data or asked.get("data")
    if family is None or data is None:
        missing = "FAMILY" if family is None else "DATA"
        raise typer.BadParameter("give it here, or in the file of --plan.", param_hint=missing)
    check_family(family)
    given = given_settings(context)
    texts = [text for word in losses or () for text in split_list(word)]
    study = _prepare(
        quiet,
        family,
        data,
        texts or asked.get("losses", []),
        metric=metric or asked.get("metric"),
        seeds=asked.get("seeds", 10) if seeds is None else read_seeds(seeds),
        baseline=baseline or asked.get("baseline"),
        tune=asked.get("tune", 0) if tune is None else tune,
        out=out or asked.get("out"),
        settings={**asked.get("settings", {}), **given},
    )
    if dry_run:
        _show_plan(study, jobs, as_json, quiet)
        return
    try:
        report = study.run(jobs=jobs, executor=executor, address=address, fresh=fresh, quiet=quiet)
    except KeyboardInterrupt as stop:
        _print_interrupted(stop, context.obj)
        raise typer.Exit(130) from None
    if as_json:
        print_json(report.as_dict())
    else:
        print_report(report)
    if report.failures:
        _print_failures(report)
        raise typer.Exit(1)


def _read_plan(path: str | None) -> dict[str, Any]:
    if path is None:
        return {}
    from lossmith.compare.planfile import read_plan_file

    return read_plan_file(path)


def _prepare(quiet: bool, family: str, data: str, losses: list[str], **asked: Any) -> Study:
    from lossmith.compare.study import prepare

    console = Console(stderr=True, quiet=quiet)
    if quiet or not console.is_terminal:
        return prepare(family, data, losses, **asked)
    with console.status(Text(f"Reading {data}")):
        return prepare(family, data, losses, **asked)


def _show_plan(study: Study, jobs: int | None, as_json: bool, quiet: bool) -> None:
    from lossmith.compare.estimate import estimate
    from lossmith.training.files import without_nan

    if not as_json:
        _print_plan(study)
    console = Console(stderr=True, quiet=quiet or as_json)
    with console.status(Text("Timing a few steps of each loss")):
        found = estimate(study, jobs)
    if as_json:
        values = {"plan": study.plan.as_dict(), "folder": study.folder, "estimate": asdict(found)}
        print_json(without_nan(values))
    else:
        _print_estimate(found)


def _print_estimate(found: Estimate) -> None:
    from lossmith.compare.wording import seconds_text

    console = output()
    if not found.trainings:
        return
    lines = [
        f"estimate  about {seconds_text(found.seconds)} ({seconds_text(found.low)} to "
        f"{seconds_text(found.high)}) for {found.trainings} trainings, {found.workers} at a time, "
        f"and {found.memory_mb:,.0f} MB of memory",
        "          (from a few timed steps of each loss on this machine as it is now; no promise)",
    ]
    for one in found.timings:
        if one.trouble:
            lines.append(f"          {one.arm}: not timed: {one.trouble}")
            continue
        lines.append(
            f"          {one.arm}: {1000 * one.step:,.1f} ms a step (mean of {one.timed}), "
            f"{one.steps:,} steps an epoch, evaluation {seconds_text(one.evaluation)}: "
            f"{seconds_text(one.training)} a training, {one.memory_mb:,.0f} MB"
        )
    for line in lines:
        console.print(line, markup=False, soft_wrap=True)


def _print_plan(study: Study) -> None:
    plan, description = study.plan, study.description
    rows = ", ".join(f"{part} {count:,}" for part, count in description.rows.items())
    lines = [
        f"data      {description.name}: {rows}",
        f"split     {description.split}",
        *(f"          {note}" for note in description.notes),
        f"metric    {plan.metric} ({'higher' if plan.higher_is_better else 'lower'} is better)",
        f"losses    {plan.baseline} (baseline)",
        *(f"          {arm.text}" for arm in plan.arms if arm.text != plan.baseline),
        f"seeds     {', '.join(map(str, plan.seeds))}",
        f"settings  {', '.join(f'{k}={v}' for k, v in plan.arms[0].settings.items() if v != '')}",
        f"folder    {study.folder}",
        f"to train  {study.total - study.finished()} of {study.total}{_search_text(study)}",
    ]
    console = output()
    for line in lines:
        console.print(line, markup=False, soft_wrap=True)


def _search_text(study: Study) -> str:
    if not study.plan.tune:
        return ""
    return f", {study.plan.tune} trials of each loss in the search among them"


def _print_interrupted(stop: KeyboardInterrupt, arguments: list[str]) -> None:
    console = Console(stderr=True, highlight=False)
    console.print(Text(f"Interrupted. {stop}".strip()), soft_wrap=True)
    # --fresh would throw away what was just kept.
    again = shlex.join(["lossmith", *(word for word in arguments if word != "--fresh")])
    console.print(Text(f"This does the rest:\n  {again}"), soft_wrap=True)


def _print_failures(report: Report) -> None:
    console = Console(stderr=True, highlight=False)
    for (arm, seed), reason in report.failures.items():
        console.print(Text(f"{arm}, seed {seed}, failed: {reason}"), soft_wrap=True)
    where = shlex.quote(str(report.folder / "runs"))
    console.print(Text(f"Details in {where}; the same command tries them again."), soft_wrap=True)
