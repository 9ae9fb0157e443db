"""The scores of each query's own negatives against their naive form."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import lossmith as lm
from lossmith.core.numerics import unit_vectors
from lossmith.kernels.contrastive import engine, own_negatives
from lossmith.kernels.contrastive.engine import ABSENT
from lossmith.kernels.contrastive.own_negatives import own_negative_scores

B, K, D = 11, 3, 5


@pytest.fixture(autouse=True)
def _small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks of two rows, however small the batch."""
    monkeypatch.setattr(engine.SWITCH, "entries", 1)
    monkeypatch.setattr(own_negatives, "PIECE", 2 * K * D)


def random(seed: int, *shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=dtype).requires_grad_()


def chosen(seed: int = 3) -> Tensor:
    return torch.rand(B, K, generator=torch.Generator().manual_seed(seed)) < 0.5


def naive(queries: Tensor, negatives: Tensor, real: Tensor | None, normalize: bool) -> Tensor:
    """One score after the other; the scale comes off first, so that squares stay in range."""
    rows = []
    for i in range(len(queries)):
        for k in range(negatives.shape[1]):
            if real is not None and not real[i, k]:
                rows.append(queries.new_tensor(ABSENT))
                continue
            vector = negatives[i, k].to(queries.dtype)
            if normalize and bool((vector != 0).any()):
                vector = vector / vector.detach().abs().max()
                vector = vector / vector.square().sum().sqrt()
            rows.append((queries[i] * vector).sum())
    return torch.stack(rows).reshape(len(queries), -1)


def slopes_of(scores: Tensor, *inputs: Tensor) -> tuple[Tensor, ...]:
    direction = torch.linspace(-1.0, 2.0, scores.numel(), dtype=scores.dtype)
    loss = (torch.where(scores == ABSENT, 0.0, scores) * direction.reshape(scores.shape)).sum()
    return torch.autograd.grad(loss, inputs)


def assert_like_naive(
    q: Tensor, n: Tensor, real: Tensor | None, normalize: bool, rtol: float
) -> None:
    ours, theirs = (form(q, n, real, normalize) for form in (own_negative_scores, naive))
    torch.testing.assert_close(ours, theirs, rtol=rtol, atol=rtol)
    for found, right in zip(slopes_of(ours, q, n), slopes_of(theirs, q, n), strict=True):
        size = max(1e-300, float(right.abs().max()))
        torch.testing.assert_close(found / size, right / size, rtol=rtol, atol=rtol)


@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("masked", [True, False])
@pytest.mark.parametrize(("dtype", "rtol"), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
def test_values_and_gradients(
    dtype: torch.dtype, rtol: float, masked: bool, normalize: bool
) -> None:
    q, n = random(0, B, D, dtype=dtype), random(1, B, K, D, dtype=dtype)
    assert_like_naive(q, n, chosen() if masked else None, normalize, rtol)


@pytest.mark.parametrize("scale", [1e-30, 1e-8, 1e8, 1e30])
@pytest.mark.parametrize("masked", [True, False])
def test_vectors_of_any_length(scale: float, masked: bool) -> None:
    """Those of one block alone are out of the usual range, and every kind in another."""
    q, n = random(0, B, D, dtype=torch.float32), random(1, B, K, D, dtype=torch.float32)
    for rows in (slice(2, 4), slice(0, B)):
        scaled = n.detach().clone()
        scaled[rows] *= scale
        real = chosen() if masked else None
        ours = own_negative_scores(q, scaled.requires_grad_(), real, True)
        torch.testing.assert_close(
            ours, own_negative_scores(q, n, real, True), rtol=1e-5, atol=1e-5
        )
        (found,), (right,) = slopes_of(ours, scaled), slopes_of(naive(q, n, real, True), n)
        right = right.clone()
        right[rows] /= scale
        shrunk = [
            torch.cat([t[rows] * scale, t[: rows.start or 0].reshape(-1, K, D)])
            for t in (found, right)
        ]
        torch.testing.assert_close(*shrunk, rtol=1e-5, atol=1e-5)


def test_a_zero_vector_scores_zero_and_has_the_gradient_of_a_unit_one() -> None:
    q, n = random(0, B, D), random(1, B, K, D).detach()
    n[4, 1] = 0.0
    n.requires_grad_()
    scores = own_negative_scores(q, n, None, True)
    assert scores[4, 1] == 0
    of_q, of_n = torch.autograd.grad(scores.sum(), (q, n))
    right = torch.autograd.grad((unit_vectors(n) * q.unsqueeze(1)).sum(), (q, n))
    torch.testing.assert_close((of_q, of_n), right)
    assert torch.equal(of_n[4, 1], q[4])


@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("junk", [torch.nan, torch.inf, -torch.inf, 1e300, 0.0])
def test_what_a_masked_vector_holds_reaches_nothing(junk: float, normalize: bool) -> None:
    q, n, real = random(0, B, D), random(1, B, K, D), chosen()
    real[6] = False
    spoilt = torch.where(real.unsqueeze(-1), n.detach(), junk).requires_grad_()
    ours, clean = (own_negative_scores(q, x, real, normalize) for x in (spoilt, n))
    assert torch.equal(ours, clean)
    assert bool((ours[~real] == ABSENT).all())
    # A slope that comes to a masked one all the same has nowhere to go.
    found = torch.autograd.grad(ours.sum(), (q, spoilt))
    torch.testing.assert_close(found, torch.autograd.grad(clean.sum(), (q, n)), rtol=1e-12, atol=0)
    assert not found[1][~real].any()


def test_a_nan_that_counts_shows() -> None:
    q, n = random(0, B, D), random(1, B, K, D).detach()
    n[2, 0, 1] = torch.nan
    scores = own_negative_scores(q, n, None, True)
    assert scores.isnan().nonzero().tolist() == [[2, 0]]


def test_no_negatives_at_all() -> None:
    q, n = random(0, B, D), random(1, B, 0, D)
    scores = own_negative_scores(q, n, torch.ones(B, 0, dtype=torch.bool), True)
    assert scores.shape == (B, 0)
    of_q, of_n = torch.autograd.grad(scores.sum(), (q, n))
    assert not of_q.any() and of_n.shape == n.shape


@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("masked", [True, False])
def test_second_derivatives(masked: bool, normalize: bool) -> None:
    q, n = random(0, 3, 2), random(1, 3, 2, 2)
    real = chosen()[:3, :2] if masked else None

    def scores(q: Tensor, n: Tensor) -> Tensor:
        made = own_negative_scores(q, n, real, normalize)
        return made if real is None else torch.where(real, made, 0.0)

    assert torch.autograd.gradcheck(scores, (q, n))
    assert torch.autograd.gradgradcheck(scores, (q, n))


def test_transforms_see_through() -> None:
    q, n, real = random(0, B, D), random(1, B, K, D), chosen()

    def loss(q: Tensor, n: Tensor, real: Tensor) -> Tensor:
        return own_negative_scores(q, n, real, True).logsumexp(dim=1).sum()

    right = torch.autograd.grad(loss(q, n, real), (q, n))
    found = torch.func.grad(loss, argnums=(0, 1))(q, n, real)
    torch.testing.assert_close(found, right)
    (alone,) = (torch.func.grad(loss, argnums=1)(q, n, real),)
    torch.testing.assert_close(alone, right[1])
    masks = torch.stack([chosen(seed) for seed in (3, 4)])
    several = torch.func.vmap(loss, in_dims=(None, None, 0))(q, n, masks)
    torch.testing.assert_close(several, torch.stack([loss(q, n, mask) for mask in masks]))


@pytest.mark.parametrize("learns", [True, False])
def test_compiles_as_one_graph(learns: bool) -> None:
    q, real = random(0, B, D), chosen()
    n = random(1, B, K, D).detach().requires_grad_(learns)
    wanted = (q, n) if learns else (q,)

    def loss(q: Tensor, n: Tensor) -> Tensor:
        return own_negative_scores(q, n, real, True).logsumexp(dim=1).sum()

    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(q, n), loss(q, n))
    torch.testing.assert_close(
        torch.autograd.grad(compiled(q, n), wanted), torch.autograd.grad(loss(q, n), wanted)
    )


def test_half_precision_is_summed_in_float32() -> None:
    q = random(0, B, D, dtype=torch.float32)
    n = random(1, B, K, D).detach().to(torch.bfloat16).requires_grad_()
    scores = own_negative_scores(q, n, chosen(), True)
    assert scores.dtype is torch.float32
    wide = n.detach().float().requires_grad_()
    right = own_negative_scores(q, wide, chosen(), True)
    assert torch.equal(scores, right)
    (found,), (of_wide,) = slopes_of(scores, n), slopes_of(right, wide)
    assert torch.equal(found, of_wide.to(torch.bfloat16))


def test_the_loss_of_own_negatives_beside_its_naive_form() -> None:
    q, p, n = random(0, B, D), random(2, B, D), random(1, B, K, D)
    t = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
    real, mask = chosen(), torch.arange(B) != 3
    ours = lm.info_nce(q, p, n, temperature=t, negatives_mask=real, mask=mask)
    candidates = torch.nn.functional.normalize(p, dim=1)[mask]
    queries = torch.nn.functional.normalize(q, dim=1)[mask] / t
    extra = naive(queries, n[mask], real[mask], True)
    scores = torch.cat([queries @ candidates.T, extra], dim=1)
    theirs = torch.nn.functional.cross_entropy(scores, torch.arange(len(scores)))
    torch.testing.assert_close(ours, theirs)
    torch.testing.assert_close(
        torch.autograd.grad(ours, (q, p, n, t)), torch.autograd.grad(theirs, (q, p, n, t))
    )
