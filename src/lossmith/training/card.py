"""The card of a model folder: what a person has to know who finds the folder in a year."""

from __future__ import annotations

import inspect
import math
import re
import shlex
from collections.abc import Mapping
from typing import Any

from lossmith.core.own import HF, is_own
from lossmith.core.spec import Spec, parse
from lossmith.tasks.task import Description

TEXT_ITEMS = "recommendation for texts"
# What to type at "predict", by the family's input.
SAYS = {
    "classification": "the likeliest class of each text, with its probability",
    "tagging": "the labels of each text, with the probability of every label",
    "regression": "a number for each example",
    "generation": "a text for each source",
    "ranking": "the score and the rank of each item in its list",
    "recommendation": "the best items for each user, those they have taken left out",
    TEXT_ITEMS: "the best items for each text",
    "retrieval": "the best documents for each query",
}


def formula(spec: Spec) -> str:
    """The paragraph of an objective's docstring that states its formula.

    >>> from lossmith.core.spec import find
    >>> formula(find("bpr"))
    '``softplus(-(p - n)) = -log sigmoid(p - n)``.'
    """
    found = re.search(r"Formula: (.*?)(\n\n|$)", inspect.getdoc(spec.function) or "", re.DOTALL)
    return " ".join(found.group(1).split()) if found else ""


def _loss(loss: str) -> list[str]:
    """What was trained for, in the words of the registry; of one's own loss, its name."""
    if is_own(loss):
        return [f"`{loss}`, a loss of the user's own.", ""]
    spec, _ = parse(loss)
    return [
        f"`{loss}`: {spec.summary}",
        "",
        f"Formula: {formula(spec)}",
        "",
        f"Source: {spec.paper}.",
        "",
    ]


def card(
    folder_name: str,
    config: Mapping[str, Any],
    description: Description,
    metrics: Mapping[str, Any],
) -> str:
    """The card as Markdown."""
    family = config["family"]
    rows = ", ".join(f"{part} {count:,}" for part, count in description.rows.items())
    changed = {key: value for key, value in config["settings"].items() if value not in ("", None)}
    title = f"{family} by {config['settings']['model']}, trained for {config['loss']}"
    chosen = metrics["chosen_epoch"]
    judged = "the best on validation data" if metrics["valid"] else "the last: no validation data"
    lines = [
        f"# {title[0].upper()}{title[1:]}",
        "",
        f"Says {SAYS[TEXT_ITEMS if _has_texts(family, description) else family]}.",
        "",
        "## Data",
        "",
        f"{description.name}: {rows} rows ({description.split}). Fingerprint of the content: "
        f"`{description.fingerprint}`.",
        "",
        *(f"- {note}" for note in description.notes),
        "",
        "## Loss",
        "",
        *_loss(config["loss"]),
        "## Metrics",
        "",
        f"Epoch {chosen} of {metrics['epochs_trained']}, {judged}; seed {config['seed']}.",
        "",
        "| metric | part | value |",
        "| --- | --- | --- |",
        *_rows("valid", metrics["valid"]),
        *_rows("test", metrics["test"]),
        "",
        "One training with one seed: how much another seed would change, it does not say; "
        "`lossmith compare` does.",
        "",
        "## Use",
        "",
        "```",
        f"lossmith predict {shlex.quote(folder_name)} INPUT",
        f"lossmith evaluate {shlex.quote(folder_name)} DATA",
        "```",
        "",
        "## Limits",
        "",
        *(f"- {limit}" for limit in _limits(config, description, metrics)),
        "",
        "## Made with",
        "",
        *(f"- {name} {version}" for name, version in config["versions"].items()),
        *(f"- the code of {text}, hash {digest}" for text, digest in config["code"].items()),
        f"- settings: {', '.join(f'{key}={value}' for key, value in changed.items())}",
        "",
    ]
    return "\n".join(lines)


def _rows(part: str, values: Mapping[str, float | None]) -> list[str]:
    return [
        f"| {name} | {part} | {'none' if value is None else f'{value:.4f}'} |"
        for name, value in values.items()
        if value is None or not math.isnan(value)
    ]


def _has_texts(family: str, description: Description) -> bool:
    """Whether items are recommended for texts, and nobody has taken any."""
    return family == "recommendation" and "users" not in description.facts


def _limits(
    config: Mapping[str, Any], description: Description, metrics: Mapping[str, Any]
) -> list[str]:
    family, loss = config["family"], config["loss"]
    limits = ["It knows what its training data showed, and nothing says how it does on other data."]
    if family in ("classification", "tagging"):
        serves = "" if is_own(loss) else f", which serves {parse(loss)[0].serves}"
        limits.append(
            f"Its probabilities are those of {loss}{serves}: look at calibration or log loss "
            "before you rely on them, or set a threshold of your own."
        )
    if str(config["settings"]["model"]).startswith(HF):
        limits.append("It needs the folder of its pretrained encoder, which is not copied here.")
    if family == "retrieval":
        limits.append("`corpus.json` holds every document: share the folder as you would these.")
    if _has_texts(family, description):
        limits.append("It knows the items of its training data alone.")
    elif family == "recommendation":
        limits.append("It knows the users and items of its training data alone.")
        limits.append(
            "`taken.safetensors` and `ids.json` say who has taken what: share the folder as you "
            "would share that."
        )
    if family != "recommendation" or _has_texts(family, description):
        limits.append(
            "`seen.safetensors` holds a hash of each input of the training: whoever has an input "
            "can ask whether it was among them."
        )
    if family == "generation":
        limits.append("It may say what the source does not: let a person read what matters.")
    if not metrics["valid"]:
        limits.append("No validation data chose the epoch.")
    return limits
