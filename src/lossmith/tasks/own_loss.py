"""A loss of the user's own, as the tasks use an objective of the registry."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor, nn

from lossmith.core.module import Objective
from lossmith.core.own import Own, own, parameters_of, what_failed
from lossmith.core.spec import Inputs, Spec
from lossmith.core.words import did_you_mean


class LossError(ValueError):
    """A loss of the user's own cannot be trained with; the message says what it did."""


class OwnObjective(Objective):
    """Calls the user's loss, and says so when what it returns cannot be trained with.

    The parameters of a loss that is an ``nn.Module`` are trained with the model.
    """

    spec: Spec  # type: ignore[misc]  # each has its own

    def __init__(self, found: Own, feed: Inputs, family: str) -> None:
        nn.Module.__init__(self)
        self.name, self.home = found.text, found.home
        self.loss: Callable[..., Any] = found.made()
        self.spec = _spec(found, self.loss, feed, family)
        self._knob_names: tuple[str, ...] = ()
        self.calls = 0

    def __getattr__(self, name: str) -> Any:
        return nn.Module.__getattr__(self, name)

    @property
    def given(self) -> Mapping[str, object]:
        """No knob of it is known here."""
        return {}

    @property
    def text(self) -> str:
        """What it goes by."""
        return self.name

    def extra_repr(self) -> str:
        """Its name."""
        return self.name

    def forward(self, *inputs: Any, **batch: Any) -> Tensor:
        """Its value on a batch: one finite number that the gradient can follow."""
        self.calls += 1
        try:
            value = self.loss(*inputs, **batch)
        except Exception as error:  # whatever a loss of the user's raises
            if isinstance(error, TypeError) and not fits(self.loss, len(inputs), batch):
                raise self._failure(
                    f"{call_text(len(inputs), batch)} does not fit it ({error})"
                ) from error
            raise self._failure(f"it fails: {what_failed(error)}") from error
        if not isinstance(value, Tensor):
            raise self._failure(f"it returned {type(value).__name__}, not a tensor")
        if value.numel() != 1:
            raise self._failure(
                f"it returned a tensor of shape {tuple(value.shape)}, and training needs one "
                "number: return its mean"
            )
        if not value.requires_grad:
            raise self._failure(
                "its value does not depend on the predictions in a way that a gradient can follow "
                "(detach, item, argmax, or the target alone?)"
            )
        if not bool(value.detach().isfinite()):
            raise self._failure(
                f"it returned {float(value.detach())} at step {self.calls}, {_blame(inputs)}"
            )
        return value.reshape(())

    def _failure(self, what: str) -> LossError:
        return LossError(f"{self.name}: {what}. Try: {advice(self.home, self.spec.inputs[0])}")


def advice(home: str, feed: Inputs) -> str:
    """The command that says more."""
    if ":" not in home:
        return f"lossmith.check.check_loss({home}, inputs={feed!r})"
    return f"lossmith check {home} --inputs {feed!r}"


def _blame(inputs: tuple[Any, ...]) -> str:
    first = inputs[0] if inputs else None
    if isinstance(first, Tensor) and not bool(first.detach().isfinite().all()):
        return "on predictions that were not finite either: a smaller learning rate may help"
    return "on finite predictions"


def own_objective(
    text: str, feeds: Mapping[Inputs, str], given: str, usual: Inputs, family: str
) -> Objective:
    """The loss that a text names, called as its ``inputs`` say.

    What it is called with: the setting ``inputs``, else its attribute of that name, else what is
    ``usual`` in the family. An objective of the registry that was lent under a name is itself.
    """
    found = own(text)
    if isinstance(found.value, Objective):
        made: Objective = found.made()
        return made
    said = getattr(found.value, "inputs", None)
    feed = given or (said if isinstance(said, str) else usual)
    if feed not in feeds:
        raise ValueError(
            f"{text}: the {family} task has no inputs {feed!r}.{did_you_mean(feed, feeds)}"
        )
    objective = OwnObjective(found, feed, family)  # type: ignore[arg-type]  # checked above
    _check_signature(objective, feeds[feed])  # type: ignore[index]
    return objective


def _check_signature(objective: OwnObjective, shown: str) -> None:
    """Raise unless it can be called as the line of the feed shows."""
    count, keywords = shown_call(shown)
    if not fits(objective.loss, count, dict.fromkeys(keywords)):
        wanted = list(parameters_of(objective.loss))
        hint = ""
        if "mask" in keywords and "mask" not in wanted:
            hint = " Give it an argument mask=None: True is real, and the rest must cost nothing."
        raise ValueError(
            f"{objective.name}({', '.join(wanted)}) cannot be called as {shown.split('  #')[0]}."
            f"{hint} Or say what it is called with: --set inputs=... (in Python, inputs=...)."
        )


def shown_call(shown: str) -> tuple[int, list[str]]:
    """How many tensors and which keywords a feed's line gives to the objective.

    >>> shown_call("objective(scores, relevance, mask=mask)  # [B, n]")
    (2, ['mask'])
    """
    for node in ast.walk(ast.parse(shown)):
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "objective":
            return len(node.args), [str(keyword.arg) for keyword in node.keywords]
    raise ValueError(f"{shown!r} shows no call of the objective.")


def fits(function: Any, count: int, keywords: Mapping[str, Any]) -> bool:
    """Whether something can be called with so many tensors and these keywords."""
    target = function.forward if isinstance(function, nn.Module) else function
    try:
        inspect.signature(target).bind(*[None] * count, **keywords)
    except TypeError:
        return False
    except ValueError:  # written in C, without a signature
        return True
    return True


def call_text(count: int, keywords: Mapping[str, Any]) -> str:
    """A call in words: "a call with 2 tensors and mask"."""
    listed = " and ".join(keywords)
    return f"a call with {count} tensors{f' and {listed}' if listed else ''}"


def _spec(found: Own, loss: Any, feed: Inputs, family: str) -> Spec:
    return Spec(
        name=found.text,
        function=loss,
        module_name=found.home.rpartition(":")[2],
        family=family,
        inputs=(feed,),
        unit="what it divides by itself",
        serves="what its author cares about",
        limit="",
        paper="",
    )
