import math

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score, f1_score, roc_auc_score

from lossmith.metrics.tagging import (
    auc_per_class,
    average_precision_per_class,
    macro_auc,
    macro_average_precision,
    macro_f1,
    micro_f1,
)

ALL = [macro_auc, macro_average_precision, macro_f1, micro_f1]
PER_CLASS = [auc_per_class, average_precision_per_class]


def random_case(seed, ties=True):
    """Logits, labels with missing cells, and one class each without a yes and without a no."""
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(50, 6, generator=generator, dtype=torch.float64)
    if ties:
        logits = logits.mul(2).round()
    labels = torch.randint(-1, 2, (50, 6), generator=generator)
    labels[:, 4] = torch.where(labels[:, 4] == 1, -1, labels[:, 4])
    labels[:, 5] = torch.where(labels[:, 5] == 0, -1, labels[:, 5])
    return logits, labels


def observed(logits, labels, c):
    seen = labels[:, c] != -1
    return labels[seen, c].numpy(), logits[seen, c].numpy()


@pytest.mark.parametrize("ties", [True, False])
@pytest.mark.parametrize("seed", range(8))
def test_each_class_equals_scikit_learn_on_its_observed_cells(seed, ties):
    logits, labels = random_case(seed, ties)
    auc, precision = auc_per_class(logits, labels), average_precision_per_class(logits, labels)
    for c in range(4):
        y, x = observed(logits, labels, c)
        assert auc[c].item() == pytest.approx(roc_auc_score(y, x), rel=1e-12)
        assert precision[c].item() == pytest.approx(average_precision_score(y, x), rel=1e-12)
    for values in (auc, precision):
        assert values[4:].isnan().all()
        assert not values[:4].isnan().any()
    assert macro_auc(logits, labels).item() == pytest.approx(auc[:4].mean().item(), rel=1e-12)
    expected = precision[:4].mean().item()
    assert macro_average_precision(logits, labels).item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("seed", range(8))
def test_f1_equals_scikit_learn_on_the_observed_cells(seed):
    logits, labels = random_case(seed)
    per_class = []
    for c in range(6):
        y, x = observed(logits, labels, c)
        per_class.append(f1_score(y, x > 0, zero_division=np.nan))
    assert macro_f1(logits, labels).item() == pytest.approx(np.nanmean(per_class), rel=1e-12)
    seen = labels != -1
    expected = f1_score(labels[seen].numpy(), (logits[seen] > 0).numpy())
    assert micro_f1(logits, labels).item() == pytest.approx(expected, rel=1e-12)


def test_auc_counts_a_tied_pair_as_one_half():
    logits = torch.tensor([[1.0], [1.0], [0.0], [2.0]])
    labels = torch.tensor([[1], [0], [0], [0]])
    assert auc_per_class(logits, labels).tolist() == [(1 / 2 + 1 + 0) / 3]
    assert auc_per_class(torch.zeros(4, 1), labels).tolist() == [1 / 2]


def test_neighbouring_numbers_are_not_a_tie():
    x = torch.tensor([0.0, 1.0, -1.0, 1e-45, 3e38])
    above = x.nextafter(torch.tensor(math.inf))
    logits = torch.stack([torch.stack([x, above]), torch.stack([above, x])], -1).flatten(1)
    labels = torch.tensor([[1], [0]]).expand(2, logits.shape[1])
    # Columns alternate: the yes just below the no, the yes just above it.
    assert auc_per_class(logits, labels).tolist() == [0.0, 1.0] * len(x)


def test_infinite_logits_keep_their_order():
    logits = torch.tensor([[math.inf, -math.inf], [0.0, 0.0], [-math.inf, math.inf]])
    labels = torch.tensor([[1, 1], [0, 0], [0, 0]])
    assert auc_per_class(logits, labels).tolist() == [1.0, 0.0]
    assert average_precision_per_class(logits, labels).tolist() == [1.0, 1 / 3]


def test_average_precision_puts_tied_cells_at_their_last_place():
    labels = torch.tensor([[1], [0], [0], [0]])
    assert average_precision_per_class(torch.zeros(4, 1), labels).tolist() == [1 / 4]


@pytest.mark.parametrize("function", ALL + PER_CLASS)
def test_what_a_missing_cell_holds_changes_nothing(function):
    logits, labels = random_case(0)
    spoiled = logits.clone()
    spoiled[labels == -1] = math.nan
    spoiled[0] = torch.where(labels[0] == -1, math.inf, logits[0])
    torch.testing.assert_close(
        function(spoiled, labels), function(logits, labels), rtol=0, atol=0, equal_nan=True
    )


@pytest.mark.parametrize("function", ALL + PER_CLASS)
def test_neither_the_order_of_examples_nor_the_type_of_labels_matters(function):
    logits, labels = random_case(1)
    order = torch.randperm(50, generator=torch.Generator().manual_seed(0))
    expected = function(logits, labels)
    for one in (function(logits[order], labels[order]), function(logits.float(), labels.float())):
        torch.testing.assert_close(one, expected, equal_nan=True)
        assert one.dtype == torch.float64


@pytest.mark.parametrize("function", ALL)
def test_nothing_observed_is_nan(function):
    assert function(torch.zeros(3, 2), torch.full((3, 2), -1)).isnan()
    assert function(torch.zeros(0, 2), torch.zeros(0, 2)).isnan()


def test_the_threshold_is_zero_and_zero_says_no():
    logits = torch.tensor([[0.0], [1e-30], [-1e-30]])
    labels = torch.tensor([[0], [1], [0]])
    assert micro_f1(logits, labels) == macro_f1(logits, labels) == 1


def test_a_class_with_nothing_to_find_counts_once_something_is_found_there():
    labels = torch.tensor([[1, 0], [0, 0]])
    assert macro_f1(torch.tensor([[1.0, -1.0], [-1.0, -1.0]]), labels) == 1
    assert macro_f1(torch.tensor([[1.0, 1.0], [-1.0, -1.0]]), labels) == 1 / 2


@pytest.mark.parametrize("function", ALL + PER_CLASS)
@pytest.mark.parametrize(
    ("logits", "labels", "message"),
    [
        (torch.zeros(3), torch.zeros(3), r"logits \(3,\) must be \[N, C\]"),
        (torch.zeros(3, 1), torch.zeros(3), r"logits \(3, 1\) and labels \(3,\)"),
        (torch.zeros(1, 2), torch.tensor([[0, 2]]), r"labels\[0, 1\] is 2; expected 0, 1 or -1"),
        (torch.zeros(1, 1), torch.tensor([[math.nan]]), r"labels\[0, 0\] is nan"),
        (torch.tensor([[math.nan]]), torch.tensor([[1]]), r"logits\[0, 0\] is nan; expected a num"),
    ],
)
def test_errors_say_what_was_wrong(function, logits, labels, message):
    with pytest.raises(ValueError, match=message):
        function(logits, labels)
