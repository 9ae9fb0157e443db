"""WARP's engine: rank weights, and the search for the first violating negative.

Given the parameters, the draws of the one-at-a-time sampler are independent and do not depend on
when it stops. So drawing many candidates at once and keeping the first violator in draw order
has exactly its law; stopping early saves cost and changes nothing else.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from lossmith.core.numerics import upcast
from lossmith.core.validate import (
    check_choice,
    check_range,
    check_values,
    check_whole_number,
    shape_text,
)
from lossmith.kernels.dot_scores import DotScores
from lossmith.kernels.known_items import KnownItems

Weighting = Literal["log", "harmonic"]
Method = Literal["rounds", "at_once", "closed_form"]
Score = Callable[[Tensor, Tensor], Tensor]

EULER_GAMMA = 0.57721566490153286061
# Draws scored in one round: what a round holds in memory is this many item vectors.
ROUND_DRAWS = 1 << 16
# Draws of the first round. A round costs what it costs however few it draws.
FIRST_DRAWS = 4


def rank_weight(rank: Tensor, weighting: Weighting, dtype: torch.dtype) -> Tensor:
    """What a (whole, estimated) rank costs: log(max(1, rank)) or 1 + 1/2 + ... + 1/rank.

    >>> rank_weight(torch.tensor([0, 1, 2]), "harmonic", torch.float64)
    tensor([0.0000, 1.0000, 1.5000], dtype=torch.float64)
    """
    check_choice("weighting", weighting, ("log", "harmonic"))
    positive = rank.clamp(min=1).to(dtype)
    if weighting == "log":
        return positive.log()
    return torch.where(rank > 0, torch.special.digamma(positive + 1.0) + EULER_GAMMA, 0.0)


def expected_rank_weight(
    violators: Tensor,
    num_items: int,
    *,
    max_trials: int | None,
    weighting: Weighting,
    dtype: torch.dtype = torch.float64,
) -> Tensor:
    """The mean weight over uniform draws when ``violators`` of ``num_items`` items violate.

    The number of trials K is geometric with p = violators / num_items, and the weight is that of
    rank floor((num_items - 1) / K), 0 past ``max_trials`` and past num_items - 1. The rank takes
    only some 2 sqrt(num_items) values, and over each of them the sum of the geometric series is
    known, so the expectation is exact at O(sqrt(num_items)) per row.

    >>> expected_rank_weight(torch.tensor([3]), 3, max_trials=None, weighting="log")  # log 2
    tensor([0.6931], dtype=torch.float64)
    """
    device, last = violators.device, num_items - 1
    rising = torch.arange(1, int(math.sqrt(last)) + 1, device=device)
    # The last K of every run of equal rank, in rising order; some stand there twice, harmlessly.
    ends = torch.cat([rising, last // rising.flip(0)])
    if max_trials is not None:
        ends = ends.clamp(max=max_trials)
    weight = rank_weight(last // ends, weighting, dtype)
    drop = weight - torch.cat([weight[1:], weight.new_zeros(len(weight[:1]))])
    log_miss = torch.log1p(-violators.to(dtype) / num_items)
    reached = -torch.expm1(log_miss.unsqueeze(-1) * ends)
    return (reached * drop).sum(dim=-1)


class Violators(NamedTuple):
    """The first violator of each row; where none was found, item 0 after all the trials."""

    item: Tensor
    trials: Tensor
    found: Tensor


@torch.no_grad()
def sample_violators(
    score: Score | Tensor,
    positive: Tensor,
    *,
    num_items: int,
    margin: float = 1.0,
    max_trials: int = 50,
    known: KnownItems | Tensor | None = None,
    redraw_known: bool = False,
    method: Method = "rounds",
    generator: torch.Generator | None = None,
) -> Violators:
    """Draw items uniformly until one scores above the positive's score minus the margin.

    The pairs (item, trials) have the law of WARP's one-at-a-time sampler for every method; only
    the cost differs. Nothing is differentiated: score ``item`` again with gradients and hand it
    to :func:`lossmith.warp` with ``trials`` and ``found``.

    Args:
        score: ``score(rows [R], items [R, k]) -> [R, k]`` (:func:`dot_scores` makes one), or the
            table of all scores ``[B, N]``.
        positive: the positive items ``[B]`` (integers), which are then never returned, or their
            scores ``[B]`` (floating point), where ``known`` must rule them out.
        num_items: N, the size of the catalogue that is drawn from.
        margin: how far below the positive an item still violates.
        max_trials: draws before a row is given up. LightFM's 10 hides most violators of a good
            model: with one violator among 400 items the expected log weight is .11, against .35
            with 50 and .66 without a limit. Rounds draw again for the unresolved rows alone, which
            makes 50 affordable.
        known: the known positives, which never violate: :class:`KnownItems` (by ``.rows(users)``
            of the batch) or a bool table ``[B, N]``.
        redraw_known: False, LightFM's rule: a known positive that is drawn uses up a trial. True,
            the rule of the WSABIE paper: it is drawn again and not counted, which means that
            draws are uniform over the true negatives.
        method: "rounds" draws 4, 12, 36, ... items for the rows still without a violator and
            waits on the device once a round; "at_once" draws max_trials for every row and does not
            wait for what it drew; "closed_form" takes all scores and draws the geometric number of
            trials and the violator directly, at the same cost for any max_trials.
        generator: the source of randomness; one of another device draws there.

    >>> scores = torch.tensor([[3.0, 0.0, 2.5], [9.0, 1.0, 2.0]])  # item 0 is liked by both
    >>> found = sample_violators(scores, torch.tensor([0, 0]), num_items=3, max_trials=100)
    >>> found.item, found.found
    (tensor([2, 0]), tensor([ True, False]))

    Source: Weston, Bengio, Usunier 2011 (WSABIE); Kula 2015 (LightFM).
    """
    check_choice("method", method, ("rounds", "at_once", "closed_form"))
    search = Search(
        score,
        positive,
        known,
        num_items=num_items,
        margin=margin,
        max_trials=max_trials,
        redraw_known=redraw_known,
        generator=generator,
    )
    if method == "closed_form":
        return search.closed_form()
    return search.by_draws(at_once=method == "at_once")[0]


class Search:
    """One call of :func:`sample_violators`: its inputs, checked, and the parts of the methods."""

    def __init__(
        self,
        score: Score | Tensor,
        positive: Tensor,
        known: KnownItems | Tensor | None,
        *,
        value: Tensor | None = None,  # the scores of positive items, where they are at hand
        num_items: int,
        margin: float,
        max_trials: int,
        redraw_known: bool,
        generator: torch.Generator | None,
    ) -> None:
        check_whole_number("num_items", num_items, 2)
        check_whole_number("max_trials", max_trials, 1)
        check_range("margin", margin, 0.0)
        if positive.dim() != 1:
            raise ValueError(
                f"positive {shape_text(positive)} must be a vector: one item, or score, a row."
            )
        self.num_items, self.max_trials = num_items, max_trials
        # Drawn where the generator is, so that a seed means the same on every device.
        where = positive.device if generator is None else generator.device
        self.source: dict[str, Any] = {"device": where, "generator": generator}
        self.rows = torch.arange(len(positive), device=positive.device)
        if isinstance(score, Tensor) and score.shape != (len(positive), num_items):
            raise ValueError(
                f"scores {shape_text(score)} must be a table [{len(positive)}, {num_items}], one "
                "score for every row and every one of the num_items items."
            )
        self.score = score
        self.known = _known_items(known, len(positive), num_items, positive.device)
        if positive.is_floating_point():
            # No item is its own: -1 is never drawn.
            self.own = torch.full_like(self.rows, -1).unsqueeze(-1)
            value = positive
        else:
            self.own = positive.long().unsqueeze(-1)
            if value is None:
                inside = (positive >= 0) & (positive < num_items)
                check_values("positive", positive, inside, f"an item index in [0, {num_items - 1}]")
                value = self.scores(self.rows, self.own).squeeze(-1)
        self.threshold = (upcast(value)[0] - margin).unsqueeze(-1)
        self.redraw_known = redraw_known
        self.negatives, self.own_place = self.true_negatives()

    def true_negatives(self) -> tuple[Tensor, Tensor]:
        """How many items are drawn from, and the positive's place among them (N: it has none)."""
        everything = torch.full_like(self.own, self.num_items)
        if not self.redraw_known:
            return everything, everything
        # The positive may stand outside the known items; then it is passed over as well.
        listed = self.known.contains(self.rows, self.own) | (self.own < 0)
        place = self.own - self.known.below(self.rows, self.own)
        count = everything - self.known.below(self.rows, everything) - (~listed).long()
        return count, torch.where(listed, everything, place)

    def by_draws(self, *, at_once: bool) -> tuple[Violators, Tensor]:
        """Draw, look, and draw again for the rows without a violator.

        Also how far above its threshold each violator scores: 0 where there is none.
        """
        rows, done, draws = self.rows, 0, self.max_trials if at_once else FIRST_DRAWS
        found = torch.zeros_like(self.own, dtype=torch.bool)
        item, trials, score = self.own, self.own, self.threshold  # of no rows, until a round ends
        while len(rows):
            if not at_once:
                draws = min(draws, max(1, ROUND_DRAWS // len(rows)), self.max_trials - done)
            items = self.draw(rows, draws)
            scores = self.scores(rows, items)
            # The place of the smallest is that of the first of equals.
            missed, first = self.harmless(rows, items, scores).min(dim=-1, keepdim=True)
            made = (items.gather(-1, first), first + (done + 1), scores.gather(-1, first))
            if done == 0:
                (item, trials, score), found = made, ~missed
            else:
                for column, part in zip((item, trials, score), made, strict=True):
                    column.index_copy_(0, rows, part)
                found.index_copy_(0, rows, ~missed)
            done += draws
            if done == self.max_trials:
                break
            rows, draws = rows.masked_select(missed.squeeze(-1)), 3 * draws
        missed = ~found
        excess = (score - self.threshold).masked_fill_(missed, 0.0).squeeze(-1)
        item, trials = item.masked_fill(missed, 0), trials.masked_fill(missed, self.max_trials)
        return Violators(item.squeeze(-1), trials.squeeze(-1), found.squeeze(-1)), excess

    def closed_form(self) -> Violators:
        """Draw the number of trials from its geometric law and the violator among all of them."""
        everything = torch.arange(self.num_items, device=self.rows.device)
        everything = everything.expand(len(self.rows), -1)
        if isinstance(self.score, DotScores):
            (scores,) = upcast(self.score.catalogue())
        else:
            scores = self.scores(self.rows, everything)
        violates = ~(scores <= self.threshold) & (everything != self.own)
        violates = violates & ~self.known.dense(self.rows)
        count = violates.sum(dim=-1)
        some = count.clamp(min=1)
        miss = torch.log1p(-some / self.negatives.squeeze(-1).clamp(min=1).double())
        u = torch.rand(len(count), dtype=torch.float64, **self.source).to(count.device)
        trials = (torch.log1p(-u) / miss).ceil().clamp(1, self.max_trials + 1).long()
        found = (count > 0) & (trials <= self.max_trials)
        place = 1 + self.below(some.unsqueeze(-1), 1)
        nth = violates.cumsum(dim=-1, dtype=torch.int32)
        item = torch.searchsorted(nth, place.to(torch.int32)).squeeze(-1)
        return Violators(
            torch.where(found, item, 0), torch.where(found, trials, self.max_trials), found
        )

    def scores(self, rows: Tensor, items: Tensor) -> Tensor:
        """The scores of ``items [R, k]``, in float32 at least."""
        if isinstance(self.score, Tensor):
            scores = self.score[rows.unsqueeze(-1), items]
        else:
            scores = self.score(rows, items)
        if scores.shape != items.shape:
            raise ValueError(
                f"score(rows {shape_text(rows)}, items {shape_text(items)}) must return one score "
                f"for each item, {shape_text(items)}; got {shape_text(scores)}."
            )
        return upcast(scores)[0]

    def harmless(self, rows: Tensor, items: Tensor, scores: Tensor) -> Tensor:
        """Which items do not violate. A NaN does, so that it shows in the loss."""
        threshold, own = self.threshold, self.own
        if rows is not self.rows:
            threshold, own = threshold.index_select(0, rows), own.index_select(0, rows)
        harmless = (scores <= threshold).logical_or_(items == own)
        if self.redraw_known:
            return harmless | (self.negatives[rows] <= 0)
        if harmless.device.type != "cpu" or self.known.has_table:
            return harmless.logical_or_(self.known.contains(rows, items))
        # Searching for the few others alone is faster where counting them makes nobody wait.
        row, column = (~harmless).nonzero(as_tuple=True)
        known = self.known.contains(rows[row], items[row, column].unsqueeze(-1)).squeeze(-1)
        harmless[row, column] = known
        return harmless

    def draw(self, rows: Tensor, draws: int) -> Tensor:
        """Uniform items ``[R, draws]``: of the catalogue, or of the true negatives."""
        if not self.redraw_known:
            drawn = torch.randint(self.num_items, (len(rows), draws), **self.source)
            return drawn.to(rows.device)
        place = self.below(self.negatives[rows].clamp(min=1), draws)
        place = place + (place >= self.own_place[rows]).long()
        # Where no negative is left, whatever is drawn is no violator; but it must be an item.
        return self.known.unknown(rows, place).clamp(max=self.num_items - 1)

    def below(self, bound: Tensor, draws: int) -> Tensor:
        """Uniform whole numbers ``[R, draws]`` in [0, bound), ``bound [R, 1]``."""
        wide = torch.randint(1 << 62, (len(bound), draws), **self.source)
        return wide.to(bound.device) % bound


def _known_items(
    known: KnownItems | Tensor | None, rows: int, num_items: int, device: torch.device
) -> KnownItems:
    """The known items in one form, checked against the batch."""
    if known is None:
        nothing = torch.empty(0, dtype=torch.long, device=device)
        return KnownItems(nothing, nothing, num_items=num_items)
    if isinstance(known, Tensor):
        if known.shape != (rows, num_items):
            raise ValueError(
                f"known {shape_text(known)} must be a table [rows, num_items], {(rows, num_items)}."
            )
        return KnownItems.from_mask(known)
    known.check_fits(rows, num_items)
    return known
