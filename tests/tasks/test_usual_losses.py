"""What is compared where no losses are named depends on what the data has."""

from __future__ import annotations

import pytest

from lossmith.compare.study import prepare
from lossmith.tasks.inspection import look


def table(path, header, *rows):
    path.write_text("\n".join([header, *rows]) + "\n")
    return str(path)


def losses(family, data, folder, **settings):
    asked = {"seeds": 2, "out": str(folder), "settings": settings}
    return [arm.loss for arm in prepare(family, data, None, **asked).plan.arms]


@pytest.mark.parametrize(
    ("classes", "usual"),
    [
        (2, ["binary_cross_entropy", "margin_binary_cross_entropy", "hinge"]),
        (3, ["cross_entropy", "binary_cross_entropy", "margin_binary_cross_entropy"]),
    ],
)
def test_the_softmax_is_among_the_losses_of_more_than_two_classes(classes, usual, tmp_path):
    rows = [f"text {row},c{row % classes}" for row in range(30)]
    data = table(tmp_path / "data.csv", "text,label", *rows)
    assert losses("classification", data, tmp_path / "run") == usual
    (fit,) = look(data, "classification").fits
    assert f"--losses {','.join(usual)}" in fit.command


def test_losses_of_observed_labels_are_compared_where_some_are_missing(tmp_path):
    whole = [f"text {row},{row % 2},{row // 2 % 2}" for row in range(30)]
    known = table(tmp_path / "known.csv", "text,a,b", *whole)
    gaps = table(tmp_path / "gaps.csv", "text,a,b", *whole, *(f"more {row},1," for row in range(9)))
    usual = ["binary_cross_entropy", "pairwise_auc"]
    with_missing = ["masked_binary_cross_entropy", *usual]
    assert losses("tagging", known, tmp_path / "1") == usual
    assert losses("tagging", gaps, tmp_path / "2") == with_missing
    assert losses("tagging", known, tmp_path / "3", observed="1") == with_missing
    (fit,) = look(gaps, "tagging").fits
    assert f"--losses {','.join(with_missing)}" in fit.command
