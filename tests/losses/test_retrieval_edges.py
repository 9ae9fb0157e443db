"""Objectives for embeddings at their edges: ties, extremes, NaN, what is refused."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from lossmith.losses.retrieval import contrastive, info_nce, nt_xent, triplet

exp, log, sqrt, nan = math.exp, math.log, math.sqrt, math.nan
DISTANCES = ("euclidean", "squared_euclidean", "cosine")


def random(seed: int, *shape: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64).requires_grad_()


def test_identical_and_zero_vectors_have_finite_gradients() -> None:
    points = torch.tensor([[0.0, 0.0], [0.0, 0.0], [3.0, 4.0], [3.0, 4.0]])
    same = torch.tensor([True, False, True, False])
    for kind in DISTANCES:
        calls = [
            lambda x, y, z, kind=kind: contrastive(x, y, same, distance=kind) + 0 * z.sum(),
            lambda x, y, z, kind=kind: triplet(x, y, z, distance=kind),
            lambda x, y, z, kind=kind: triplet(x, y, z, distance=kind, margin=0.0),
            lambda x, y, z: info_nce(x, y, z, symmetric=True),
            lambda x, y, z: info_nce(x, y, z.unsqueeze(1)),
            lambda x, y, z: nt_xent(x, y) + 0 * z.sum(),
        ]
        for i, call in enumerate(calls):
            inputs = [points.clone().requires_grad_() for _ in range(3)]
            value = call(*inputs)
            assert math.isfinite(value.item()), (kind, i)
            for slope in torch.autograd.grad(value, inputs):
                assert bool(slope.isfinite().all()), (kind, i)


def test_distance_of_a_point_to_itself_is_exactly_0() -> None:
    x, other = random(18, 5, 4), random(19, 5, 4).detach()
    for kind in ("euclidean", "squared_euclidean"):
        assert contrastive(x, x.detach(), torch.ones(5), distance=kind).item() == 0.0
        apart = contrastive(x, x.detach(), torch.zeros(5), distance=kind, margin=0.75)
        assert apart.item() == 0.75**2 / 2
        near = triplet(other, other, other, margin=0.25, distance=kind)
        assert near.item() == 0.25
    here = torch.zeros(1, 4)
    # torch adds 1e-6 to every coordinate, and then a point is 2e-6 from itself.
    assert F.pairwise_distance(here, here).item() == pytest.approx(1e-6 * sqrt(4))


@pytest.mark.parametrize("temperature", [0.05, 0.02, 0.01])
def test_a_hard_positive_keeps_its_gradient(temperature: float) -> None:
    # The partner p lies opposite to a, and the negative n at a small angle from a. Asked for p, a
    # costs log(1 + exp((cos(angle) + 1) / T)), nearly 2 / T, of slope 1 / T; asked for a, p has two
    # candidates (nearly) as far away: log 2, of slope 1 / 2T. Moving a and n turns n away from a
    # with sin(angle); summed up over the two (half each) the gradient with respect to the angles
    # of a, p and n is sin(angle) / T times (1/2, -1/4, -1/4).
    angle, t = 1e-3, temperature
    a = torch.tensor([[1.0, 0.0]], requires_grad=True)
    p = torch.tensor([[-1.0, 0.0]], requires_grad=True)
    n = torch.tensor([[math.cos(angle), math.sin(angle)]], requires_grad=True)
    value = (info_nce(a, p, n, temperature=t) + info_nce(p, a, n, temperature=t)) / 2
    assert value.dtype is torch.float32
    assert value.item() == pytest.approx(1 / t + log(2) / 2, rel=1e-4)
    slopes = torch.cat(torch.autograd.grad(value, (a, p, n)))
    want = [c * math.sin(angle) / t for c in (1 / 2, 1 / 4, 1 / 4)]
    assert slopes.norm(dim=-1).tolist() == pytest.approx(want, rel=1e-3)
    # Exponentials outside log space end at the smallest float, near exp(-87): the hard anchor then
    # has no slope, and what is left of the square is the third that the easy one has.
    assert slopes.norm().item() == pytest.approx(sqrt(6) / 4 * math.sin(angle) / t, rel=1e-3)


def test_a_cost_far_below_1_keeps_its_digits() -> None:
    q = torch.eye(4, requires_grad=True)
    value = info_nce(q, q.detach(), temperature=0.04)
    want = math.log1p(3 * exp(-1 / 0.04))
    assert F.cross_entropy(q @ q.T / 0.04, torch.arange(4)).item() == 0.0  # float32 rounds 1 + x
    assert value.item() == pytest.approx(want, rel=1e-5)
    assert nt_xent(q, q, temperature=0.04).item() == pytest.approx(2 * want, rel=1e-5)
    assert torch.autograd.grad(value, q)[0].abs().max() > 0


def test_very_long_very_short_and_very_unlike_vectors() -> None:
    x, y = torch.randn(2, 4, 3, generator=torch.Generator().manual_seed(20))
    for loss in (info_nce, nt_xent):
        want = loss(x, y)
        for factor in (1e-30, 1e30):
            torch.testing.assert_close(loss(factor * x, y), want)
    q = torch.tensor([[1e3, 0.0], [0.0, 1e3]], requires_grad=True)
    value = info_nce(q, q.detach().flip(0), temperature=0.01, normalize=False)
    assert value.item() == pytest.approx(1e3**2 / 0.01)
    assert bool(torch.autograd.grad(value, q)[0].isfinite().all())


def test_a_learnable_temperature_has_its_gradient() -> None:
    q = torch.eye(2, dtype=torch.float64)
    for shape in ((), (1,)):
        t = torch.full(shape, 0.4, dtype=torch.float64, requires_grad=True)
        others = {info_nce: 1, nt_xent: 2}  # L = log(1 + k exp(-1/T)) with k others
        for loss, k in others.items():
            value = loss(q, q, temperature=t)
            assert value.shape == ()
            (slope,) = torch.autograd.grad(value, t)
            share = k * exp(-1 / 0.4) / (1 + k * exp(-1 / 0.4))
            assert slope.shape == shape
            assert slope.item() == pytest.approx(share / 0.4**2)


def test_a_duplicate_in_the_batch_puts_a_floor_under_the_loss() -> None:
    # Perfect embeddings; but the first two rows are the same item, and each calls the other wrong.
    q = torch.eye(4)[[0, 0, 1, 2]].requires_grad_()
    for symmetric in (False, True):
        value = info_nce(q, q, temperature=0.01, symmetric=symmetric)
        assert value.item() == pytest.approx((2 * log(2) + 2 * 0) / 4)
    # Each of the two has its partner and two copies of it among the views.
    assert nt_xent(q, q, temperature=0.01).item() == pytest.approx(4 * log(3) / 8)
    told = torch.tensor([True, False, True, True])
    assert info_nce(q, q, temperature=0.01, mask=told).item() == pytest.approx(0.0, abs=1e-6)


def test_a_nan_among_the_negatives_counts_only_where_its_row_does() -> None:
    q, p, own = random(21, 3, 2), random(22, 3, 2), random(23, 3, 2, 2).detach()
    mask = torch.tensor([True, False, True])
    spoiled = own.clone()
    spoiled[1, 0] = nan
    spoiled.requires_grad_()
    value = info_nce(q, p, spoiled, mask=mask)
    torch.testing.assert_close(value, info_nce(q, p, own, mask=mask))
    for slope in torch.autograd.grad(value, (q, p, spoiled)):
        assert bool(slope.isfinite().all())
    assert info_nce(q, p, spoiled).isnan()
    assert info_nce(q, p, torch.full((1, 2), nan), mask=mask).isnan()


def test_info_nce_with_everything_is_one_graph() -> None:
    def loss(q: Tensor, p: Tensor, negatives: Tensor, t: Tensor, mask: Tensor) -> Tensor:
        return info_nce(q, p, negatives, temperature=t, symmetric=True, mask=mask)

    compiled = torch.compile(loss, fullgraph=True, backend="eager")
    for shape in ((2, 3), (4, 2, 3)):
        inputs = [random(24, 4, 3), random(25, 4, 3), random(26, *shape)]
        more = torch.tensor(0.2), torch.tensor([True, True, False, True])
        torch.testing.assert_close(compiled(*inputs, *more), loss(*inputs, *more))


# ------------------------------------------------------------------------------------ errors


X, Y, ROW = torch.zeros(3, 2), torch.zeros(3, 4), torch.zeros(3)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: contrastive(X, Y, ROW), ValueError, r"x1 \(3, 2\) and x2 \(3, 4\) must"),
        (lambda: contrastive(X, X, X), ValueError, r"same \(3, 2\) must have the shape of x1 \(3,"),
        (lambda: contrastive(X, X, ROW[:, None]), ValueError, r"same \(3, 1\)"),
        (lambda: contrastive(X, X, ROW - 1), ValueError, r"same\[0\] is -1; expected 1 \(together"),
        (lambda: contrastive(X, X, ROW + nan), ValueError, r"same\[0\] is nan"),
        (lambda: contrastive(X, X, ROW, margin=-1.0), ValueError, "margin must lie in"),
        (
            lambda: contrastive(X, X, ROW, distance="l1"),
            ValueError,
            "distance='l1' is not a choice",
        ),
        (lambda: contrastive(X.long(), X, ROW), TypeError, "x1 must be floating point"),
        (lambda: triplet(X, X, Y), ValueError, r"anchor \(3, 2\) and negative \(3, 4\) must"),
        (lambda: triplet(X, X[:1], X), ValueError, r"anchor \(3, 2\) and positive \(1, 2\) must"),
        (lambda: triplet(X, X, X, margin=-0.1), ValueError, "margin must lie in"),
        (lambda: triplet(X, X, X, mask=ROW[:, None] > 0), ValueError, r"mask \(3, 1\) must"),
        (lambda: triplet(X, X, X, mask=ROW), TypeError, "mask must be bool"),
        (lambda: info_nce(X, Y), ValueError, r"queries \(3, 2\) and positives \(3, 4\) must"),
        (lambda: info_nce(ROW, ROW), ValueError, r"queries \(3,\) must be \(B, d\)"),
        (lambda: info_nce(X[None], X[None]), ValueError, r"queries \(1, 3, 2\) must be \(B, d\)"),
        (lambda: info_nce(X, X, Y), ValueError, r"negatives \(3, 4\) must be \(M, 2\)"),
        (lambda: info_nce(X, X, Y[None]), ValueError, r"negatives \(1, 3, 4\) must be"),
        (lambda: info_nce(X, X, X[:2, None]), ValueError, r"or \(3, K, 2\), its own for each"),
        (lambda: info_nce(X, X, X.long()), TypeError, "negatives must be floating point"),
        (lambda: info_nce(X, X, temperature=0.0), ValueError, r"temperature must lie in \(0"),
        (lambda: info_nce(X, X, temperature=-1.0), ValueError, r"temperature must lie in \(0"),
        (lambda: info_nce(X, X, temperature=ROW), ValueError, r"temperature \(3,\) must hold one"),
        (lambda: info_nce(X, X, weight=X), ValueError, r"weight \(3, 2\) must have the shape of"),
        (lambda: nt_xent(X, X[:2]), ValueError, r"z1 \(3, 2\) and z2 \(2, 2\) must"),
        (lambda: nt_xent(X, X, temperature=0), ValueError, r"temperature must lie in \(0"),
        (lambda: nt_xent(X, X, temperature=nan), ValueError, r"temperature must lie in \(0"),
        (lambda: nt_xent(X, X, weight=torch.ones(2, 3)), ValueError, r"weight \(2, 3\) must"),
        (lambda: nt_xent(X, X, mask=torch.ones(6) > 0), ValueError, r"mask \(6,\) must"),
    ],
)
def test_errors_name_what_is_wrong(
    call: Callable[[], Tensor], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        call()


def test_a_masked_label_may_hold_anything() -> None:
    mask = torch.tensor([True, False, True])
    label = torch.tensor([1, -100, 0])
    want = contrastive(X[mask], X[mask] + 0.5, label[mask])
    torch.testing.assert_close(contrastive(X, X + 0.5, label, mask=mask), want)
