"""A few rows of data for every family, in folders with a file for each part."""

from __future__ import annotations

import csv
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lossmith.tasks.registry import load_task

SIZES = {"train": 60, "valid": 20, "test": 24}


def write(path: Path, rows: list[dict[str, Any]]) -> None:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def texts(draw: random.Random) -> dict[str, Any]:
    words = draw.choices(["the", "of", "and", "to", "red", "green"], k=draw.randint(3, 9))
    return {"text": " ".join(words), "red": words.count("red"), "green": words.count("green")}


def three_classes(draw: random.Random, i: int) -> dict[str, Any]:
    row = texts(draw)
    return {"text": row["text"], "label": "abc"[min(2, row["red"])]}


def tags(draw: random.Random, i: int) -> dict[str, Any]:
    row = texts(draw)
    found = [name for name in ("red", "green") if row[name]]
    return {"text": row["text"], "labels": str(found)}


def states(draw: random.Random, i: int) -> dict[str, Any]:
    """A column for each label, some of them blank."""
    row = texts(draw)
    cells = {f"is_{name}": int(row[name] > 0) for name in ("red", "green")}
    return {"text": row["text"], **{k: v if draw.random() < 0.7 else "" for k, v in cells.items()}}


def numbers_of_texts(draw: random.Random, i: int) -> dict[str, Any]:
    row = texts(draw)
    return {"text": row["text"], "target": 100 + 3 * row["red"]}


def numbers(draw: random.Random, i: int) -> dict[str, Any]:
    rooms, area = draw.randint(1, 6), draw.randint(30, 150)
    return {"rooms": rooms, "area": area if i % 7 else "", "price": 20 * rooms + area}


def candidates(draw: random.Random, i: int) -> dict[str, Any]:
    grade = draw.choice((0, 0, 1, 2))
    return {"query": f"q{i // 4}", "relevance": grade, "f1": grade + draw.gauss(0, 0.5), "f2": i}


def pairs(draw: random.Random, i: int) -> dict[str, Any]:
    words = draw.sample(["list", "tuple", "set", "os.path", "dict", "integer"], draw.randint(2, 4))
    return {"source": " ".join([*words, f"w{i}x"]), "target": " ".join([f"w{i}x", *words[::-1]])}


def titles(draw: random.Random, i: int) -> dict[str, Any]:
    row = texts(draw)
    items = [name for name in ("red", "green") if row[name]] or ["none"]
    return {"title": f"{row['text']} n{i}", "tags": str(items)}


def questions(draw: random.Random, i: int) -> dict[str, Any]:
    words = draw.sample(["list", "tuple", "set", "path", "dict", "integer"], 3)
    number = draw.randint(0, 10**6)  # a query is asked in one part alone
    return {"query": f"{words[0]} q{number}", "positive": " ".join([*words, f"d{i % 9}"])}


def ratings(folder: Path) -> None:
    draw = random.Random(5)
    rows: dict[str, list[dict[str, Any]]] = {part: [] for part in SIZES}
    for user in range(20):
        items = draw.sample(range(15), 8)
        for part, some in (("train", items[:4]), ("valid", items[4:6]), ("test", items[6:])):
            rows[part] += [{"user": f"u{user}", "item": f"i{item}"} for item in some]
    for part, some in rows.items():
        write(folder / f"{part}.csv", some)


Row = Callable[[random.Random, int], dict[str, Any]]
SMALL = {"epochs": 2, "dimension": 8, "hidden": 8, "batch_size": 16, "learning_rate": 0.03}
CASES: dict[str, tuple[str, str, dict[str, Any], Row | None]] = {
    "classes": ("classification", "cross_entropy", {"model": "cnn", "filters": 4}, three_classes),
    "each class": ("classification", "binary_cross_entropy", {}, three_classes),
    "tags": ("tagging", "binary_cross_entropy", {}, tags),
    "columns": ("tagging", "masked_binary_cross_entropy", {"model": "separate"}, states),
    "texts": ("regression", "huber", {"model": "lstm"}, numbers_of_texts),
    "features": ("regression", "absolute_error", {}, numbers),
    "lists": ("ranking", "listnet", {"model": "attention"}, candidates),
    "users": ("recommendation", "bpr", {}, None),
    "items": ("recommendation", "warp", {"text": "title", "item": "tags"}, titles),
    "search": ("retrieval", "info_nce", {"length": 8, "size": 8}, questions),
    "seq2seq": ("generation", "cross_entropy", {"beams": 2, "epochs": 1}, pairs),
}


def prepare(name: str, folder: Path) -> tuple[str, str, dict[str, Any]]:
    """Write the data of a case; its family, its loss and the settings that it is trained with."""
    family, loss, settings, row = CASES[name]
    if row is None:
        ratings(folder)
    else:
        draw = random.Random(1)
        for part, size in SIZES.items():
            write(folder / f"{part}.csv", [row(draw, i) for i in range(size)])
    known = load_task(family).settings
    return family, loss, {**{k: v for k, v in SMALL.items() if k in known}, **settings}
