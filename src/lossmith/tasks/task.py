"""What a task is: how data becomes batches, how outputs meet a loss, how a model is judged."""

from __future__ import annotations

import itertools
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor, nn

from lossmith.core.call import format_call, split_list
from lossmith.core.metric import Metric, find_metric
from lossmith.core.module import Objective
from lossmith.core.own import is_own
from lossmith.core.spec import Inputs, Spec, Tune, objectives, parse
from lossmith.modules import from_text
from lossmith.tasks.hf import parameter_groups
from lossmith.tasks.own_loss import own_objective
from lossmith.tasks.place import CPU, find, moved, random_state, set_random_state
from lossmith.tasks.reader import Reader
from lossmith.tasks.settings import Setting, resolve


@dataclass(frozen=True)
class Description:
    """What the data is, for the report's signature and notes."""

    name: str
    rows: Mapping[str, int]
    notes: tuple[str, ...]
    fingerprint: str
    split: str
    facts: Mapping[str, object] = field(default_factory=dict)
    scorers: tuple[str, ...] = ()  # signatures of the packages that compute metrics


def describe_split(given: Iterable[str], made: Iterable[str], seed: int) -> str:
    """Which parts came with the data and which were drawn from it.

    >>> describe_split(["train", "test"], ["train", "valid", "test"], seed=0)
    'train and test as given, valid drawn (s0)'
    >>> describe_split(["train", "valid", "test"], ["train", "test"], seed=0)
    'train and test as given, valid joined to train'
    """
    given, made = list(given), list(made)
    kept = [part for part in given if part in made]
    drawn = [part for part in made if part not in given]
    joined = [part for part in given if part not in made]
    words = [f"{' and '.join(kept)} as given"] if len(kept) > 1 else []
    words += [f"{' and '.join(drawn)} drawn (s{seed})"] if drawn else []
    words += [f"{' and '.join(joined)} joined to train"] if joined else []
    return ", ".join(words)


class Learner(ABC):
    """Something that trains, an epoch at a time; ``model`` is what the problem evaluates."""

    model: Any

    @abstractmethod
    def epoch(self, after_step: Callable[[float], None] | None = None) -> float:
        """Train for one pass; return the mean training loss (NaN where a peer reports none).

        ``after_step`` gets the loss of each step, of a learner that has steps.
        """

    @property
    @abstractmethod
    def parameters(self) -> int:
        """How many numbers it learns."""


class Share(Protocol):
    """How several processes compute what one would; each ends up with all of it."""

    def rows(self, call: Callable[..., Any]) -> nn.Module:
        """The same call, a module's or a function's, of which each process computes some rows."""

    def alike(self, tensor: Tensor) -> Tensor:
        """What every process computes for itself, and the gradient of which is that of one."""


class Problem(ABC):
    """Data in tensors: makes batches, feeds an objective, evaluates a model."""

    description: Description

    @abstractmethod
    def model(self, settings: Mapping[str, Any]) -> nn.Module:
        """A fresh model; its initial weights come from torch's global seed."""

    @abstractmethod
    def batches(self, settings: Mapping[str, Any], seed: int, epoch: int) -> Iterable[Any]:
        """The batches of one epoch, in an order that depends on seed and epoch alone."""

    @abstractmethod
    def cost(self, model: nn.Module, batch: Any, objective: Objective, feed: Inputs) -> Tensor:
        """The value of the objective on one batch."""

    def whole_step(
        self, model: nn.Module, optimizer: torch.optim.Optimizer, objective: Objective
    ) -> Callable[[Any], Tensor] | None:
        """What takes a whole step on a batch and returns its cost, if there is such a thing.

        It is what :meth:`cost`, its gradient and the optimizer come to, up to rounding, faster.
        """
        return None

    def apart(self, model: nn.Module, share: Share) -> nn.Module:
        """The model as :meth:`cost` is to call it where several processes train together.

        A model that is called with tensors that have a row for each example, and with nothing
        else, is shared as it is.
        """
        return share.rows(model)

    @abstractmethod
    def evaluate(self, model: Any, part: str, metrics: Sequence[Metric]) -> dict[str, float]:
        """Each metric of the model on one part ("valid" or "test")."""

    @property
    def has_valid(self) -> bool:
        """Whether there is a part to choose the epoch on."""
        return self.description.rows.get("valid", 0) > 0

    @property
    def examples(self) -> int:
        """How many examples the batches of an epoch hold together."""
        return self.description.rows["train"]

    def as_if_trained(self) -> Problem:
        """The same, evaluating a fresh model at the cost of one that has learned, to time it."""
        return self

    def reader(self) -> Reader:
        """What the model needs to read new data; a model folder keeps it beside the weights."""
        raise ValueError("a model of this task cannot be kept in a folder yet; compare trains it.")

    def inputs_of(self, part: str) -> Iterable[bytes]:
        """What the model reads of each row of a part, as bytes; labels are no part of it.

        Nothing where what is seen is not what is scored, as of users and their items.
        """
        return ()

    def generator(self, batch: Any) -> torch.Generator | None:
        """The random state from which the cost of a batch draws, where it is not torch's own.

        Every batch of an epoch has the same; a checkpoint keeps where it stands.
        """
        return None


class Task(ABC):
    """A family of problems: which settings, models, losses and metrics it has."""

    family: ClassVar[str]
    default_losses: ClassVar[tuple[str, ...]]
    metric_names: ClassVar[tuple[str, ...]]
    settings: ClassVar[Mapping[str, Setting]]
    presets: ClassVar[Mapping[str, Mapping[str, Any]]]
    # The inputs this task can make, the preferred first, each with a line that shows the call.
    feeds: ClassVar[Mapping[Inputs, str]]
    # Which of them a loss of the user's own gets unless it says otherwise; None: the first.
    own_inputs: ClassVar[Inputs | None] = None
    # Knobs without a default that a feed fills in.
    filled_in: ClassVar[frozenset[str]] = frozenset()
    peers: ClassVar[tuple[str, ...]] = ()
    # Two metrics of which more of one is less of the other, across and up; the report plots them.
    trade_off: ClassVar[tuple[str, str] | None] = None

    @property
    def default_metric(self) -> str:
        """The metric that decides unless another is named."""
        return self.metric_names[0]

    def usual_losses(
        self, facts: Mapping[str, object], settings: Mapping[str, Any]
    ) -> tuple[str, ...]:
        """What is compared on data of these facts where no losses are named."""
        return self.default_losses

    def resolve(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Every setting with its value; an unknown name or a bad value raises."""
        values = resolve(self.settings, self.presets, given)
        self.metrics(values)
        return values

    def metrics(self, settings: Mapping[str, Any]) -> tuple[Metric, ...]:
        """The metrics that are reported; the first decides which epoch and which loss is best."""
        names = split_list(settings["metrics"]) or list(self.metric_names)
        first = settings["metric"] or names[0]
        ordered = [first, *(name for name in names if name != first)]
        return tuple(find_metric(name, self.family) for name in ordered)

    def fitting(self) -> tuple[Spec, ...]:
        """The objectives that this task can train with."""
        return tuple(spec for spec in objectives() if set(spec.inputs) & set(self.feeds))

    def feed(self, spec: Spec) -> Inputs:
        """The inputs that this task makes for an objective."""
        for inputs in self.feeds:
            if inputs in spec.inputs:
                return inputs
        fitting = ", ".join(other.name for other in self.fitting())
        raise ValueError(
            f"{spec.name} takes {' or '.join(spec.inputs)}, which the {self.family} task does not "
            f"have. Losses that fit: {fitting}."
        )

    def objective(self, loss: str, settings: Mapping[str, Any]) -> tuple[Objective, Inputs]:
        """The objective that a text names, the user's own included, and what it is fed with."""
        if is_own(loss):
            first: Inputs = next(iter(self.feeds))
            usual = first if self.own_inputs is None else self.own_inputs
            made = own_objective(loss, self.feeds, settings["inputs"], usual, self.family)
        else:
            made = from_text(loss)
        return made, self.feed(made.spec)

    def is_peer(self, loss: str) -> bool:
        """Whether the text names another library's learner (``lightfm(...)``)."""
        return loss.split("(")[0].strip() in {peer.split("(")[0] for peer in self.peers}

    def check(self, loss: str, settings: Mapping[str, Any]) -> None:
        """Raise unless the loss reads, has these knobs, and fits this task."""
        if self.is_peer(loss):
            return
        if is_own(loss):
            self.objective(loss, settings)
            return
        spec, knobs = parse(loss)
        self.feed(spec)
        for name, parameter in spec.knobs.items():
            if parameter.default is parameter.empty and name not in {*knobs, *self.filled_in}:
                example = format_call(spec.name, {**knobs, name: _some(spec.tune.get(name))})
                raise ValueError(f"{spec.name} needs {name}, which has no default: {example}.")
        if knobs.get("reduction") == "none":
            raise ValueError(
                f"{loss}: reduction='none' gives many numbers, and training needs one. Leave it "
                "out for the mean, or take reduction='sum'."
            )

    def check_data(self, loss: str, problem: Problem) -> None:  # noqa: B027  # most refuse nothing
        """Raise unless a peer can train on this data; objectives train on whatever a task reads."""

    def describe(self, data: str, settings: Mapping[str, Any]) -> Description:
        """What the data is, after reading it."""
        return self.problem(data, settings).description

    @abstractmethod
    def problem(self, data: str, settings: Mapping[str, Any]) -> Problem:
        """The data in tensors; the same data and settings are read once per process."""

    def learner(
        self, problem: Problem, loss: str, settings: Mapping[str, Any], seed: int
    ) -> Learner:
        """What trains: a reference model under an objective, or a peer."""
        return GradientLearner(self, problem, loss, settings, seed)

    def tire(self, learner: GradientLearner) -> bool:
        """Bring a fresh learner to where its steps cost most, to time them; False: they all do."""
        return False

    def restore(self, files: Mapping[str, bytes]) -> Reader:
        """The inverse of :meth:`Reader.files`; a file that is missing raises KeyError."""
        raise ValueError(f"a model of the {self.family} task cannot be kept in a folder yet.")

    def usage(self, loss: str) -> str:
        """The lines of PyTorch that use this loss outside the tool."""
        if self.is_peer(loss):
            return f"# {loss} is another library's learner, not an objective of lossmith."
        objective = from_text(loss)
        given = ", ".join(f"{name}={value!r}" for name, value in objective.given.items())
        call = self.feeds[self.feed(objective.spec)]
        return (
            "import lossmith as lm\n\n"
            f"objective = lm.{objective.spec.module_name}({given})\n"
            f"loss = {call}\n"
            "loss.backward()"
        )


def _some(tune: Tune | None) -> object:
    """A value from the middle of what is searched, to show how a knob is written."""
    if tune is None:
        return 1.0
    if tune.choices:
        return tune.choices[0]
    return float(f"{(tune.low * tune.high) ** 0.5 if tune.log else (tune.low + tune.high) / 2:.1g}")


OPTIMIZERS: Mapping[str, Callable[..., torch.optim.Optimizer]] = {
    "adamw": torch.optim.AdamW,
    "adagrad": torch.optim.Adagrad,
}


class GradientLearner(Learner):
    """A reference model trained by gradients under one objective."""

    def __init__(
        self, task: Task, problem: Problem, loss: str, settings: Mapping[str, Any], seed: int
    ) -> None:
        torch.manual_seed(seed)
        self.problem, self.settings, self.seed = problem, settings, seed
        self.device = find(settings["device"])
        self.model: nn.Module = problem.model(settings).to(self.device)
        self.called = self.model  # what the costs are computed with: the model, or its shards
        self.before_step: Callable[[], None] = lambda: None
        self.objective, self.feed = task.objective(loss, settings)
        self.objective.to(self.device)
        optimizer = OPTIMIZERS[settings["optimizer"]]
        # Of Adagrad the processor alone has a fused form.
        fusing = ("cpu",) if settings["optimizer"] == "adagrad" else ("cpu", "cuda")
        groups = parameter_groups(self.model, settings)
        groups[0]["params"] += self.objective.parameters()
        self.optimizer = optimizer(
            groups,
            lr=settings["learning_rate"],
            weight_decay=settings["weight_decay"],
            fused=self.device.type in fusing or None,
        )
        self.done = 0  # whole epochs
        self.costs: list[Tensor] = []  # of the steps of the epoch that has begun
        self.generator: torch.Generator | None = None
        self.drawn: Tensor | None = None  # where the generator stood when the epoch was broken off

    @property
    def parameters(self) -> int:
        """How many numbers it learns."""
        return sum(parameter.numel() for parameter in self.model.parameters())

    def epoch(self, after_step: Callable[[float], None] | None = None) -> float:
        """Train for one pass; return the mean training loss.

        ``after_step`` gets the loss of each step. If it raises, the epoch has been broken off
        between two steps, and :meth:`state` holds all that is needed to go on from there.
        """
        self.model.train()
        step = self._step()
        batches = self.problem.batches(self.settings, self.seed, self.done + 1)
        for batch in itertools.islice(batches, len(self.costs), None):
            self.generator = self.problem.generator(batch)
            if self.generator is not None and self.drawn is not None:
                self.generator.set_state(self.drawn)
            self.drawn = None
            self.costs.append(step(moved(batch, self.device)))
            if after_step is not None:
                after_step(float(self.costs[-1]))
        mean = float(torch.stack(self.costs).mean())
        self.done, self.costs = self.done + 1, []
        # Broken off behind the last step, an epoch has nothing left that would draw.
        self.generator = self.drawn = None
        return mean

    def _step(self) -> Callable[[Any], Tensor]:
        """What steps: the problem's own way where the model is not computed in shares."""
        alone = self.called is self.model
        whole = self.problem.whole_step(self.model, self.optimizer, self.objective)
        return whole if alone and whole is not None else self._usual_step

    def _usual_step(self, batch: Any) -> Tensor:
        """Cost, gradient and step; the cost is returned."""
        cost = self.problem.cost(self.called, batch, self.objective, self.feed)
        self.optimizer.zero_grad(set_to_none=True)
        backward: Any = cost.backward  # torch leaves it untyped
        backward()
        self.before_step()
        self.optimizer.step()
        return cost.detach()

    def state(self) -> dict[str, Any]:
        """Where training stands, between two steps or two epochs, as tensors and plain values."""
        drawing = self.generator is not None and bool(self.costs)
        state = {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "epochs": self.done,
            "costs": torch.stack(self.costs) if self.costs else torch.empty(0),
            "random": torch.get_rng_state(),
            "random there": random_state(self.device),
            "drawn": self.generator.get_state() if drawing and self.generator else self.drawn,
        }
        return moved(state, CPU)

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Go on from there: what follows is what would have followed."""
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.done, self.costs = state["epochs"], list(moved(state["costs"], self.device))
        self.drawn = state["drawn"]
        torch.set_rng_state(state["random"])
        set_random_state(self.device, state["random there"])
