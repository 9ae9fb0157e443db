from __future__ import annotations

import itertools
import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lossmith.losses.tagging import masked_binary_cross_entropy

exp, log, nan = math.exp, math.log, math.nan
SEEDS = range(12)


def random(seed: int, *shape: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return (3 * torch.randn(*shape, generator=generator, dtype=torch.float64)).requires_grad_()


def partial(seed: int, *shape: int) -> Tensor:
    """Labels 0 and 1, half of them missing (-1)."""
    generator = torch.Generator().manual_seed(1000 + seed)
    labels = torch.randint(0, 2, shape, generator=generator).double()
    return labels.where(torch.rand(shape, generator=generator) < 0.5, -1.0)


def uniform(seed: int, *shape: int) -> Tensor:
    generator = torch.Generator().manual_seed(2000 + seed)
    return torch.rand(*shape, generator=generator, dtype=torch.float64)


def assert_same(ours: Tensor, theirs: Tensor, x: Tensor) -> None:
    torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-10)
    direction = torch.arange(1.0, ours.numel() + 1, dtype=ours.dtype).reshape(ours.shape)
    gradients = [
        torch.autograd.grad((value * direction).sum(), x, retain_graph=True)[0]
        for value in (ours, theirs)
    ]
    torch.testing.assert_close(*gradients, rtol=1e-10, atol=1e-10)


def loop_cost(x: Tensor, y: float, pos_weight: float = 1.0) -> Tensor:
    p = 1 / (1 + (-x).exp())
    return -(pos_weight * y * p.log() + (1 - y) * (1 - p).log())


PUBLISHED_LOGITS = [[-1.5, 2.5, -3.5, 4.5], [-5.5, 6.5, 7.5, -8.5]]
PUBLISHED_LABELS = [[-1, 0, -1, -1], [-1, -1, -1, 1]]


def test_the_published_check_value() -> None:
    logits = torch.tensor(PUBLISHED_LOGITS, dtype=torch.float64)
    value = masked_binary_cross_entropy(logits, torch.tensor(PUBLISHED_LABELS)).item()
    assert value == pytest.approx((log(1 + exp(2.5)) + log(1 + exp(8.5))) / 2)
    assert round(value, 4) == 5.5395
    observed = F.binary_cross_entropy_with_logits(
        torch.tensor([2.5, -8.5], dtype=torch.float64), torch.tensor([0.0, 1.0]).double()
    )
    assert value == pytest.approx(observed.item())


@pytest.mark.parametrize("seed", SEEDS)
def test_cells_equal_a_loop(seed: int) -> None:
    logits, labels = random(seed, 5, 3), partial(seed, 5, 3)
    mask, weight = uniform(seed, 5, 3) > 0.2, uniform(seed + 1, 5, 3)
    pos_weight = uniform(seed + 2, 3) + 0.5
    total, count = torch.zeros((), dtype=torch.float64), 0
    for i, c in itertools.product(range(5), range(3)):
        y = labels[i, c].item()
        if y != -1 and mask[i, c]:
            total = total + weight[i, c] * loop_cost(logits[i, c], y, pos_weight[c].item())
            count += 1
    knobs = {"mask": mask, "weight": weight, "pos_weight": pos_weight}
    assert_same(masked_binary_cross_entropy(logits, labels, **knobs), total / count, logits)
    total_only = masked_binary_cross_entropy(logits, labels, reduction="sum", **knobs)
    assert_same(total_only, total, logits)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("seed", SEEDS)
def test_classes_equal_a_loop(seed: int, reduction: str) -> None:
    logits, labels = random(seed, 5, 4), partial(seed, 5, 4)
    labels[:, 2] = -1  # a class without labels
    mask, weight = uniform(seed, 5, 4) > 0.2, uniform(seed + 1, 5, 4)
    means = []
    for c in range(4):
        rows = [i for i in range(5) if labels[i, c] != -1 and mask[i, c]]
        costs = [weight[i, c] * loop_cost(logits[i, c], labels[i, c].item(), 2.0) for i in rows]
        means.append(torch.stack(costs).mean() if costs else 0 * logits.sum())
    present = sum(1 for mean in means if mean != 0)
    each = torch.stack(means)
    expected = {"none": each, "sum": each.sum(), "mean": each.sum() / present}[reduction]
    ours = masked_binary_cross_entropy(
        logits,
        labels,
        average="classes",
        pos_weight=2.0,
        mask=mask,
        weight=weight,
        reduction=reduction,
    )
    assert_same(ours, expected, logits)


def test_golden_values_of_both_averages() -> None:
    # The first class has two labels and the second one.
    logits = torch.tensor([[1.0, 3.0], [2.0, 0.0]], dtype=torch.float64)
    labels = torch.tensor([[0, 1], [0, -1]])
    a, b, c = log(1 + exp(1)), log(1 + exp(2)), log(1 + exp(-3))
    cells = masked_binary_cross_entropy(logits, labels)
    assert cells.item() == pytest.approx((a + b + c) / 3)
    classes = masked_binary_cross_entropy(logits, labels, average="classes")
    assert classes.item() == pytest.approx(((a + b) / 2 + c) / 2)


@pytest.mark.parametrize("average", ["cells", "classes"])
def test_nothing_missing_is_binary_cross_entropy(average: str) -> None:
    logits, labels = random(1, 6, 3), uniform(1, 6, 3)
    plain = F.binary_cross_entropy_with_logits(logits, labels)
    assert_same(masked_binary_cross_entropy(logits, labels, average=average), plain, logits)


@pytest.mark.parametrize("average", ["cells", "classes"])
@pytest.mark.parametrize("missing", [nan, -999, 0.5])
def test_any_value_may_mark_a_missing_label(missing: float, average: str) -> None:
    logits, labels = random(2, 6, 3), partial(2, 6, 3)
    marked = torch.where(labels == -1, missing, labels)
    ours = masked_binary_cross_entropy(logits, marked, missing=missing, average=average)
    assert_same(ours, masked_binary_cross_entropy(logits, labels, average=average), logits)


@pytest.mark.parametrize("dtype", [torch.int8, torch.int64, torch.float16, torch.float64])
def test_labels_may_be_of_any_type(dtype: torch.dtype) -> None:
    logits, labels = random(3, 6, 3), partial(3, 6, 3)
    expected = masked_binary_cross_entropy(logits, labels)
    assert torch.equal(masked_binary_cross_entropy(logits, labels.to(dtype)), expected)
    known = labels > 0
    expected = masked_binary_cross_entropy(logits, known.double())
    assert torch.equal(masked_binary_cross_entropy(logits, known), expected)


class Separate(nn.Module):
    """C classifiers that share nothing, each trained on the examples labelled for it."""

    def __init__(self, heads: nn.Linear) -> None:
        super().__init__()
        self.heads = nn.ModuleList(
            nn.Linear(heads.in_features, 1, dtype=torch.float64) for _ in range(heads.out_features)
        )
        with torch.no_grad():
            for c, head in enumerate(self.heads):
                head.weight.copy_(heads.weight[c : c + 1])
                head.bias.copy_(heads.bias[c : c + 1])

    def losses(self, x: Tensor, labels: Tensor) -> list[Tensor]:
        found = []
        for c, head in enumerate(self.heads):
            rows = labels[:, c] != -1
            logits = head(x[rows]).squeeze(-1)
            found.append(F.binary_cross_entropy_with_logits(logits, labels[rows, c]))
        return found


def test_average_over_classes_is_c_separate_classifiers() -> None:
    torch.manual_seed(0)
    x, labels = uniform(4, 30, 5) - 0.5, partial(4, 30, 4)
    labels[3:, 0] = -1  # a class that is rarely labelled
    labels[:3, 0] = torch.tensor([1.0, 0.0, 1.0])
    shared = nn.Linear(5, 4, dtype=torch.float64)
    separate = Separate(shared)
    first = torch.optim.SGD(shared.parameters(), lr=0.5, momentum=0.9)
    others = [
        torch.optim.SGD(h.parameters(), lr=0.5, momentum=0.9) for h in separate.heads.children()
    ]
    for _ in range(25):
        value = masked_binary_cross_entropy(shared(x), labels, average="classes", reduction="sum")
        apart = separate.losses(x, labels)
        torch.testing.assert_close(value, sum(apart), rtol=1e-12, atol=0)
        mean = masked_binary_cross_entropy(shared(x), labels, average="classes")
        torch.testing.assert_close(mean, value / 4, rtol=1e-12, atol=0)
        for optimizer in (first, *others):
            optimizer.zero_grad()
        value.backward()
        for c, (loss, head) in enumerate(zip(apart, separate.heads.children(), strict=True)):
            loss.backward()
            ours, theirs = shared.weight.grad, head.weight.grad
            torch.testing.assert_close(ours[c], theirs[0], rtol=1e-11, atol=1e-14)
        for optimizer in (first, *others):
            optimizer.step()
    trained = torch.cat([head.weight for head in separate.heads.children()])
    torch.testing.assert_close(shared.weight, trained, rtol=1e-9, atol=1e-12)


def test_average_over_cells_is_not_c_separate_classifiers() -> None:
    logits, labels = random(5, 6, 2), partial(5, 6, 2)
    labels[:, 0], labels[1:, 1] = 1.0, -1.0
    labels[0, 1] = 1.0
    cells = torch.autograd.grad(masked_binary_cross_entropy(logits, labels), logits)[0]
    classes = torch.autograd.grad(
        masked_binary_cross_entropy(logits, labels, average="classes"), logits
    )[0]
    # Seven cells, six in the first class: the lonely label weighs 1/7 there, 1/2 here.
    assert (classes[0, 1] / cells[0, 1]).item() == pytest.approx(7 / 2)
    assert (classes[0, 0] / cells[0, 0]).item() == pytest.approx(7 / 12)


@pytest.mark.parametrize("cut", range(7))
def test_micro_batches_add_up_with_the_counts_of_the_whole(cut: int) -> None:
    logits, labels = random(6, 6, 4), partial(6, 6, 4)
    labels[:3, 1], labels[3:, 1] = -1.0, 1.0  # only in the second half
    labels[:, 2] = -1.0  # nowhere
    counts = (labels != -1).sum(0)
    whole = masked_binary_cross_entropy(logits, labels, average="classes")
    parts = [
        masked_binary_cross_entropy(logits[rows], labels[rows], average="classes", divisor=counts)
        for rows in (slice(0, cut), slice(cut, 6))
    ]
    assert_same(parts[0] + parts[1], whole, logits)
    cells = [
        masked_binary_cross_entropy(logits[rows], labels[rows], divisor=counts.sum())
        for rows in (slice(0, cut), slice(cut, 6))
    ]
    assert_same(cells[0] + cells[1], masked_binary_cross_entropy(logits, labels), logits)


@pytest.mark.parametrize("missing", [-1, nan])
@pytest.mark.parametrize("average", ["cells", "classes"])
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_a_batch_without_labels_is_zero_and_teaches_nothing(
    reduction: str, average: str, missing: float
) -> None:
    logits = random(7, 4, 3)
    labels = torch.full((4, 3), float(missing))
    value = masked_binary_cross_entropy(
        logits, labels, missing=missing, average=average, reduction=reduction
    )
    assert (value == 0).all()
    assert (torch.autograd.grad(value.sum(), logits)[0] == 0).all()


@pytest.mark.parametrize("average", ["cells", "classes"])
def test_logits_of_unobserved_cells_are_inert(average: str) -> None:
    logits, labels = random(8, 4, 3).detach(), partial(8, 4, 3)
    expected = masked_binary_cross_entropy(logits, labels, average=average)
    for poison in (nan, math.inf, -math.inf):
        poisoned = torch.where(labels == -1, poison, logits).requires_grad_()
        value = masked_binary_cross_entropy(poisoned, labels, average=average)
        assert torch.equal(value, expected)
        (gradient,) = torch.autograd.grad(value, poisoned)
        assert (gradient[labels == -1] == 0).all()
        assert gradient.isfinite().all()


def test_a_nan_logit_of_an_observed_cell_is_not_hidden() -> None:
    logits = torch.tensor([[nan, 0.0]])
    assert masked_binary_cross_entropy(logits, torch.tensor([[1, -1]])).isnan()


def test_huge_logits_stay_finite() -> None:
    logits = torch.tensor([[1e4, -1e4, 1e4, 1e4]], requires_grad=True)
    value = masked_binary_cross_entropy(logits, torch.tensor([[0, 1, 1, -1]]), reduction="none")
    assert value.tolist() == [[1e4, 1e4, 0.0, 0.0]]
    assert torch.autograd.grad(value.sum(), logits)[0].tolist() == [[1.0, -1.0, 0.0, 0.0]]


def test_none_gives_cells_or_classes() -> None:
    logits, labels = random(9, 2, 5, 3), partial(9, 2, 5, 3)
    cells = masked_binary_cross_entropy(logits, labels, reduction="none")
    assert cells.shape == (2, 5, 3)
    assert (cells[labels == -1] == 0).all()
    assert (cells[labels != -1] > 0).all()
    classes = masked_binary_cross_entropy(logits, labels, average="classes", reduction="none")
    assert classes.shape == (3,)
    counts = (labels != -1).flatten(0, 1).sum(0)
    torch.testing.assert_close(classes, cells.flatten(0, 1).sum(0) / counts)


def test_one_example_needs_no_batch_dimension() -> None:
    logits, labels = random(10, 3), torch.tensor([1, -1, 0])
    one = masked_binary_cross_entropy(logits, labels, average="classes")
    batch = masked_binary_cross_entropy(logits[None], labels[None], average="classes")
    assert_same(one, batch, logits)


def test_errors_say_what_and_where() -> None:
    logits = torch.zeros(2, 3)
    labels = torch.tensor([[0.0, 1.0, -1.0], [1.0, 2.0, -1.0]])
    with pytest.raises(ValueError, match=r"labels\[1, 1\] is 2; expected .*\[0, 1\] or missing=-1"):
        masked_binary_cross_entropy(logits, labels)
    labels[1, 1] = nan
    with pytest.raises(ValueError, match=r'labels\[1, 1\] is nan.*type missing=float\("nan"\)'):
        masked_binary_cross_entropy(logits, labels)
    with pytest.raises(ValueError, match=r"labels\[0, 2\] is -1; expected .* or missing=nan\.$"):
        masked_binary_cross_entropy(logits, labels, missing=nan)
    with pytest.raises(ValueError, match=r"logits \(2, 3\) and labels \(2,\)"):
        masked_binary_cross_entropy(logits, torch.zeros(2))
    with pytest.raises(ValueError, match=r"logits \(2, 3\) and weight \(3,\)"):
        masked_binary_cross_entropy(logits, torch.zeros(2, 3), weight=torch.ones(3))
    with pytest.raises(ValueError, match=r"pos_weight \(2,\) must be one number, or one for each"):
        masked_binary_cross_entropy(logits, torch.zeros(2, 3), pos_weight=torch.ones(2))
    with pytest.raises(ValueError, match=r"average='class' is not a choice"):
        masked_binary_cross_entropy(logits, torch.zeros(2, 3), average="class")


def test_errors_about_the_divisor_of_classes() -> None:
    logits, labels = torch.zeros(2, 3), torch.zeros(2, 3)
    with pytest.raises(ValueError, match=r"divisor 6 must be a tensor \(3,\).*labels != missing"):
        masked_binary_cross_entropy(logits, labels, average="classes", divisor=6)
    with pytest.raises(ValueError, match=r"divisor \(2, 3\) must be a tensor \(3,\)"):
        masked_binary_cross_entropy(logits, labels, average="classes", divisor=torch.ones(2, 3))
    with pytest.raises(ValueError, match=r"divisor\[1\] is 0; expected a count above 0"):
        masked_binary_cross_entropy(
            logits, labels, average="classes", divisor=torch.tensor([2, 0, 2])
        )
    with pytest.raises(ValueError, match="divisor replaces the count"):
        masked_binary_cross_entropy(
            logits, labels, average="classes", reduction="sum", divisor=torch.tensor([2, 2, 2])
        )
