from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import lossmith as lm
from lossmith.losses.retrieval import contrastive, info_nce, nt_xent, triplet

exp, log = math.exp, math.log
SEEDS = range(6)
DISTANCES = ("euclidean", "squared_euclidean", "cosine")


def random(seed: int, *shape: int, scale: float = 1.0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return (scale * torch.randn(*shape, generator=generator, dtype=torch.float64)).requires_grad_()


def random_mask(seed: int, size: int) -> Tensor:
    return torch.rand(size, generator=torch.Generator().manual_seed(1000 + seed)) < 0.7


def assert_same(ours: Tensor, theirs: Tensor, *inputs: Tensor) -> None:
    """Equal values and, of their sum with different weights, equal gradients at every input."""
    torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-10)
    direction = torch.arange(1.0, ours.numel() + 1, dtype=ours.dtype).reshape(ours.shape)
    our_slopes = torch.autograd.grad((ours * direction).sum(), inputs, retain_graph=True)
    their_slopes = torch.autograd.grad((theirs * direction).sum(), inputs, retain_graph=True)
    for our_slope, their_slope in zip(our_slopes, their_slopes, strict=True):
        torch.testing.assert_close(our_slope, their_slope, rtol=1e-10, atol=1e-10)


# ----------------------------------------------------------- the formulas, number by number


def dot(x: Tensor, y: Tensor) -> Tensor:
    return sum((a * b for a, b in zip(x, y, strict=True)), torch.zeros((), dtype=x.dtype))


def loop_distance(x: Tensor, y: Tensor, kind: str) -> Tensor:
    if kind == "cosine":
        return 1 - dot(x, y) / (dot(x, x) * dot(y, y)).sqrt()
    squared = dot(x - y, x - y)
    return squared.sqrt() if kind == "euclidean" else squared


def loop_softmax_cost(asked: Tensor, right: Tensor, wrong: list[Tensor], t: Tensor) -> Tensor:
    """- log of the share of the right candidate."""
    share = (dot(asked, right) / t).exp()
    return -(share / sum(((dot(asked, c) / t).exp() for c in wrong), share)).log()


def loop_unit(rows: Tensor) -> list[Tensor]:
    return [row / dot(row, row).sqrt() for row in rows]


def loop_info_nce(
    queries: Tensor,
    positives: Tensor,
    negatives: Tensor | None,
    t: Tensor,
    symmetric: bool,
    normalize: bool,
    mask: Tensor,
) -> Tensor:
    unit: Callable[[Tensor], list[Tensor]] = loop_unit if normalize else list
    q, p = unit(queries), unit(positives)
    costs = []
    for i in range(len(q)):
        if not mask[i]:
            costs.append(torch.zeros((), dtype=t.dtype))
            continue
        others = [j for j in range(len(q)) if j != i and mask[j]]
        extra = []
        if negatives is not None:
            extra = unit(negatives if negatives.dim() == 2 else negatives[i])
        cost = loop_softmax_cost(q[i], p[i], [p[j] for j in others] + extra, t)
        if symmetric:
            cost = (cost + loop_softmax_cost(p[i], q[i], [q[j] for j in others], t)) / 2
        costs.append(cost)
    return torch.stack(costs)


def loop_nt_xent(z1: Tensor, z2: Tensor, t: Tensor, mask: Tensor) -> Tensor:
    views = [*loop_unit(z1), *loop_unit(z2)]
    size = len(z1)
    costs = []
    for i in range(2 * size):
        partner = (i + size) % (2 * size)
        wrong = [views[k] for k in range(2 * size) if k not in (i, partner) and mask[k % size]]
        cost = loop_softmax_cost(views[i], views[partner], wrong, t)
        costs.append(cost if mask[i % size] else torch.zeros((), dtype=t.dtype))
    return torch.stack(costs).reshape(2, size)


@pytest.mark.parametrize("distance", DISTANCES)
@pytest.mark.parametrize("margin", [0.0, 0.5, 1.0, 2.5])
def test_contrastive_equals_the_formula(margin: float, distance: str) -> None:
    for seed in SEEDS:
        x1, x2 = random(seed, 7, 3), random(100 + seed, 7, 3)
        same = random_mask(seed, 7)
        theirs = []
        for i in range(7):
            d = loop_distance(x1[i], x2[i], distance)
            gap = margin - d if d < margin else 0 * d
            theirs.append(d * d / 2 if same[i] else gap * gap / 2)
        knobs = {"margin": margin, "distance": distance, "reduction": "none"}
        for label in (same, same.long(), same.double()):
            assert_same(contrastive(x1, x2, label, **knobs), torch.stack(theirs), x1, x2)


@pytest.mark.parametrize("distance", DISTANCES)
@pytest.mark.parametrize("margin", [0.0, 0.2, 1.0, 2.5])
def test_triplet_equals_the_formula(margin: float, distance: str) -> None:
    for seed in SEEDS:
        a, p, n = points = [random(100 * k + seed, 7, 3) for k in range(3)]
        theirs = []
        for i in range(7):
            gap = loop_distance(a[i], p[i], distance) - loop_distance(a[i], n[i], distance)
            theirs.append(gap + margin if gap + margin > 0 else 0 * gap)
        ours = triplet(a, p, n, margin=margin, distance=distance, reduction="none")
        assert_same(ours, torch.stack(theirs), *points)


@pytest.mark.parametrize("extra", [None, "shared", "own"])
@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("normalize", [False, True])
@pytest.mark.parametrize("masked", [False, True])
def test_info_nce_equals_the_formula(
    masked: bool, normalize: bool, symmetric: bool, extra: str | None
) -> None:
    for seed in SEEDS:
        inputs = [random(seed, 5, 3), random(100 + seed, 5, 3)]
        if extra is not None:
            shape = (2, 3) if extra == "shared" else (5, 2, 3)
            inputs.append(random(200 + seed, *shape))
        negatives = None if extra is None else inputs[2]
        mask = random_mask(seed, 5) if masked else torch.ones(5, dtype=torch.bool)
        t = torch.tensor((0.3, 1.0, 2.0)[seed % 3], dtype=torch.float64, requires_grad=True)
        knobs = {"symmetric": symmetric, "normalize": normalize}
        ours = info_nce(
            *inputs, temperature=t, mask=mask if masked else None, reduction="none", **knobs
        )
        theirs = loop_info_nce(inputs[0], inputs[1], negatives, t, mask=mask, **knobs)
        assert_same(ours, theirs, *inputs, t)


@pytest.mark.parametrize("masked", [False, True])
def test_nt_xent_equals_the_formula(masked: bool) -> None:
    for seed in SEEDS:
        z1, z2 = random(seed, 5, 3), random(100 + seed, 5, 3)
        mask = random_mask(seed, 5) if masked else torch.ones(5, dtype=torch.bool)
        t = torch.tensor((0.2, 0.5, 2.0)[seed % 3], dtype=torch.float64, requires_grad=True)
        ours = nt_xent(z1, z2, temperature=t, mask=mask if masked else None, reduction="none")
        assert_same(ours, loop_nt_xent(z1, z2, t, mask), z1, z2, t)


# ---------------------------------------------------------------------------- values by hand


def test_values_by_hand() -> None:
    origin, far = torch.zeros(1, 2), torch.tensor([[3.0, 4.0]])
    right, up = torch.tensor([[2.0, 0.0]]), torch.tensor([[0.0, 7.0]])
    yes, no = torch.tensor([True]), torch.tensor([False])
    rows, columns = torch.tensor([[1.0], [2.0]]), torch.tensor([[3.0], [4.0]])
    raw = {"normalize": False, "temperature": 1.0}
    eye = torch.eye(3)
    cases = [
        (contrastive(origin, far, yes), 5**2 / 2),
        (contrastive(origin, far, yes, distance="squared_euclidean"), 25**2 / 2),
        (contrastive(right, up, yes, distance="cosine"), 1 / 2),
        (contrastive(origin, far, no, margin=7.0), (7 - 5) ** 2 / 2),
        (contrastive(origin, far, no), 0.0),
        (triplet(origin, far, right, margin=0.2), 5 - 2 + 0.2),
        (triplet(origin, right, far, distance="squared_euclidean", margin=22.0), 4 - 25 + 22),
        (triplet(right, up, right, distance="cosine", margin=0.5), 1 - 0 + 0.5),
        (triplet(origin, right, far), 0.0),
        # Similarities [[3, 4], [6, 8]]: along the rows, and along the columns as well.
        (info_nce(rows, columns, **raw), (log(1 + exp(1)) + log(1 + exp(-2))) / 2),
        (
            info_nce(rows, columns, symmetric=True, **raw),
            (log(1 + exp(1)) + log(1 + exp(-2)) + log(1 + exp(3)) + log(1 + exp(-4))) / 4,
        ),
        (info_nce(eye, 9 * eye, temperature=0.5), log(1 + 2 * exp(-1 / 0.5))),
        (info_nce(eye, eye, -eye, temperature=0.5), log(1 + (4 * exp(0) + exp(-2)) / exp(2))),
        (info_nce(eye[:1], eye[:1], eye[None], temperature=1.0), log(2 + 2 * exp(-1))),
        (nt_xent(eye, eye, temperature=0.5), log(1 + 4 * exp(-1 / 0.5))),
        (nt_xent(eye[:2], eye[1:], temperature=1.0), (log(2 + exp(1)) + log(3)) / 2),
    ]
    for i, (value, want) in enumerate(cases):
        assert value.item() == pytest.approx(want, rel=1e-6, abs=1e-7), i


def test_a_weight_of_nt_xent_is_for_both_views_and_leaves_the_count() -> None:
    z1, z2 = random(1, 4, 3), random(2, 4, 3)
    weight = torch.tensor([1.0, 0.0, 2.0, 5.0], dtype=torch.float64)
    rows = nt_xent(z1, z2, reduction="none")
    assert rows.shape == (2, 4)
    torch.testing.assert_close(nt_xent(z1, z2, weight=weight), (rows * weight).sum() / 8)


# ------------------------------------------------------------------- ties to known objectives


def test_contrastive_is_hadsells_equation_with_the_label_turned_round() -> None:
    x1, x2, same = random(3, 20, 2, scale=0.5), random(4, 20, 2, scale=0.5), random_mask(3, 20)
    for margin in (0.5, 1.0, 2.0):
        distance, y = (
            (x1 - x2).norm(dim=-1),
            1.0 - same.double(),
        )  # his Y is 1 for a dissimilar pair
        hadsell = (1 - y) * 0.5 * distance**2 + y * 0.5 * (margin - distance).clamp(min=0) ** 2
        assert_same(contrastive(x1, x2, same, margin=margin), hadsell.mean(), x1, x2)
    everything = torch.ones(20, dtype=torch.bool)
    assert_same(contrastive(x1, x2, everything), 0.5 * (x1 - x2).square().sum() / 20, x1, x2)


def test_contrastive_is_not_the_swapped_formula() -> None:
    # y max(0, D^2 - m^2) + (1 - y) D^2 pulls together what is apart and lets go what is together.
    start = torch.zeros(2, 2)
    end = torch.tensor([[0.6, 0.0], [0.4, 0.0]], requires_grad=True)
    same, y = torch.tensor([True, False]), torch.tensor([1.0, 0.0])
    squared = (end - start).square().sum(dim=-1)
    swapped = (y * (squared - 1.0).clamp(min=0) + (1 - y) * squared).sum()
    (wrong,) = torch.autograd.grad(swapped, end)
    (ours,) = torch.autograd.grad(contrastive(start, end, same, reduction="sum"), end)
    assert wrong[:, 0].tolist() == pytest.approx([0.0, 2 * 0.4])
    # D for the pair that belongs together (in), D - m for the other (out).
    assert ours[:, 0].tolist() == pytest.approx([0.6, 0.4 - 1.0])


def test_triplet_equals_torch_up_to_the_eps_that_torch_adds() -> None:
    for seed, margin in itertools.product(SEEDS, (0.2, 1.0)):
        a, p, n = points = [random(100 * k + seed, 9, 4) for k in range(3)]
        ours = triplet(a, p, n, margin=margin, reduction="none")
        plain = F.triplet_margin_loss(a, p, n, margin=margin, eps=0.0, reduction="none")
        assert_same(ours, plain, *points)
        # eps on each of d coordinates moves a distance by at most eps sqrt(d); there are two.
        theirs = torch.nn.TripletMarginLoss(margin=margin, reduction="none")(a, p, n)
        assert (ours - theirs).abs().max() <= 2 * 1e-6 * math.sqrt(4)
        squared = torch.nn.TripletMarginWithDistanceLoss(
            distance_function=lambda x, y: (x - y).square().sum(dim=-1), margin=margin
        )
        assert_same(
            triplet(a, p, n, margin=margin, distance="squared_euclidean"), squared(a, p, n), *points
        )


def test_triplet_is_the_hinge_of_the_difference_of_distances() -> None:
    a, p, n = (random(seed, 9, 4) for seed in range(3))
    lead = (a - n).norm(dim=-1) - (a - p).norm(dim=-1)
    assert_same(triplet(a, p, n), lm.hinge(lead, torch.ones_like(lead)), a, p, n)


@pytest.mark.parametrize("normalize", [False, True])
def test_info_nce_is_cross_entropy_of_the_similarities(normalize: bool) -> None:
    q, p, t = random(5, 6, 4), random(6, 6, 4), 0.3
    one, other = (F.normalize(x, dim=-1) if normalize else x for x in (q, p))
    logits, diagonal = one @ other.T / t, torch.arange(6)
    knobs = {"temperature": t, "normalize": normalize}
    forward, backward = F.cross_entropy(logits, diagonal), F.cross_entropy(logits.T, diagonal)
    assert_same(info_nce(q, p, **knobs), forward, q, p)
    clip = (forward + backward) / 2
    assert_same(info_nce(q, p, symmetric=True, **knobs), clip, q, p)


def test_info_nce_of_one_query_is_cross_entropy_over_its_own_candidates() -> None:
    q, p, negatives = random(7, 1, 4), random(8, 1, 4), random(9, 6, 4)
    candidates = torch.cat([p, negatives])
    similarity = F.cosine_similarity(q, candidates, dim=-1).unsqueeze(0)
    want = F.cross_entropy(similarity / 0.2, torch.tensor([0]))
    for form in (negatives, negatives.unsqueeze(0)):
        assert_same(info_nce(q, p, form, temperature=0.2), want, q, p, negatives)


def test_nt_xent_is_info_nce_of_each_view_among_all_others() -> None:
    z1, z2 = random(10, 4, 3), random(11, 4, 3)
    views = torch.cat([z1, z2])
    theirs = []
    for i in range(8):
        j = (i + 4) % 8
        rest = torch.stack([views[k] for k in range(8) if k not in (i, j)])
        theirs.append(info_nce(views[i : i + 1], views[j : j + 1], rest, temperature=0.5))
    assert_same(nt_xent(z1, z2), torch.stack(theirs).mean(), z1, z2)


def test_a_batch_of_one_has_no_wrong_candidate() -> None:
    for loss in (nt_xent, info_nce):
        x, y = random(12, 1, 3), random(13, 1, 3)
        value = loss(x, y)
        assert value.item() == 0.0
        for slope in torch.autograd.grad(value, (x, y)):
            assert slope.abs().max() == 0.0
    empty = torch.zeros(2, 0, 3)  # no explicit negatives is none
    q = torch.eye(2, 3)
    torch.testing.assert_close(info_nce(q, q, empty), info_nce(q, q))


def test_a_masked_row_is_as_if_it_were_not_there() -> None:
    q, p = random(14, 6, 3), random(15, 6, 3)
    shared, own = random(16, 2, 3), random(17, 6, 2, 3)
    mask = torch.tensor([True, False, True, True, False, True])
    for negatives in (None, shared, own):
        kept = negatives[mask] if negatives is own else negatives
        for symmetric in (False, True):
            ours = info_nce(q, p, negatives, symmetric=symmetric, mask=mask)
            assert_same(ours, info_nce(q[mask], p[mask], kept, symmetric=symmetric), q, p)
    assert_same(nt_xent(q, p, mask=mask), nt_xent(q[mask], p[mask]), q, p)
