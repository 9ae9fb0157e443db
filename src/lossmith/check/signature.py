"""Which argument of a loss is what: named kinds, descriptions, and guesses from parameter names.

A description is a list of roles: ``"class, logits"`` says which argument comes where, and
``"logits=input, class=target"`` which keyword each role has. The roles of a list together say the
kind. A role may be told how the values arrive: ``probabilities`` and ``log-probabilities`` stand
for logits that went through sigmoid or softmax first.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from lossmith.check.examples import EXAMPLES
from lossmith.core.words import FAMILIES, did_you_mean

# The roles of each kind: its predictions, then its labels, in the order of the example.
ROLES: dict[str, tuple[str, ...]] = {
    "logits+class": ("logits", "class"),
    "logits+distribution": ("logits", "distribution"),
    "logits+binary": ("logits", "binary"),
    "logits+partial": ("logits", "partial"),
    "prediction+number": ("prediction", "number"),
    "pair+same": ("x1", "x2", "same"),
    "triplet": ("anchor", "positive", "negative"),
    "queries+positives": ("queries", "positives"),
    "two views": ("view1", "view2"),
    "scores+relevance": ("scores", "relevance"),
    "positive+negative": ("positive", "negative"),
    "positive+draws": ("positive", "draws"),
    "positive+catalogue": ("positive", "catalogue"),
    "logits+keywords": ("logits", "keywords"),
    "logits+marked": ("logits", "class", "marked"),
    "logits+keywords+marked": ("logits", "class", "keywords", "marked"),
    "embeddings+labels": ("embeddings", "labels"),
    "pair+sign": ("x1", "x2", "sign"),
    "distance+sign": ("distance", "sign"),
    "two scores+sign": ("score1", "score2", "sign"),
}
FORMS = ("probabilities", "log-probabilities")  # of logits
OPTIONAL = ("mask", "weight")

# What a pair of unnamed arguments most likely is.
DEFAULT_KIND = {
    "classification": "logits+class",
    "tagging": "logits+binary",
    "regression": "prediction+number",
    "generation": "logits+class",
    "retrieval": "queries+positives",
    "ranking": "scores+relevance",
    "recommendation": "positive+negative",
}
FAMILY_OF = {
    "logits+class": "classification",
    "logits+distribution": "classification",
    "logits+binary": "tagging",
    "logits+partial": "tagging",
    "prediction+number": "regression",
    "scores+relevance": "ranking",
    "two scores+sign": "ranking",
    "positive+negative": "recommendation",
    "positive+draws": "recommendation",
    "positive+catalogue": "recommendation",
    "logits+keywords": "generation",
    "logits+marked": "generation",
    "logits+keywords+marked": "generation",
}


@dataclass(frozen=True)
class Inputs:
    """How a loss is fed."""

    kind: str
    order: tuple[str, ...] = ()  # roles by position
    keywords: Mapping[str, str] = field(default_factory=dict)  # role -> parameter
    form: str = "logits"  # or one of FORMS


def roles_of(kind: str) -> tuple[str, ...]:
    """The roles of a kind; one that is not in the table has its own words."""
    return ROLES.get(kind, tuple(kind.split("+")))


def family_of(kind: str) -> str:
    """The family whose losses are fed so."""
    return FAMILY_OF.get(kind, "retrieval")


def check_family(family: str) -> None:
    """Raise, with a suggestion, for a family that is none."""
    if family not in FAMILIES:
        raise ValueError(f"{family!r} is not a family.{did_you_mean(family, FAMILIES)}")


def parse_inputs(text: str) -> Inputs:
    """Read a kind, or a description of which argument is what.

    >>> parse_inputs("scores+relevance").kind
    'scores+relevance'
    >>> parse_inputs("class, logits").order
    ('class', 'logits')
    >>> dict(parse_inputs("logits=input, class=target").keywords)
    {'logits': 'input', 'class': 'target'}
    >>> parse_inputs("logit, class")
    Traceback (most recent call last):
        ...
    ValueError: inputs 'logit, class': there is no role 'logit'. Did you mean 'logits'?
    """
    text = text.strip()
    if text in EXAMPLES:
        return Inputs(text)
    order, keywords, form = [], {}, "logits"
    known = {role for roles in ROLES.values() for role in roles} | {*FORMS, *OPTIONAL}
    for part in (part.strip() for part in text.split(",")):
        role, equals, parameter = (word.strip() for word in part.partition("="))
        if role not in known:
            near = did_you_mean(role, known | set(EXAMPLES))
            raise ValueError(f"inputs {text!r}: there is no role {role!r}.{near}")
        if role in FORMS:
            form, role = role, "logits"
        if role in order or role in keywords:
            raise ValueError(f"inputs {text!r}: {role} is given twice.")
        if equals:
            keywords[role] = parameter
        elif keywords:
            raise ValueError(f"inputs {text!r}: roles by position come before roles by name.")
        else:
            order.append(role)
    return Inputs(_kind_of(text, {*order, *keywords}), tuple(order), keywords, form)


def _kind_of(text: str, roles: set[str]) -> str:
    wanted = roles - set(OPTIONAL)
    for kind, needs in ROLES.items():
        if set(needs) == wanted:
            return kind
    near = [f"{', '.join(needs)}" for needs in ROLES.values() if wanted & set(needs)]
    raise ValueError(
        f"inputs {text!r}: no kind of inputs has just these roles. Expected one of: "
        f"{'; '.join(near or ROLES)}."
    )


# What the parameters of a kind are called, role by role, in lower case.
_WORDS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("triplet", ("anchor", "positive pos", "negative neg")),
    (
        "pair+same",
        ("x1 a left emb1 output1", "x2 b right emb2 output2", "same label labels y target"),
    ),
    ("embeddings+labels", ("embeddings embedding emb features", "labels label targets")),
    (
        "positive+negative",
        (
            "positive pos pos_score pos_scores positive_scores positive_predictions",
            "negative neg neg_score neg_scores negative_scores negative_predictions",
        ),
    ),
    ("positive+draws", ("positive pos", "negatives draws")),
    ("positive+catalogue", ("positive pos", "catalogue catalog items")),
    ("queries+positives", ("queries query q anchors", "positives positive docs keys k")),
    ("two views", ("z1 view1 z_i zis out_1", "z2 view2 z_j zjs out_2")),
    ("logits+marked", ("logits input", "target targets", "marked")),
    ("logits+keywords", ("logits input", "keywords")),
    ("logits+partial", ("logits input", "partial partial_labels")),
    ("scores+relevance", ("scores score y_pred", "relevance relevances grades y_true")),
)


def guess(parameters: Sequence[str], family: str | None) -> tuple[Inputs | None, str]:
    """The likeliest inputs for positional parameters of these names, and why."""
    names = [name.lower() for name in parameters]
    if names[:2] == ["y_true", "y_pred"] and family != "ranking":
        kind = DEFAULT_KIND[family or "classification"]
        first, second = roles_of(kind)
        return Inputs(kind, (second, first)), "the labels come first, as in Keras"
    for kind, words in _WORDS:
        if family is not None and kind == "pair+same" and family != "retrieval":
            continue
        if len(names) >= len(words) and all(
            name in options.split() for name, options in zip(names, words, strict=False)
        ):
            return Inputs(kind), "its parameters are called so"
    if family is not None:
        return Inputs(DEFAULT_KIND[family]), f"that is usual in {family}"
    return None, ""


def positional(function: object) -> list[inspect.Parameter]:
    """The parameters that are filled by position and have no default."""
    return [
        parameter
        for parameter in inspect.signature(function).parameters.values()  # type: ignore[arg-type]
        if parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD)
        and parameter.default is parameter.empty
    ]
