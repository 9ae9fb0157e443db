from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from lossmith.kernels.dot_scores import dot_scores
from lossmith.kernels.known_items import KnownItems
from lossmith.kernels.violators import Violators, sample_violators
from lossmith.losses.recommendation import warp

METHODS = ("rounds", "at_once", "closed_form")


@pytest.mark.parametrize("redraw", [False, True])
@pytest.mark.parametrize("method", METHODS)
class TestEdges:
    @staticmethod
    def run(
        method: str, redraw: bool, scores: Tensor, positive: Tensor, **more: object
    ) -> Violators:
        return sample_violators(
            scores,
            positive,
            num_items=scores.shape[1],
            method=method,
            redraw_known=redraw,
            generator=torch.Generator().manual_seed(0),
            **more,
        )

    def test_two_items(self, method: str, redraw: bool) -> None:
        scores = torch.zeros(500, 2)
        found = self.run(method, redraw, scores, torch.ones(500, dtype=torch.long), max_trials=60)
        assert bool(found.found.all())
        assert found.item.eq(0).all()
        # Drawing the positive uses up a trial under one rule and does not count under the other.
        assert bool((found.trials == 1).all()) is redraw

    def test_all_items_known(self, method: str, redraw: bool) -> None:
        scores = torch.randn(20, 6, generator=torch.Generator().manual_seed(1))
        known = torch.ones(20, 6, dtype=torch.bool)
        for positive in (torch.zeros(20, dtype=torch.long), torch.zeros(20)):
            found = self.run(method, redraw, scores, positive, known=known, max_trials=7)
            assert not bool(found.found.any())
            assert found.item.eq(0).all()
            assert found.trials.eq(7).all()

    def test_all_items_but_the_positive_known(self, method: str, redraw: bool) -> None:
        known = torch.ones(20, 6, dtype=torch.bool)
        known[:, 2] = False
        positive = torch.full((20,), 2)
        found = self.run(method, redraw, torch.zeros(20, 6), positive, known=known)
        assert not bool(found.found.any())

    def test_no_violator(self, method: str, redraw: bool) -> None:
        scores = torch.zeros(20, 6)
        scores[:, 4] = 5.0
        found = self.run(method, redraw, scores, torch.full((20,), 4), max_trials=7)
        assert not bool(found.found.any())
        assert found.trials.eq(7).all()

    def test_a_tie_with_the_margin_is_no_violator(self, method: str, redraw: bool) -> None:
        scores = torch.tensor([[1.5, 0.5, 0.5]]).repeat(20, 1)
        zeros = torch.zeros(20, dtype=torch.long)
        assert not bool(self.run(method, redraw, scores, zeros).found.any())
        assert bool(self.run(method, redraw, scores, zeros, margin=1.25).found.all())

    def test_as_many_trials_as_other_items(self, method: str, redraw: bool) -> None:
        scores = torch.zeros(400, 11)
        scores[:200, 0] = 9.0
        scores[200:, 0] = 0.5
        positive = torch.zeros(400, dtype=torch.long)
        scores[200:, 2:] = -9.0
        found = self.run(method, redraw, scores, positive, max_trials=10)
        assert not bool(found.found[:200].any())
        assert 0 < int(found.found[200:].sum()) < 200
        value = warp(
            scores[:, 0],
            scores.gather(1, found.item.unsqueeze(-1)),
            num_items=11,
            trials=found.trials.unsqueeze(-1),
            mask=found.found.unsqueeze(-1),
            reduction="none",
        )
        assert bool(value.isfinite().all())
        assert value[:200].eq(0).all()

    def test_a_nan_is_handed_on_to_the_loss(self, method: str, redraw: bool) -> None:
        scores = torch.zeros(5, 4)
        scores[2] = math.nan
        found = self.run(method, redraw, scores, torch.zeros(5, dtype=torch.long))
        assert bool(found.found[2])

    def test_no_rows(self, method: str, redraw: bool) -> None:
        found = self.run(method, redraw, torch.zeros(0, 4), torch.zeros(0, dtype=torch.long))
        assert [tuple(field.shape) for field in found] == [(0,)] * 3

    def test_half_precision_scores_are_compared_in_float32(self, method: str, redraw: bool) -> None:
        # In float16, 2048.5 - 1 and 2047.5 cannot be told from their neighbours.
        scores = torch.tensor([[2048.0, 2047.0]], dtype=torch.float16)
        found = self.run(method, redraw, scores, torch.zeros(1, dtype=torch.long), margin=1.25)
        assert bool(found.found.all())


def test_errors_of_the_sampler_say_what_to_do() -> None:
    scores, positive = torch.zeros(3, 5), torch.zeros(3, dtype=torch.long)

    def call(
        score: Tensor | Callable = scores, positive: Tensor = positive, **more: object
    ) -> None:
        sample_violators(score, positive, **{"num_items": 5, **more})

    with pytest.raises(ValueError, match=r"score\(rows \(3,\), items \(3, 1\)\).*got \(3,\)"):
        call(lambda rows, items: items[:, 0].float())
    with pytest.raises(ValueError, match=r"positive \(3, 1\) must be a vector"):
        call(positive=positive.unsqueeze(-1))
    with pytest.raises(ValueError, match=r"positive\[1\] is 5; expected an item index in \[0, 4\]"):
        call(positive=torch.tensor([0, 5, 0]))
    with pytest.raises(ValueError, match=r"scores \(3, 5\) must be a table \[3, 6\]"):
        call(num_items=6)
    with pytest.raises(ValueError, match="method='loop' is not a choice"):
        call(method="loop")
    with pytest.raises(ValueError, match="max_trials must be at least 1"):
        call(max_trials=0)
    with pytest.raises(ValueError, match=r"known \(2, 5\) must be a table .* \(3, 5\)"):
        call(known=torch.zeros(2, 5, dtype=torch.bool))
    with pytest.raises(TypeError, match="known must be bool"):
        call(known=torch.zeros(3, 5))
    known = KnownItems(torch.tensor([0]), torch.tensor([4]), num_items=5)
    with pytest.raises(ValueError, match=r"try known=known\.rows\(users\)"):
        call(known=known)
    with pytest.raises(ValueError, match="made for 2 users; the batch has 3 rows"):
        call(known=known.rows(torch.tensor([0, 1])))
    with pytest.raises(ValueError, match="known is about 5 items; num_items is 6"):
        call(lambda rows, items: items.float(), num_items=6, known=known.rows(positive))


def test_errors_of_dot_scores_say_what_to_do() -> None:
    with pytest.raises(
        ValueError, match=r"users \(3, 2\) must be \[B, d\] and item_vectors \(5, 4\)"
    ):
        dot_scores(torch.zeros(3, 2), torch.zeros(5, 4))
    with pytest.raises(
        ValueError, match=r"item_bias \(4,\) must hold one number for each of the 5"
    ):
        dot_scores(torch.zeros(3, 2), torch.zeros(5, 2), torch.zeros(4))
