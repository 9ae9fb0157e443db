from __future__ import annotations

import pytest
import torch

from lossmith.tasks.tagging import MISSING, hide_labels
from tasks import tiny

ROWS, CLASSES = 6000, 5


@pytest.fixture
def labels():
    generator = torch.Generator().manual_seed(12345)  # not one that hides
    return (torch.rand(ROWS, CLASSES, generator=generator) < 0.3).float()


def seen(labels, observed, seed=0):
    hidden = hide_labels(labels, observed, seed)
    visible = hidden != MISSING
    assert torch.equal(hidden[visible], labels[visible]), "what is left is unchanged"
    return visible


def near(share, expected, count):
    """Within five standard errors of a share."""
    return abs(share - expected) < 5 * (expected * (1 - expected) / count) ** 0.5


def test_all_changes_nothing(labels):
    assert torch.equal(hide_labels(labels, "all", 0), labels)


@pytest.mark.parametrize("count", [1, 2, 5, 9])
def test_a_count_is_left_in_each_row_and_every_cell_as_often(labels, count):
    visible = seen(labels, str(count))
    left = min(count, CLASSES)
    assert (visible.sum(dim=1) == left).all()
    for share in visible.double().mean(dim=0).tolist():
        assert share == 1 if left == CLASSES else near(share, left / CLASSES, ROWS)


def test_balanced_leaves_a_positive_half_the_time_and_else_any_cell(labels):
    hidden = hide_labels(labels, "1-balanced", 0)
    assert ((hidden != MISSING).sum(dim=1) == 1).all()
    positive = (hidden == 1).any(dim=1)
    for k in range(CLASSES):
        rows = labels.sum(dim=1) == k
        expected = 0.5 + 0.5 * k / CLASSES if k else 0.0
        share = positive[rows].double().mean().item()
        assert share == 0 if k == 0 else near(share, expected, int(rows.sum()))


@pytest.mark.parametrize("observed", ["1", "2", "1-balanced"])
def test_cells_that_were_missing_stay_so_and_are_not_counted_as_left(labels, observed):
    absent = torch.rand(labels.shape, generator=torch.Generator().manual_seed(1)) < 0.6
    there = ~absent
    visible = seen(torch.where(absent, MISSING, labels), observed)
    assert not visible[absent].any()
    wanted = torch.tensor(int(observed[0])).minimum(there.sum(dim=1))
    assert torch.equal(visible.sum(dim=1), wanted)
    assert (wanted == 0).any() and (wanted == int(observed[0])).any()


@pytest.mark.parametrize("observed", ["1", "2", "1-balanced"])
def test_which_cells_are_left_depends_on_the_seed_alone(labels, observed):
    torch.manual_seed(1)
    first = hide_labels(labels, observed, seed=7)
    torch.manual_seed(2)
    assert torch.equal(hide_labels(labels, observed, seed=7), first)
    assert not torch.equal(hide_labels(labels, observed, seed=8), first)


def test_a_training_sees_the_same_cells_in_every_epoch():
    problem = tiny.tagging()
    settings = tiny.settings("tagging", observed=1)

    def rows(seed, epoch):
        return {
            (tuple(ids.tolist()), tuple(labels.tolist()))
            for batch in problem.batches(settings, seed, epoch)
            for ids, labels in zip(*batch, strict=True)
        }

    assert rows(0, 1) == rows(0, 2) != rows(1, 1)
    assert all(sum(label != MISSING for label in labels) <= 1 for _, labels in rows(0, 1))


def test_the_test_part_keeps_its_labels():
    problem = tiny.tagging()
    before = problem.tensors.labels["test"].clone()
    list(problem.batches(tiny.settings("tagging", observed=1), 0, 1))
    assert torch.equal(problem.tensors.labels["test"], before)
