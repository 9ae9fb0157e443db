"""From what was asked for to a model folder: settle it, train it or go on with it, write it."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lossmith.core.call import format_call, parse_call
from lossmith.core.own import digest_of, is_own, own_text, own_texts
from lossmith.data.errors import DataError
from lossmith.tasks.place import find
from lossmith.tasks.registry import load_task
from lossmith.tasks.task import GradientLearner
from lossmith.tasks.trial import try_model
from lossmith.training import checkpoint
from lossmith.training.card import card
from lossmith.training.checkpoint import Keeper
from lossmith.training.distributed import Processes, join
from lossmith.training.files import alone_in, environment, unlike, without_nan
from lossmith.training.folder import (
    CHECKPOINT,
    METRICS,
    clear,
    read_config,
    write_config,
    write_model,
)
from lossmith.training.job import Job, Outcome, RequestError
from lossmith.training.run import Report, Training

EVERY = 60.0  # seconds between two checkpoints


class Stopped(KeyboardInterrupt):
    """Stopped by the user; the checkpoint is written and the same call goes on."""


@dataclass(frozen=True)
class Fitted:
    """A finished model folder."""

    folder: Path
    metrics: Mapping[str, Any]  # what metrics.json says
    already: bool  # whether it was finished before this call


def settle(family: str, data: str, loss: str, *, seed: int, settings: Mapping[str, Any]) -> Job:
    """The job, checked as far as that goes without reading data; RequestError says what to type."""
    try:
        task = load_task(family)
        text = own_text(loss) if is_own(loss) else format_call(*parse_call(loss))
        resolved = task.resolve(settings)
        task.check(text, resolved)
        find(resolved["device"])
    except ValueError as error:
        raise RequestError(str(error)) from error
    if task.is_peer(text):
        raise RequestError(
            f"{text} is another library's learner, whose models are kept by that library; "
            "lossmith compare trains it for comparison. Here, give an objective: "
            f"--loss {task.default_losses[0]}."
        )
    if seed < 0:
        raise RequestError(f"seed={seed}: expected a whole number from 0.")
    return Job(family, data, text, seed, resolved)


def fit(
    job: Job,
    folder: Path,
    *,
    fresh: bool = False,
    checkpoint_every: float = EVERY,
    report: Report | None = None,
    began: Callable[[Training], None] | None = None,
    after_step: Callable[[float], None] | None = None,
) -> Fitted:
    """Train into a folder, going on from its checkpoint where there is one.

    ``began`` gets the training before its first step; ``report`` each evaluated epoch, those of
    an earlier call included; ``after_step`` the loss of each step. Raises :class:`Stopped` after
    Ctrl-C or SIGTERM, once a checkpoint is written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RequestError(f"{folder} cannot be used as the model folder: {error}.") from error
    processes = join()
    if processes.size > 1 and job.settings["device"] != "cpu":
        raise RequestError(
            f"device={job.settings['device']}: several processes train on processors. Leave "
            "--device out, or train in one process."
        )
    how = _How(folder, processes, checkpoint_every, report, began, after_step)
    with contextlib.ExitStack() as held:

        def claim() -> None:
            if processes.first:
                held.enter_context(alone_in(folder, "lossmith train"))
                _claim(folder, job, fresh=fresh)

        processes.agreed(claim)
        return _train(job, how)


def _claim(folder: Path, job: Job, *, fresh: bool) -> None:
    """Clear the folder, or see that what is there is this training."""
    for leftover in folder.glob(".unfinished-*"):  # of a kill while it was being written
        leftover.unlink()
    if not (fresh and clear(folder)):
        _check_claim(folder, read_config(folder), _config(job))


@dataclass(frozen=True)
class _How:
    folder: Path
    processes: Processes
    every: float
    report: Report | None
    began: Callable[[Training], None] | None
    after_step: Callable[[float], None] | None


def _train(job: Job, how: _How) -> Fitted:
    folder, first = how.folder, how.processes.first
    training, config, already = how.processes.agreed(lambda: _begin(job, folder))
    if already:
        metrics = json.loads((folder / METRICS).read_text("utf-8"))
        return Fitted(folder, metrics, already=True)
    assert isinstance(training.learner, GradientLearner)
    how.processes.share(training.learner, training.problem)
    if first:
        write_config(folder, config)
    outcome = _carry_out(training, config, how)
    metrics = _metrics(outcome, training)
    if first:
        text = card(str(folder), config, training.problem.description, metrics)
        write_model(folder, training.problem, training.learner.model, config, metrics, text)
        (folder / CHECKPOINT).unlink(missing_ok=True)
    return Fitted(folder, metrics, already=False)


def _begin(job: Job, folder: Path) -> tuple[Training, dict[str, Any], bool]:
    """The training as far as the folder has it, its configuration, and whether it is finished."""
    before = read_config(folder)
    training = _training(job)
    config = {**_config(job), "data_fingerprint": training.problem.description.fingerprint}
    assert isinstance(training.learner, GradientLearner)
    config["inputs"] = training.learner.feed  # what a logit means, without the code of the loss
    if before is not None:
        _check_same(folder, before, config)
    already = before is not None and "files" in before
    if not already:
        _go_on(training, folder, config)
    return training, config, already


def _training(job: Job) -> Training:
    try:
        training = Training(job, keep_best=True)
        training.problem.reader()
        if is_own(str(training.settings["model"])):  # what is called wrongly leaves no folder
            try_model(training.task, training.problem, job.loss, training.settings)
    except DataError:
        raise
    except ValueError as error:  # settings and data that do not go together
        raise RequestError(str(error)) from error
    return training


def _go_on(training: Training, folder: Path, config: Mapping[str, Any]) -> None:
    """Bring a training to where its checkpoint says, if there is one."""
    path = folder / CHECKPOINT
    if path.exists():
        kept = checkpoint.load(path)
        _check_same(folder, kept["identity"], config)
        training.load_state(kept["training"])


def _carry_out(training: Training, config: Mapping[str, Any], how: _How) -> Outcome:
    if how.began is not None:
        how.began(training)
    path, identity = how.folder / CHECKPOINT, _identity(config)
    keeper = Keeper(path, training, identity, every=how.every, processes=how.processes)

    def step(loss: float) -> None:
        if how.after_step is not None:
            how.after_step(loss)
        keeper.step()

    with keeper.listening():
        try:
            return training.run(report=how.report, after_step=step)
        except KeyboardInterrupt:
            raise Stopped(str(how.folder)) from None


def _config(job: Job) -> dict[str, Any]:
    versions = {k: v for k, v in environment().items() if k in ("lossmith", "torch", "python")}
    plain: dict[str, Any] = {
        "family": job.family,
        "loss": job.loss,
        "seed": job.seed,
        "data": job.data,
        "settings": json.loads(json.dumps(job.settings)),
        "code": {text: digest_of(text) for text in own_texts(job.loss, job.settings)},
        "versions": versions,
    }
    return plain


def _identity(config: Mapping[str, Any]) -> dict[str, Any]:
    """What decides the numbers; that the data moved to another place does not."""
    named = {key: config[key] for key in ("family", "loss", "seed")}
    fingerprint = {"data fingerprint": config.get("data_fingerprint")}
    versions = {f"version of {k}": v for k, v in config["versions"].items() if k != "python"}
    code = {f"code of {text}": digest for text, digest in config.get("code", {}).items()}
    # On another device sums are rounded otherwise. Folders older than the setting are of this one.
    return {**named, "device": "cpu", **config["settings"], **code, **versions, **fingerprint}


def _check_claim(folder: Path, before: Mapping[str, Any] | None, now: Mapping[str, Any]) -> None:
    """Refuse a folder with other things in it, or with another training, before data is read."""
    if before is None:
        others = sorted(entry.name for entry in folder.iterdir())
        if others:
            raise RequestError(
                f"{folder} is not a model folder and not empty (it holds {others[0]!r}); give a "
                "new folder with --out."
            )
        return
    _check_same(folder, before, {**now, "data_fingerprint": before.get("data_fingerprint")})


def _check_same(folder: Path, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    there = _identity(before) if "settings" in before else before
    found = unlike(there, _identity(now))
    if found:
        raise RequestError(
            f"{folder} holds another training:\n"
            + "\n".join(f"  {line}" for line in found)
            + "\nAsk for what is there to go on with it, give another folder with --out, or start "
            "this one over with --fresh."
        )


def _metrics(outcome: Outcome, training: Training) -> dict[str, Any]:
    chosen = next(epoch for epoch in outcome.epochs if epoch.number == outcome.chosen)
    values = {
        "chosen_epoch": chosen.number,
        "epochs_trained": outcome.epochs[-1].number,
        "deciding_metric": training.metrics[0].name,
        "valid": dict(chosen.valid),
        "test": dict(chosen.test),
        "seconds": outcome.seconds,
        "peak_memory_mb": outcome.peak_memory_mb,
        "parameters": outcome.parameters,
        "epochs": [asdict(epoch) for epoch in outcome.epochs],
    }
    plain: dict[str, Any] = without_nan(values)
    return plain
