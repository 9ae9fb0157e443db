"""What the recommendation task reads: interactions, or texts with items, and features of both."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

from torch import Tensor

from lossmith.data.embedded import embedded
from lossmith.data.files import fingerprint
from lossmith.data.interactions import InteractionData, read_interactions, split_interactions
from lossmith.data.side_features import SideFeatures, read_side_features
from lossmith.data.text_items import (
    TextItemsData,
    is_of_users,
    is_text_items,
    read_text_items,
    split_text_items,
)
from lossmith.tasks.hf import is_hf
from lossmith.tasks.task import Description, describe_split
from lossmith.tasks.text import Encoding, Split, encode_texts, encoding_of, split_of
from lossmith.tasks.text_encoder import TextEncoder

TEXT_MODELS = ("tagspace", "bag")
USER_MODELS = ("factorization",)


@dataclass(frozen=True)
class Texts:
    """The texts that stand for users: token ids ``[users, L]``."""

    ids: Tensor
    vocabulary: int
    encoder: TextEncoder | None = None  # None: the ids were made otherwise, as in tests


@dataclass(frozen=True, eq=False)
class Loaded:
    """Everything that a problem is made of."""

    data: InteractionData
    description: Description
    texts: Texts | None = None
    features: Mapping[str, SideFeatures] = field(default_factory=dict)  # "user", "item"


# user, item, value, minimum, text, model; user_features, item_features.
Roles = tuple[str, str, str, float | None, str, str]
Files = tuple[str, str]


def load(data: str, settings: Mapping[str, Any]) -> Loaded:
    """Read, split and encode; once per process for the same data and settings."""
    roles = tuple(settings[key] for key in ("user", "item", "value", "minimum", "text", "model"))
    files = (settings["user_features"], settings["item_features"])
    return _load(data, roles, files, split_of(settings), encoding_of(settings))


@lru_cache(maxsize=4)
def _load(data: str, roles: Roles, files: Files, split: Split, encoding: Encoding) -> Loaded:
    user, item, value, minimum, text, model = roles
    if data != "embedded" and _has_texts(data, user, text, model):
        if any(files):
            raise ValueError(
                "user_features and item_features are for matrix factorisation of users and items; "
                f"{data} is read as texts with items."
            )
        return _load_texts(read_text_items(data, text=text or None, item=item or None), split,
                           encoding)  # fmt: skip
    if text or reads_texts(model):
        given = f"text={text}" if text else f"model={model}"
        raise ValueError(f"{given} reads texts, and the embedded data has users and items.")
    if data == "embedded":
        found = embedded("recommendation")
        assert isinstance(found, InteractionData)
        source = found
    else:
        source = read_interactions(
            data, user=user or None, item=item or None, value=value or None, minimum=minimum
        )
    return _load_interactions(source, split, dict(zip(("user", "item"), files, strict=True)), roles)


def reads_texts(model: str) -> bool:
    """Whether a model has texts where others have users.

    >>> reads_texts("tagspace"), reads_texts("hf:encoder"), reads_texts("auto")
    (True, True, False)
    """
    return model in TEXT_MODELS or is_hf(model)


def _has_texts(data: str, user: str, text: str, model: str) -> bool:
    """Whether the rows are texts, by the settings or else by the names of the columns."""
    if user and (text or reads_texts(model)):
        raise ValueError(
            f"user={user} and {f'text={text}' if text else f'model={model}'} do not go together: "
            "a row is a user with an item, or a text with its items."
        )
    if is_hf(model) and not text and is_of_users(data):
        raise ValueError(
            f"model={model} reads texts, and {data} has users and items, which are numbers to it. "
            "Leave the model out, give what is known of them with --set item_features=FILE, or "
            "name a column of texts: --text NAME (in Python, text='NAME')."
        )
    texts = reads_texts(model) or is_text_items(data, text=text or None, user=user or None)
    if texts and model in USER_MODELS:
        raise ValueError(
            f"model={model} needs users, and {data} is read as texts with items. Leave the model "
            f"out, take one of {', '.join(TEXT_MODELS)}, or name the column of users: user=NAME."
        )
    return texts


def _load_texts(source: TextItemsData, split: Split, encoding: Encoding) -> Loaded:
    test, valid, seed = split
    whole = split_text_items(source, test=test, valid=valid, seed=seed)
    ids, encoder = encode_texts(whole.parts["train"].texts, whole.texts(), encoding)
    data = whole.interactions()
    description = Description(
        name=whole.name,
        rows={name: len(part) for name, part in whole.parts.items()},
        notes=(*whole.notes, "Every item of the catalogue is ranked for each text."),
        fingerprint=data.fingerprint,
        split=describe_split(source.parts, whole.parts, seed),
        facts={"items": data.items, "vocabulary": encoder.vocabulary},
    )
    return Loaded(data, description, Texts(ids, encoder.vocabulary, encoder))


def _load_interactions(
    source: InteractionData, split: Split, files: Mapping[str, str], roles: Roles
) -> Loaded:
    test, valid, seed = split
    whole = split_interactions(source, test=test, valid=valid, seed=seed)
    names = {"user": (whole.user_ids, roles[0]), "item": (whole.item_ids, roles[1])}
    features = {
        side: read_side_features(file, side, names[side][0], column=names[side][1] or None)
        for side, file in files.items()
        if file
    }
    notes = [note for each in features.values() for note in each.notes]
    description = Description(
        name=whole.name,
        rows={name: len(part.users) for name, part in whole.parts.items()},
        notes=(*whole.notes, *notes),
        fingerprint=whole.fingerprint,
        split=describe_split(source.parts, whole.parts, seed),
        facts={"users": whole.users, "items": whole.items},
    )
    if not features:
        return Loaded(whole, description)
    content = [whole.fingerprint, *(each.fingerprint for each in features.values())]
    facts = {f"{side} features": len(each.names) for side, each in features.items()}
    return Loaded(
        whole,
        replace(
            description,
            fingerprint=fingerprint(content),
            facts={**description.facts, **facts},
        ),
        features=features,
    )
