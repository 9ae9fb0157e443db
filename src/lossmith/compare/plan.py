"""What a comparison is going to do, as data: the arms, the seeds, and all that decides numbers."""

from __future__ import annotations

import hashlib
import json
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

import lossmith
from lossmith.core.call import format_call, parse_call, split_at
from lossmith.core.own import HF, digest_of, is_own, own_text, own_texts
from lossmith.data.errors import DataError
from lossmith.training.job import Job, RequestError

if TYPE_CHECKING:  # these need torch, and a plan does not
    from lossmith.core.metric import Metric
    from lossmith.tasks.task import Description, Task


class PlanError(RequestError):
    """Something in what was asked of a comparison cannot be done."""


@dataclass(frozen=True)
class Arm:
    """One side of a comparison: a loss and the settings it is trained with."""

    text: str
    loss: str
    settings: Mapping[str, Any]

    @property
    def slug(self) -> str:
        """A folder name: the text itself where it is a plain name."""
        if re.fullmatch(r"\w+", self.text):
            return self.text
        words = re.sub(r"[^A-Za-z0-9_.]+", "-", self.text).strip("-.")[:60]
        return f"{words}-{hashlib.sha256(self.text.encode()).hexdigest()[:6]}"


@dataclass(frozen=True)
class Run:
    """One training of a comparison."""

    arm: Arm
    job: Job
    trial: int | None = None  # its number in the search for good values; None: it is compared
    values: Mapping[str, Any] = field(default_factory=dict)  # what that trial tries

    @property
    def identity(self) -> tuple[str, int, int | None]:
        """What tells it from every other training of the comparison."""
        return self.arm.text, self.job.seed, self.trial

    @property
    def label(self) -> str:
        """What tells it from the others of its arm."""
        return f"seed {self.job.seed}" if self.trial is None else f"trial {self.trial + 1}"

    @property
    def key(self) -> tuple[str, int]:
        """What the outcome is filed under."""
        return self.arm.text, self.job.seed


@dataclass(frozen=True)
class Plan:
    """A comparison as data. Built by :func:`make_plan`."""

    family: str
    data: str
    name: str  # of the data, as the task calls it
    fingerprint: str  # of the content of the data
    arms: tuple[Arm, ...]
    metric: str
    higher_is_better: bool
    seeds: tuple[int, ...]
    baseline: str
    given: Mapping[str, Any]  # the settings that were asked for; the others are defaults
    tune: int = 0  # trials of each loss in the search for its values
    definition: str = ""  # of the metric, where the field knows several of its name
    code: Mapping[str, str] = field(
        default_factory=dict
    )  # of the user's own (code, encoders) by text: a hash
    version: str = lossmith.__version__

    def runs(self) -> list[Run]:
        """Every training, seed by seed, so that an early stop leaves whole pairs behind."""
        return [
            Run(arm, Job(self.family, self.data, arm.loss, seed, arm.settings))
            for seed in self.seeds
            for arm in self.arms
        ]

    def conditions(self) -> dict[str, Any]:
        """What decides the numbers of a run. Seeds may be added later, so they are not in it."""
        values = {
            "family": self.family,
            "data fingerprint": self.fingerprint,
            "metric": self.metric,
            "lossmith": self.version,
            "tune": self.tune,
            **{f"code of {text}": digest for text, digest in self.code.items()},
            "arms": {arm.text: {"loss": arm.loss, **arm.settings} for arm in self.arms},
        }
        plain: dict[str, Any] = json.loads(json.dumps(values, default=str))
        return plain

    @property
    def digest(self) -> str:
        """A short hash of :meth:`conditions`."""
        text = json.dumps(self.conditions(), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:8]

    @property
    def folder_name(self) -> str:
        """The same command finds its folder again by this name."""
        name = re.sub(r"[^A-Za-z0-9_.]+", "-", self.name).strip("-.") or "data"
        return f"{self.family}-{name}-{self.digest}"

    def command(self) -> str:
        """The command line that makes this comparison; what was lent needs Python to come along."""
        if self.lent:
            names = " and ".join(self.lent)
            return f"# lossmith.compare.compare(...) in Python, with {names} handed over"
        words = ["lossmith", "compare", self.family, self.data]
        words += ["--losses", ",".join(arm.text for arm in self.arms)]
        words += ["--metric", self.metric, "--seeds", seeds_text(self.seeds)]
        if self.baseline != self.arms[0].text:
            words += ["--baseline", self.baseline]
        if self.tune:
            words += ["--tune", str(self.tune)]
        for key, value in self.given.items():
            if key == "metric":
                continue
            words += ["--set", f"{key}={value}"]
        return shlex.join(words)

    @property
    def lent(self) -> list[str]:
        """What was handed over in Python, by name: no file says what it is."""
        return [text for text in self.code if ":" not in text]

    def as_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Plan:
        """The inverse of :meth:`as_dict`."""
        arms = tuple(Arm(**arm) for arm in values["arms"])
        return cls(**{**values, "arms": arms, "seeds": tuple(values["seeds"])})


def make_plan(
    task: Task,
    data: str,
    losses: Sequence[str] | None,
    *,
    metric: str | None,
    seeds: int | str | Sequence[int],
    baseline: str | None,
    settings: Mapping[str, object],
    tune: int = 0,
) -> tuple[Plan, Description]:
    """Check everything that was asked for, read the data once, and settle what will be done."""
    given = dict(settings) if metric is None else {**settings, "metric": metric}
    numbers = read_seeds(seeds)
    texts = losses or _usual_losses(task, data, given)
    arms = [_read_arm(task, text, given) for text in texts]
    chosen = arms[0] if baseline is None else _read_arm(task, baseline, given)
    if chosen not in arms:
        arms.insert(0, chosen)
    _check_distinct(arms)
    measured = _deciding_metric(task, arms)
    # To name the default metric is to ask for the same comparison.
    arms = [replace(arm, settings={**arm.settings, "metric": measured.name}) for arm in arms]
    description = _describe(task, data, given)
    _check_peers(task, data, arms)
    _check_models(task, data, arms)
    _check_search(tune, description)
    plan = Plan(
        family=task.family,
        data=data,
        name=description.name,
        fingerprint=description.fingerprint,
        arms=tuple(arms),
        metric=measured.name,
        higher_is_better=measured.higher_is_better,
        seeds=numbers,
        baseline=chosen.text,
        given=given,
        tune=tune,
        definition=measured.definition,
        code=_code(arms),
    )
    return plan, description


def read_seeds(seeds: int | str | Sequence[int]) -> tuple[int, ...]:
    """A count (10 is 0 to 9) or a list of seeds.

    >>> read_seeds(3), read_seeds("3"), read_seeds("0,3,5"), read_seeds([7])
    ((0, 1, 2), (0, 1, 2), (0, 3, 5), (7,))
    """
    hint = "expected a count such as 10, or a list such as 0,3,5"
    if isinstance(seeds, str):
        words = [word.strip() for word in seeds.split(",") if word.strip()]
        if not words or not all(word.isdecimal() for word in words):
            raise PlanError(f"seeds {seeds!r} do not read; {hint}.")
        seeds = [int(word) for word in words] if "," in seeds else int(words[0])
    if isinstance(seeds, int):
        if isinstance(seeds, bool) or seeds < 1:
            raise PlanError(f"seeds={seeds!r}: at least one seed is needed; {hint}.")
        return tuple(range(seeds))
    numbers = tuple(seeds)
    if not numbers or not all(type(number) is int and number >= 0 for number in numbers):
        raise PlanError(f"seeds {numbers!r} must be whole numbers from 0; {hint}.")
    if len(set(numbers)) < len(numbers):
        raise PlanError(f"a seed is listed twice in {seeds_text(numbers)}.")
    return numbers


def seeds_text(seeds: Sequence[int]) -> str:
    """The shortest text that :func:`read_seeds` reads back.

    >>> seeds_text((0, 1, 2)), seeds_text((0, 3, 5)), seeds_text((7,))
    ('3', '0,3,5', '7,')
    """
    if tuple(seeds) == tuple(range(len(seeds))):
        return str(len(seeds))
    return ",".join(map(str, seeds)) + ("," if len(seeds) == 1 else "")


def read_setting(text: str) -> tuple[str, object]:
    """``key=value`` with the value as a number, a word, a list or plain text.

    >>> read_setting("epochs=3"), read_setting("text=the review")
    (('epochs', 3), ('text', 'the review'))
    """
    key, equals, value = text.partition("=")
    key = key.strip().replace("-", "_")
    if not equals or not key.isidentifier():
        raise PlanError(f"{text!r} does not read as key=value, as in epochs=3.")
    value = value.strip()
    try:
        values = parse_call(f"setting(value={value})")[1]
    except ValueError:
        return key, value
    return key, values["value"] if len(values) == 1 else value


def _read_arm(task: Task, text: str, given: Mapping[str, object]) -> Arm:
    """``loss`` or ``loss@key=value@key=value``: settings of this arm alone."""
    first, *rest = split_at("@", text)
    overrides = [read_setting(part) for part in rest]
    try:
        loss = own_text(first) if is_own(first) else format_call(*parse_call(first))
        settings = task.resolve({**given, **dict(overrides)})
        task.check(loss, settings)
    except ValueError as error:
        raise PlanError(str(error)) from error
    label = "@".join([loss, *(f"{key}={value}" for key, value in overrides)])
    return Arm(label, loss, settings)


def _code(arms: Sequence[Arm]) -> dict[str, str]:
    """A hash of everything that is the user's own."""
    texts = dict.fromkeys(text for arm in arms for text in own_texts(arm.loss, arm.settings))
    try:
        return {text: digest_of(text) for text in texts}
    except ValueError as error:
        raise PlanError(str(error)) from error


def _describe(task: Task, data: str, given: Mapping[str, object]) -> Description:
    try:
        return task.describe(data, task.resolve(given))
    except DataError:
        raise
    except ValueError as error:  # a setting and the data that do not go together
        raise PlanError(str(error)) from error


def _usual_losses(task: Task, data: str, given: Mapping[str, object]) -> tuple[str, ...]:
    """What this data is compared on unless losses are named; tasks keep the data they have read."""
    _read_arm(task, task.default_losses[0], given)  # a mistake in the settings comes first
    return task.usual_losses(_describe(task, data, given).facts, task.resolve(given))


def _check_peers(task: Task, data: str, arms: Sequence[Arm]) -> None:
    for arm in arms:
        if task.is_peer(arm.loss):
            try:
                task.check_data(arm.loss, task.problem(data, arm.settings))
            except DataError:
                raise
            except ValueError as error:
                raise PlanError(str(error)) from error


def _check_models(task: Task, data: str, arms: Sequence[Arm]) -> None:
    """A model that is not of the registry is called once with what each loss makes of the data."""
    from lossmith.tasks.trial import try_model

    tried = set[tuple[str, str]]()
    for arm in arms:
        model = str(arm.settings.get("model"))
        encoder = model.startswith(HF)
        this = ("" if encoder else arm.loss, repr(arm.settings))  # an encoder is made alone
        if this in tried or task.is_peer(arm.loss) or not (encoder or is_own(model)):
            continue
        tried.add(this)
        try:
            try_model(task, task.problem(data, arm.settings), arm.loss, arm.settings)
        except DataError:
            raise
        except ValueError as error:
            raise PlanError(str(error)) from error


def _check_search(tune: int, description: Description) -> None:
    if isinstance(tune, bool) or tune < 0:
        raise PlanError(f"tune={tune!r}: expected how many trials each loss gets, such as 20.")
    if tune and not description.rows.get("valid"):
        raise PlanError(
            "a search needs validation data, and this comparison has none: leave --set valid=0 "
            "out, or give the data a validation part."
        )


def _check_distinct(arms: Sequence[Arm]) -> None:
    for i, arm in enumerate(arms):
        for other in arms[:i]:
            if (arm.loss, arm.settings) == (other.loss, other.settings):
                same = "twice" if arm.text == other.text else f"also as {other.text!r}"
                raise PlanError(f"{arm.text!r} is listed {same}: the same training, compared once.")


def _deciding_metric(task: Task, arms: Sequence[Arm]) -> Metric:
    """The metric to judge by, the same for every arm."""
    first, *others = [task.metrics(arm.settings)[0] for arm in arms]
    for other in others:
        if other.name != first.name:
            raise PlanError(
                f"the losses are judged by different metrics, {first.name} and {other.name}; "
                "give one with --metric."
            )
    return first
