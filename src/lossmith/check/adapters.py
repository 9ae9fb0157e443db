"""How the losses of other libraries are fed, recognised without importing those libraries.

Each adapter looks at where a loss comes from and what it is called, and answers with a plan: the
kind of inputs, and how an example becomes a call. What a loss expects is its own convention
(probabilities, labels of 1 and -1, the labels first) and no defect.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from lossmith.check.examples import Example
from lossmith.check.signature import Inputs


@dataclass(frozen=True)
class Plan:
    """How a loss from elsewhere is used rightly."""

    inputs: Inputs
    labels: Callable[[Any], Any] = lambda label: label
    # Replaces the plain call: (loss, example, keywords) -> what the loss returns.
    feed: Callable[[Any, Example, Mapping[str, Any]], Any] | None = None
    args: Mapping[str, Any] = field(default_factory=dict)  # for a constructor that demands them
    row_weight: bool = False  # whether `weight` weighs rows (torch's weighs classes)
    note: str = ""


class Unfit(Exception):  # noqa: N818 - an answer, no error of the check
    """A known loss that this check has no example for; the message says why."""


def plan_for(loss: Any) -> Plan | None:
    """The plan of the first adapter that knows the loss."""
    kind = loss if inspect.isclass(loss) or inspect.isroutine(loss) else type(loss)
    name = getattr(kind, "__name__", "")
    homes = [base.__module__ for base in getattr(kind, "__mro__", ())] or [kind.__module__ or ""]
    for prefix, adapter in ADAPTERS.items():
        if any(home == prefix or home.startswith(f"{prefix}.") for home in homes[:1]):
            return adapter(name, loss)
    return None


def _sided(label: Tensor) -> Tensor:
    return 2.0 * label - 1.0


_TORCH: dict[str, Plan] = {
    "crossentropy": Plan(Inputs("logits+class")),
    "nll": Plan(Inputs("logits+class", form="log-probabilities")),
    "multimargin": Plan(Inputs("logits+class")),
    "bcewithlogits": Plan(Inputs("logits+binary")),
    "binarycrossentropywithlogits": Plan(Inputs("logits+binary")),
    "multilabelsoftmargin": Plan(Inputs("logits+binary")),
    "bce": Plan(Inputs("logits+binary", form="probabilities")),
    "binarycrossentropy": Plan(Inputs("logits+binary", form="probabilities")),
    "softmargin": Plan(Inputs("logits+binary"), labels=_sided),
    "kldiv": Plan(Inputs("logits+distribution", form="log-probabilities")),
    "mse": Plan(Inputs("prediction+number")),
    "l1": Plan(Inputs("prediction+number")),
    "smoothl1": Plan(Inputs("prediction+number")),
    "huber": Plan(Inputs("prediction+number")),
    "tripletmargin": Plan(Inputs("triplet")),
    "tripletmarginwithdistance": Plan(Inputs("triplet")),
    "marginranking": Plan(Inputs("two scores+sign")),
    "hingeembedding": Plan(Inputs("distance+sign")),
    "cosineembedding": Plan(Inputs("pair+sign")),
}


def _torch(name: str, loss: Any) -> Plan | None:
    plain = name.lower().replace("_", "").removesuffix("loss")
    if plain == "ctc":
        raise Unfit("CTC is fed with alignments of two lengths, which no kind of inputs describes")
    return _TORCH.get(plain)


def _metric_learning(name: str, loss: Any) -> Plan:
    args = _demanded(loss, {"num_classes": 3, "embedding_size": 8})
    return Plan(Inputs("embeddings+labels"), args=args)


def _demanded(loss: Any, values: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments without a default that a class has, of those that are known here."""
    if not inspect.isclass(loss):
        return {}
    parameters = inspect.signature(loss).parameters
    return {
        name: value
        for name, value in values.items()
        if name in parameters and parameters[name].default is inspect.Parameter.empty
    }


class StubModel(nn.Module):
    """Stands for a sentence encoder: what goes in as an embedding comes out as one."""

    def forward(self, features: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """The features themselves."""
        return features


_SENTENCE: tuple[tuple[str, str], ...] = (
    ("Batch", "embeddings+labels"),
    ("Triplet", "triplet"),
    ("Contrastive", "pair+same"),
    ("CosineSimilarity", "pair+same"),
    ("CoSENT", "pair+same"),
    ("AnglE", "pair+same"),
    ("", "queries+positives"),
)


def _sentence_transformers(name: str, loss: Any) -> Plan:
    if "Cached" in name:
        raise Unfit("a cached loss needs a real encoder, since it encodes the texts itself")
    kind = next(kind for word, kind in _SENTENCE if word in name)

    def feed(loss: Any, example: Example, more: Mapping[str, Any]) -> Any:
        labels = example.labels[0] if example.labels else None
        direct = getattr(loss, "compute_loss_from_embeddings", None)
        if direct is not None:
            return direct(list(example.predictions), labels, **more)
        return loss([{"sentence_embedding": p} for p in example.predictions], labels, **more)

    return Plan(Inputs(kind), feed=feed, args=_demanded(loss, {"model": StubModel()}))


def _keras(name: str, loss: Any) -> Plan:
    plain = name.lower().replace("_", "")
    form = "logits" if getattr(loss, "from_logits", False) else "probabilities"
    labels: Callable[[Any], Any] = lambda label: label  # noqa: E731 - the default of a field
    if plain.startswith("sparse"):
        kind = "logits+class"
    elif "binary" in plain:
        kind = "logits+binary"
    elif "categorical" in plain or "kl" in plain:
        kind = "logits+distribution"
    elif "hinge" in plain:
        kind, form, labels = "logits+binary", "logits", _sided
    else:
        kind, form = "prediction+number", "logits"

    def feed(loss: Any, example: Example, more: Mapping[str, Any]) -> Any:
        return loss(example.labels[0], example.predictions[0], **more)

    return Plan(Inputs(kind, form=form), labels=labels, feed=feed)


ADAPTERS: dict[str, Callable[[str, Any], Plan | None]] = {
    "torch": _torch,
    "pytorch_metric_learning": _metric_learning,
    "sentence_transformers": _sentence_transformers,
    "keras": _keras,
    "keras_core": _keras,
}
