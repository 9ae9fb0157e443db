"""Whether results fit ``schema.json``, by the part of JSON Schema that it uses."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

SCHEMA: Mapping[str, Any] = json.loads(Path(__file__).with_name("schema.json").read_text())

_TYPES: Mapping[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "number": (int, float),
    "integer": (int,),
    "null": (type(None),),
    "boolean": (bool,),
}


def misfits(value: Any, schema: Mapping[str, Any] = SCHEMA, place: str = "results") -> list[str]:
    """What does not fit, each with its place.

    >>> misfits([1, "2"], {"type": "array", "items": {"type": "integer"}})
    ["results[1]: '2' is not integer"]
    """
    return list(_misfits(value, schema, place))


def _misfits(value: Any, schema: Mapping[str, Any], place: str) -> Iterator[str]:
    if "$ref" in schema:
        schema = SCHEMA["$defs"][schema["$ref"].removeprefix("#/$defs/")]
    kinds = schema.get("type", [])
    kinds = [kinds] if isinstance(kinds, str) else kinds
    if kinds and not any(_is(value, kind) for kind in kinds):
        yield f"{place}: {value!r} is not {' or '.join(kinds)}"
    elif "const" in schema and value != schema["const"]:
        yield f"{place}: {value!r} is not {schema['const']!r}"
    elif isinstance(value, dict):
        yield from _object_misfits(value, schema, place)
    elif isinstance(value, list):
        for i, item in enumerate(value):
            yield from _misfits(item, schema.get("items", {}), f"{place}[{i}]")


def _object_misfits(
    value: Mapping[str, Any], schema: Mapping[str, Any], place: str
) -> Iterator[str]:
    known = schema.get("properties", {})
    rest = schema.get("additionalProperties", {})
    for name in schema.get("required", []):
        if name not in value:
            yield f"{place}: {name} is missing"
    for name, item in value.items():
        if name in known:
            yield from _misfits(item, known[name], f"{place}.{name}")
        elif rest is False:
            yield f"{place}: {name} is not known"
        else:
            yield from _misfits(item, rest, f"{place}.{name}")


def _is(value: Any, kind: str) -> bool:
    # In Python a bool is an int; in JSON it is not.
    return isinstance(value, _TYPES[kind]) and (kind == "boolean" or not isinstance(value, bool))
