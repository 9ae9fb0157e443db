"""The public sets, where a copy lies beside the repository; nothing here is needed elsewhere."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from lossmith.data.errors import DataError
from lossmith.data.interactions import read_interactions, split_interactions
from lossmith.data.keywords import Term, read_glossary
from lossmith.data.lists import read_ranking, split_ranking
from lossmith.data.numbers import read_numbers
from lossmith.data.parallel import read_parallel
from lossmith.data.text import TextData, read_text
from lossmith.metrics.ranking import average_precision, ndcg
from lossmith.tasks.ranking import PaddedLists

SETS = Path(__file__).resolve().parents[2].parent / "shared" / "data"


def public(name: str) -> Path:
    path = SETS / name
    if not path.exists():
        pytest.skip(f"no copy of this public set at ../shared/data/{name}")
    return path


def sizes(data) -> dict[str, int]:
    return {part: len(rows) for part, rows in data.parts.items()}


def test_imdb_has_its_official_parts() -> None:
    data = read_text(public("imdb"), "classification")
    assert sizes(data) == {"train": 25_000, "test": 25_000}
    assert data.classes == ("0", "1")
    for part in data.parts.values():
        assert np.bincount(part.labels).tolist() == [12_500, 12_500]


def test_stack_overflow_titles_have_a_hundred_tags() -> None:
    data = read_text(public("stackoverflow_titles_tags/validation.tsv"), "tagging")
    assert sizes(data) == {"train": 30_000}
    assert len(data.classes) == 100
    labels = data.parts["train"].labels
    assert labels.min() == 0 and labels.sum(axis=1).min() == 1 and labels.sum(axis=1).max() == 5
    assert data.parts["train"].texts[2] == ('Content-Type "application/json" not required in rails')


def test_goemotions_has_no_header_and_is_told_what_to_do() -> None:
    with pytest.raises(DataError, match="put a line above it that names the columns"):
        read_text(public("goemotions"), "tagging")


def test_lastfm_has_its_published_counts() -> None:
    data = read_interactions(public("lastfm_hetrec"))
    assert (len(data.parts["train"]), data.users, data.items) == (92_834, 1_892, 17_632)


def test_gowalla_has_its_published_counts() -> None:
    data = read_interactions(public("gowalla"))
    assert sizes(data) == {"train": 719_081, "valid": 91_047, "test": 217_242}
    assert (data.users, data.items) == (29_858, 40_981)
    assert (data.user_ids[0], data.item_ids[0]) == ("343", "8975")
    assert sizes(split_interactions(data, valid=0)) == {"train": 810_128, "test": 217_242}


def test_mq2008_has_its_published_counts_in_every_fold() -> None:
    for fold in range(1, 6):
        data = read_ranking(public("mq2008"), fold=fold)
        assert len(data.features) == 46
        assert sum(map(len, data.parts.values())) == 784
        assert sum(len(lists.relevance) for lists in data.parts.values()) == 15_211
        assert split_ranking(data).parts.keys() == {"train", "valid", "test"}
    first = read_ranking(public("mq2008"))
    assert [len(lists.relevance) for lists in first.parts.values()] == [9_630, 2_707, 2_874]


def test_the_best_single_feature_of_mq2008_scores_what_was_found_elsewhere() -> None:
    data = read_ranking(public("mq2008"))
    values: dict[str, list[torch.Tensor]] = {"map": [], "ndcg": []}
    for lists in data.parts.values():
        part = PaddedLists(lists, torch.from_numpy(lists.features), seed=0)
        features, relevance, mask = part.padded(torch.arange(len(part)))
        scores = features[..., data.features.index("39")]
        values["map"].append(average_precision(scores, relevance, mask))
        values["ndcg"].append(ndcg(scores, relevance, mask, k=10))
    every = {name: torch.cat(found) for name, found in values.items()}
    assert int(every["map"].isnan().sum()) == 220  # lists without a relevant document
    # Elsewhere these count 0; left out, as we do, nDCG@10 is 0.689.
    assert every["map"].nan_to_num(0).mean().item() == pytest.approx(0.4712, abs=2e-3)
    assert every["ndcg"].nan_to_num(0).mean().item() == pytest.approx(0.4955, abs=2e-3)


def test_lightgbms_example_has_its_lists() -> None:
    data = read_ranking(public("lightgbm_rank"))
    assert sizes(data) == {"train": 201, "test": 50}
    assert data.parts["train"].features.shape == (3_005, 300)


def test_imdb_has_stars_too() -> None:
    data = read_numbers(public("imdb"))
    assert isinstance(data, TextData)
    assert sizes(data) == {"train": 25_000, "test": 25_000}
    for part in data.parts.values():
        assert set(np.unique(part.labels).tolist()) == {1, 2, 3, 4, 7, 8, 9, 10}


def test_the_python_documentation_has_its_counts_and_its_glossary() -> None:
    data = read_parallel(public("python_docs_l10n/en-fr.jsonl"))
    assert sizes(data) == {"train": 24_789}
    terms = read_glossary(public("python_docs_l10n/glossary.fr.po"))
    assert Term("garbage collection", "ramasse-miettes") in terms and len(terms) > 100


def test_multi30k_has_its_published_counts() -> None:
    data = read_parallel(public("multi30k/task1_raw"), source="en", target="de")
    assert sizes(data) == {"train": 29_000, "valid": 1_014, "test": 1_000}
