"""Objectives for labelled embeddings and for structured batches, from their formulas in loops."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import Tensor

import lossmith as lm

SIZE, WIDTH = 9, 4
LABELS = torch.tensor([3, 5, 3, 8, 5, 3, 8, 2, 5])
MASK = torch.tensor([True, True, True, True, False, True, True, True, True])
SEEDS = range(3)


def random(seed: int, *shape: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64).requires_grad_()


def assert_same(ours: Tensor, theirs: Tensor, *inputs: Tensor) -> None:
    torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)
    direction = torch.arange(1.0, ours.numel() + 1, dtype=ours.dtype).reshape(ours.shape)
    ours_slope = torch.autograd.grad((ours * direction).sum(), inputs, retain_graph=True)
    their_slope = torch.autograd.grad((theirs * direction).sum(), inputs, retain_graph=True)
    torch.testing.assert_close(ours_slope, their_slope, rtol=1e-8, atol=1e-9)


def unit(rows: Tensor) -> list[Tensor]:
    return [row / (row * row).sum().sqrt() for row in rows]


def companions(i: int, mask: Tensor) -> list[int]:
    return [j for j in range(SIZE) if j != i and mask[j] and LABELS[j] == LABELS[i]]


def others(i: int, mask: Tensor) -> list[int]:
    return [j for j in range(SIZE) if mask[j] and LABELS[j] != LABELS[i]]


def stack(z: Tensor, costs: list[Tensor | None]) -> Tensor:
    return torch.stack([0 * z.sum() if c is None else c for c in costs])


@pytest.mark.parametrize("mask", [None, MASK])
@pytest.mark.parametrize("seed", SEEDS)
def test_sup_con_equals_the_formula(seed: int, mask: Tensor | None) -> None:
    z, t, real = random(seed, SIZE, WIDTH), 0.3, MASK if mask is not None else MASK | True
    u = unit(z)
    costs: list[Tensor | None] = []
    for i in range(SIZE):
        positives = companions(i, real) if real[i] else []
        if not positives:
            costs.append(None)
            continue
        everyone = sum((u[i] @ u[k] / t).exp() for k in [*positives, *others(i, real)])
        terms = [((u[i] @ u[p] / t).exp() / everyone).log() for p in positives]
        costs.append(-sum(terms) / len(positives))
    theirs = stack(z, costs)
    assert_same(lm.sup_con(z, LABELS, temperature=t, mask=mask, reduction="none"), theirs, z)
    count = sum(c is not None for c in costs)
    assert_same(lm.sup_con(z, LABELS, temperature=t, mask=mask), theirs.sum() / count, z)


@pytest.mark.parametrize("mining", [None, 0.1, -0.3])
@pytest.mark.parametrize("seed", SEEDS)
def test_multi_similarity_equals_the_formula(seed: int, mining: float | None) -> None:
    z, a, b, base = random(seed, SIZE, WIDTH), 2.0, 7.0, 0.4
    u = unit(z)
    costs: list[Tensor | None] = []
    for i in range(SIZE):
        if not MASK[i]:
            costs.append(None)
            continue
        positive = [u[i] @ u[j] for j in companions(i, MASK)]
        negative = [u[i] @ u[j] for j in others(i, MASK)]
        if mining is not None:
            hardest = min((s.item() for s in positive), default=math.inf)
            nearest = max((s.item() for s in negative), default=-math.inf)
            negative = [s for s in negative if s.item() > hardest - mining]
            positive = [s for s in positive if s.item() < nearest + mining]
        pull = sum(((-a * (s - base)).exp() for s in positive), 0 * z.sum())
        push = sum(((b * (s - base)).exp() for s in negative), 0 * z.sum())
        costs.append((1 + pull).log() / a + (1 + push).log() / b)
    ours = lm.multi_similarity(
        z, LABELS, alpha=a, beta=b, base=base, mining_margin=mining, mask=MASK, reduction="none"
    )
    assert_same(ours, stack(z, costs), z)


@pytest.mark.parametrize("seed", SEEDS)
def test_circle_equals_the_formula(seed: int) -> None:
    z, m, g = random(seed, SIZE, WIDTH), 0.25, 6.0
    u = unit(z)
    costs: list[Tensor | None] = []
    for i in range(SIZE):
        pull = push = None
        for j in companions(i, MASK) if MASK[i] else []:
            s = u[i] @ u[j]
            term = (-g * (1 + m - s.detach()).clamp(min=0) * (s - (1 - m))).exp()
            pull = term if pull is None else pull + term
        for j in others(i, MASK):
            s = u[i] @ u[j]
            term = (g * (s.detach() + m).clamp(min=0) * (s - m)).exp()
            push = term if push is None else push + term
        costs.append(None if pull is None or push is None else (1 + push * pull).log())
    ours = lm.circle(z, LABELS, margin=m, gamma=g, mask=MASK, reduction="none")
    assert_same(ours, stack(z, costs), z)


def between(x: Tensor, y: Tensor, kind: str) -> Tensor:
    if kind == "cosine":
        return 1 - (x @ y) / ((x @ x) * (y @ y)).sqrt()
    squared = ((x - y) ** 2).sum()
    return squared.sqrt() if kind == "euclidean" else squared


@pytest.mark.parametrize("distance", ["euclidean", "squared_euclidean", "cosine"])
@pytest.mark.parametrize("seed", SEEDS)
def test_mined_triplets_equal_the_formulas(seed: int, distance: str) -> None:
    z, m = random(seed, SIZE, WIDTH), 0.4
    everything: list[Tensor | None] = []
    semi: list[Tensor | None] = []
    hard: list[Tensor | None] = []
    triplets = pairs = anchors = 0
    for i in range(SIZE):
        positive = companions(i, MASK) if MASK[i] else []
        near = [between(z[i], z[j], distance) for j in positive]
        far = [between(z[i], z[j], distance) for j in others(i, MASK)]
        if not near or not far:
            for costs in (everything, semi, hard):
                costs.append(None)
            continue
        anchors, pairs = anchors + 1, pairs + len(near)
        triplets += len(near) * len(far)
        terms = [(p - n + m).clamp(min=0) for p, n in itertools.product(near, far)]
        everything.append(torch.stack(terms).sum())
        hard.append((max(near, key=Tensor.item) - min(far, key=Tensor.item) + m).clamp(min=0))
        chosen = []
        for p in near:
            enough = [n for n in far if n.item() >= p.item()]
            n = min(enough, key=Tensor.item) if enough else max(far, key=Tensor.item)
            chosen.append((p - n + m).clamp(min=0))
        semi.append(torch.stack(chosen).sum())
    for loss, costs, count in (
        (lm.batch_all_triplet, everything, triplets),
        (lm.batch_semi_hard_triplet, semi, pairs),
        (lm.batch_hard_triplet, hard, anchors),
    ):
        known = {"margin": m, "distance": distance, "mask": MASK}
        theirs = stack(z, costs)
        assert_same(loss(z, LABELS, reduction="none", **known), theirs, z)
        assert_same(loss(z, LABELS, **known), theirs.sum() / count, z)


@pytest.mark.parametrize("seed", SEEDS)
def test_sigmoid_contrastive_equals_the_formula(seed: int) -> None:
    q, p, t, b = random(seed, SIZE, WIDTH), random(9 + seed, SIZE, WIDTH), 0.3, -1.5
    u, v = unit(q), unit(p)
    for known in ({}, {"ids": LABELS}, {"ignore_pairs": torch.tensor([[0, 1], [7, 2]])}):
        dropped = {tuple(pair) for pair in known.get("ignore_pairs", torch.empty(0, 2)).tolist()}
        costs: list[Tensor | None] = []
        for i in range(SIZE):
            if not MASK[i]:
                costs.append(None)
                continue
            cost = (1 + (-(u[i] @ v[i] / t + b)).exp()).log()
            for j in range(SIZE):
                same = "ids" in known and LABELS[i] == LABELS[j]
                if j != i and MASK[j] and not same and (i, j) not in dropped:
                    cost = cost + (1 + (u[i] @ v[j] / t + b).exp()).log()
            costs.append(cost)
        ours = lm.sigmoid_contrastive(
            q, p, temperature=t, bias=b, mask=MASK, reduction="none", **known
        )
        assert_same(ours, stack(q, costs), q, p)


def test_without_a_bias_a_model_that_knows_nothing_says_yes_as_often_as_is_right() -> None:
    q, p = torch.zeros(2, SIZE, WIDTH)  # every logit is the bias
    for mask, others in ((None, SIZE - 1), (MASK, int(MASK.sum()) - 1)):
        own, other = math.log(1 + others), math.log(1 + 1 / others)
        want = torch.full((SIZE,), own + others * other)
        want = want if mask is None else want * mask
        ours = lm.sigmoid_contrastive(q, p, mask=mask, reduction="none")
        torch.testing.assert_close(ours, want)
    alone = lm.sigmoid_contrastive(q[:1], p[:1])
    torch.testing.assert_close(alone, torch.tensor(math.log(2)))  # nobody else: no bias


@pytest.mark.parametrize("symmetric", [False, True])
def test_structured_info_nce_equals_the_formula(symmetric: bool) -> None:
    q, p, extra = random(1, SIZE, WIDTH), random(2, SIZE, WIDTH), random(3, SIZE, 2, WIDTH)
    teacher = random(4, SIZE, SIZE).detach()
    ragged = torch.rand(SIZE, 2, generator=torch.Generator().manual_seed(5)) < 0.6
    log_q = -random(6, SIZE).detach().abs()
    pairs, t, limit = torch.tensor([[0, 1], [7, 2], [2, 8]]), 0.3, 0.2
    dropped = {tuple(pair) for pair in pairs.tolist()}
    u, v, w = unit(q), unit(p), [unit(rows) for rows in extra]

    def score(i: int, j: int, backwards: bool) -> Tensor:
        return u[j] @ v[i] / t if backwards else u[i] @ v[j] / t - log_q[j]

    def cost(i: int, backwards: bool) -> Tensor:
        mass = score(i, i, backwards).exp()
        for j in range(SIZE):
            pair = (j, i) if backwards else (i, j)
            above = teacher[pair] > teacher[i, i] - limit
            copy = LABELS[i] == LABELS[j]
            if j != i and MASK[j] and not copy and not above and pair not in dropped:
                mass = mass + score(i, j, backwards).exp()
        if not backwards:
            mass = mass + sum((u[i] @ w[i][k] / t).exp() for k in range(2) if bool(ragged[i, k]))
        return mass.log() - score(i, i, backwards)

    sides = (False, True) if symmetric else (False,)
    costs = [sum(cost(i, s) for s in sides) / len(sides) if MASK[i] else None for i in range(SIZE)]
    known = {"ids": LABELS, "guide": teacher, "log_q": log_q, "ignore_pairs": pairs}
    ours = lm.info_nce(
        q,
        p,
        extra,
        temperature=t,
        guide_margin=limit,
        negatives_mask=ragged,
        mask=MASK,
        symmetric=symmetric,
        reduction="none",
        **known,
    )
    assert_same(ours, stack(q, costs), q, p, extra)


def test_several_positives_share_the_cost() -> None:
    q, p, t = random(1, SIZE, WIDTH), random(2, SIZE, WIDTH), 0.3
    logs = (torch.stack(unit(q)) @ torch.stack(unit(p)).T / t).log_softmax(dim=1)
    same = LABELS.unsqueeze(1) == LABELS
    theirs = -(logs * same).sum(dim=1) / same.sum(dim=1)
    ours = lm.info_nce(q, p, ids=LABELS, same_id="positive", temperature=t, reduction="none")
    assert_same(ours, theirs, q, p)


def test_limit_cases() -> None:
    z1, z2 = random(1, 5, WIDTH), random(2, 5, WIDTH)
    both, label = torch.cat([z1, z2]), torch.arange(5).repeat(2)
    assert_same(lm.sup_con(both, label, temperature=0.2), lm.nt_xent(z1, z2, temperature=0.2), z1)
    a, p, n = random(3, 3, WIDTH)
    three, label = torch.stack([a, p, n]), torch.tensor([1, 1, 2])
    want = (lm.triplet(a, p, n) + lm.triplet(p, a, n)) / 2
    for loss in (lm.batch_hard_triplet, lm.batch_semi_hard_triplet, lm.batch_all_triplet):
        torch.testing.assert_close(loss(three, label), want)
    q, k = random(4, 1, WIDTH), random(5, 1, WIDTH)
    cosine = torch.nn.functional.cosine_similarity(q, k)
    yes = lm.binary_cross_entropy(cosine / 0.1 - 10.0, torch.ones(1))
    torch.testing.assert_close(lm.sigmoid_contrastive(q, k, bias=-10.0), yes)
    u = torch.stack(unit(three))
    ms = lm.multi_similarity(three, label, alpha=3.0, beta=3.0, base=0.0, mining_margin=None,
                             reduction="none")  # fmt: skip
    cost = ((1 + (-3 * u[0] @ u[1]).exp()).log() + (1 + (3 * u[0] @ u[2]).exp()).log()) / 3
    torch.testing.assert_close(ms[0], cost)
    m, g, (s_p, s_n) = 0.4, 80.0, (u[0] @ u[1], u[0] @ u[2])
    gap = g * (s_n + m).clamp(min=0) * (s_n - m) - g * (1 + m - s_p).clamp(min=0) * (s_p - 1 + m)
    torch.testing.assert_close(
        lm.circle(three, label, reduction="none")[0], torch.nn.functional.softplus(gap)
    )


def test_one_label_or_one_row_of_each_costs_what_it_should() -> None:
    z = random(1, 4, WIDTH)
    one, each = torch.zeros(4, dtype=torch.long), torch.arange(4)
    assert lm.sup_con(z, one).item() > 0  # the companions compete with one another
    assert lm.sup_con(z, each).item() == 0
    for loss in (lm.circle, lm.batch_all_triplet, lm.batch_hard_triplet,
                 lm.batch_semi_hard_triplet):  # fmt: skip
        for label in (one, each):
            value = loss(z, label)
            assert value.item() == 0
            assert torch.autograd.grad(value, z)[0].abs().max() == 0


def test_identical_rows_have_finite_gradients() -> None:
    z = torch.ones(6, WIDTH, requires_grad=True)
    label = torch.tensor([0, 0, 1, 1, 2, 2])
    for loss in (lm.sup_con, lm.multi_similarity, lm.circle, lm.batch_all_triplet,
                 lm.batch_hard_triplet, lm.batch_semi_hard_triplet):  # fmt: skip
        value = loss(z, label)
        assert value.isfinite()
        assert torch.autograd.grad(value, z)[0].isfinite().all()


Q = torch.eye(3)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: lm.sup_con(Q, torch.zeros(3)), TypeError, "labels must be of an integer type"),
        (lambda: lm.sup_con(Q, torch.zeros(2).long()), ValueError, r"labels \(2,\) must have"),
        (lambda: lm.circle(Q[0], torch.zeros(()).long()), ValueError, r"embeddings \(3,\) must be"),
        (lambda: lm.info_nce(Q, Q, ids=torch.zeros(3)), TypeError, "ids must be of an integer"),
        (lambda: lm.info_nce(Q, Q, log_q=torch.zeros(2)), ValueError, r"log_q \(2,\) must hold"),
        (lambda: lm.info_nce(Q, Q, guide=Q[:2]), ValueError, r"guide \(2, 3\) must hold the"),
        (lambda: lm.info_nce(Q, Q, guide=(Q, Q[:2])), ValueError, "guide_queries"),
        (
            lambda: lm.info_nce(Q, Q, ignore_pairs=torch.tensor([[0, 3]])),
            ValueError,
            r"ignore_pairs\[0, 1\] is 3; expected a row of the batch in \[0, 2\]",
        ),
        (lambda: lm.info_nce(Q, Q, negatives_mask=Q > 0), ValueError, "give negatives too"),
        (
            lambda: lm.info_nce(Q, Q, ids=torch.arange(3), same_id="positive", guide=Q),
            ValueError,
            "same_id='positive' takes no guide",
        ),
        (lambda: lm.info_nce(Q, Q, same_id="drop"), ValueError, "same_id='drop' is not a choice"),
    ],
)
def test_errors_name_what_is_wrong(call, error, message) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(error, match=message):
        call()
