"""Objectives for sequences of tokens: that keywords are said, and said where they belong."""

from __future__ import annotations

import math
from typing import Any, Literal

import torch
from torch import Tensor

from lossmith.core.numerics import upcast
from lossmith.core.reduce import Divisor, Reduction, reduce
from lossmith.core.spec import Tune, objective
from lossmith.core.validate import (
    check_choice,
    check_class_index,
    check_float,
    check_leading_shape,
    check_mask,
    check_range,
    shape_text,
)
from lossmith.kernels.keywords import Keywords as Keywords  # part of the signatures below
from lossmith.kernels.keywords import occurrence
from lossmith.kernels.phrases import LOG_ZERO

KEYWORD_PAPER = "keyword use in sequence generation, 2024: presence, placement, hybrid"
COVERAGE = "share of outputs with their keywords"


@objective(
    family="generation",
    module="KeywordPresence",
    inputs="logits+keywords",
    unit="sequences asked for a keyword",
    serves=COVERAGE,
    limit="one position, one keyword, form='nll': cross_entropy with the keyword as target",
    invariances=("shift",),
    tune={"require": Tune(choices=("any", "each")), "form": Tune(choices=("expected", "nll"))},
    aliases=("keyword coverage", "presence penalty", "noisy-or coverage"),
    paper=KEYWORD_PAPER,
)
def keyword_presence(
    logits: Tensor,
    keywords: Keywords,
    *,
    require: Literal["any", "each"] = "any",
    form: Literal["expected", "nll"] = "expected",
    target: Tensor | None = None,
    ignore_index: int = -100,
    mask: Tensor | None = None,
    weight: Tensor | None = None,
    reduction: Reduction = "mean",
    divisor: Divisor | None = None,
) -> Tensor:
    """Raise the probability that a sequence says its keywords, wherever it says them.

    Formula: ``P(no keyword) = prod_t (1 - sum_k p_t(k))`` (``form="expected"``, in [0, 1]) or
    ``-log(1 - P(no keyword))`` (``form="nll"``). ``require="each"``: the mean over the sequence's
    keywords, each on its own. A phrase counts by the exact probability that it occurs anywhere
    when every position draws its token on its own. ``target``: a keyword counts the positions up
    to and including its first occurrence in the reference (all, where the reference lacks it), so
    that it is not asked for again once it was said.

    Use beside cross-entropy, with ``target``. Not alone: it says nothing of other tokens. Under
    teacher forcing it is not the probability that a decoded output holds the keyword.

    Shapes: logits ``[..., T, V]``; target and mask ``[..., T]``, mask True = real (a position
    whose target is ``ignore_index`` is not real either); weight ``[...]``. Keywords: token ids and
    phrases (tuples of ids) for all sequences, ``[7, (3, 4)]`` or a 1-D tensor of ids; or one list
    of those per sequence (in row-major order of ``[...]``), ``[[7], [], [(3, 4), 2]]``.

    Mean divides by: sequences that are asked for something. A sequence with an empty list or
    without a real position is not; nor is a phrase longer than the sequence's real positions.

    Errors: an id outside [0, V), lists that are not one per sequence, shapes that do not fit.

    The sum over the positions of ``|d nll / d log-odds|`` is at most 1 for each keyword.

    >>> logits = torch.zeros(1, 2, 4)  # each token has p = 1/4
    >>> keyword_presence(logits, [3])  # (3/4) ** 2
    tensor(0.5625)
    >>> keyword_presence(logits, [(2, 3)], form="nll")  # -log(1/16)
    tensor(2.7726)

    Source: the presence penalty of 2024, which looks for the keywords in the target and so has no
    gradient; this is its expected value under the model. Phrases: Aho, Corasick 1975.
    """
    check_choice("require", require, ("any", "each"))
    check_choice("form", form, ("expected", "nll"))
    real = _real_positions(logits, target, ignore_index, mask)
    _check_per_sequence(logits, weight)
    cost, asked = _presence_cost(_log_softmax(logits, real), keywords, real, target, require, form)
    return reduce(cost, valid=asked, weight=weight, reduction=reduction, divisor=divisor)


@objective(
    family="generation",
    module="KeywordPlacement",
    inputs="logits+marked",
    unit="marked positions",
    serves="share of keywords said where the reference says them",
    limit="every position marked: cross_entropy",
    invariances=("shift",),
    aliases=("keyword reward", "placement reward"),
    paper=KEYWORD_PAPER,
)
def keyword_placement(
    logits: Tensor,
    target: Tensor,
    keyword_mask: Tensor,
    *,
    ignore_index: int = -100,
    mask: Tensor | None = None,
    weight: Tensor | None = None,
    reduction: Reduction = "mean",
    divisor: Divisor | None = None,
) -> Tensor:
    """Raise the probability of the right token where the reference says a keyword.

    Formula: ``- log p_t(target_t)`` at the positions that ``keyword_mask`` marks.

    Use beside cross-entropy: the two together are a cross-entropy in which a marked token weighs
    more (by the factor of this term, when both divide by the same). Not where any position would
    do (``keyword_presence``).

    Shapes: logits ``[..., T, V]``; target, keyword_mask (bool, True = marked), mask and weight
    ``[..., T]``.

    Mean divides by: marked positions that are real. ``divisor=B * T`` gives the source's number.

    Errors: shapes that do not fit, a target outside [0, V) other than ``ignore_index``.

    >>> marked = torch.tensor([[True, False]])
    >>> keyword_placement(torch.zeros(1, 2, 4), torch.tensor([[3, 0]]), marked)  # log 4
    tensor(1.3863)

    Source: the placement reward of 2024.
    """
    check_mask("keyword_mask", keyword_mask)
    real = _real_positions(logits, target, ignore_index, mask)
    check_leading_shape(logits, "logits", keyword_mask=keyword_mask, weight=weight)
    cost = _token_cost(_log_softmax(logits, real), target, real)
    marked = keyword_mask & real
    return reduce(cost, valid=marked, weight=weight, reduction=reduction, divisor=divisor)


@objective(
    family="generation",
    module="KeywordHybrid",
    inputs="logits+keywords+marked",
    unit="tokens, sequences asked and marked positions, each term by its own",
    serves=COVERAGE,
    limit="presence=0, placement=0: cross_entropy",
    invariances=("shift",),
    tune={"presence": Tune(0.05, 2.0, log=True), "placement": Tune(0.05, 4.0, log=True)},
    aliases=("keyword loss",),
    paper=KEYWORD_PAPER,
)
def keyword_hybrid(
    logits: Tensor,
    target: Tensor,
    keywords: Keywords,
    keyword_mask: Tensor,
    *,
    presence: float = 0.3,
    placement: float = 0.2,
    require: Literal["any", "each"] = "any",
    form: Literal["expected", "nll"] = "expected",
    prefix_aware: bool = True,
    ignore_index: int = -100,
    mask: Tensor | None = None,
    weight: Tensor | None = None,
    reduction: Reduction = "mean",
    divisor: tuple[Divisor, Divisor, Divisor] | None = None,
) -> Tensor:
    """Follow the reference, say the keywords, and say them where the reference does.

    Formula: ``cross-entropy + presence * keyword_presence + placement * keyword_placement``.
    ``prefix_aware`` gives the presence term the target: what the reference has already said is
    not asked for again.

    Use to trade fluency for keyword recall; look at both while turning ``presence`` and
    ``placement`` up. Not without keywords: it is a plain cross-entropy then.

    Shapes: logits ``[..., T, V]``; target, keyword_mask (bool, True = marked) and mask
    ``[..., T]``; weight ``[...]``, one for each sequence; keywords as in ``keyword_presence``.
    "none" is ``[...]``, the whole cost of each sequence.

    Mean divides by: in each term its own units: real tokens, sequences asked for a keyword,
    marked positions. ``divisor`` is the triple of these three counts.

    Errors: as of its terms; a negative factor; a divisor that is not a triple.

    >>> logits, target = torch.zeros(1, 2, 4), torch.tensor([[3, 0]])
    >>> marked = torch.tensor([[True, False]])
    >>> keyword_hybrid(logits, target, [3], marked)  # log 4 + 0.3 * 3/4 + 0.2 * log 4
    tensor(1.8886)

    Source: the hybrid of 2024.
    """
    check_choice("require", require, ("any", "each"))
    check_choice("form", form, ("expected", "nll"))
    check_range("presence", presence, 0.0)
    check_range("placement", placement, 0.0)
    check_mask("keyword_mask", keyword_mask)
    real = _real_positions(logits, target, ignore_index, mask)
    check_leading_shape(logits, "logits", keyword_mask=keyword_mask)
    _check_per_sequence(logits, weight)
    divisors = _check_triple(divisor)
    log_p = _log_softmax(logits, real)
    token_cost = _token_cost(log_p, target, real)
    marked = keyword_mask & real
    reference = target if prefix_aware else None
    absent, asked = _presence_cost(log_p, keywords, real, reference, require, form)
    terms = (
        (1.0, token_cost.sum(dim=-1), real.sum(dim=-1)),
        (presence, absent, asked),
        (placement, torch.where(marked, token_cost, 0.0).sum(dim=-1), marked.sum(dim=-1)),
    )
    parts = [
        factor
        * reduce(
            cost, valid=count > 0, weight=weight, count=count, reduction=reduction, divisor=total
        )
        for (factor, cost, count), total in zip(terms, divisors, strict=True)
    ]
    return parts[0] + parts[1] + parts[2]


def _presence_cost(
    log_p: Tensor,
    keywords: Keywords,
    real: Tensor,
    reference: Tensor | None,
    require: Literal["any", "each"],
    form: Literal["expected", "nll"],
) -> tuple[Tensor, Tensor]:
    """The cost of each sequence's missing keywords, and which sequences are asked for any."""
    lead, (length, vocabulary) = real.shape[:-1], log_p.shape[-2:]
    sequences = math.prod(lead)
    flat = None if reference is None else torch.where(real, reference, 0)
    found = occurrence(
        log_p.reshape(sequences, length, vocabulary),
        keywords,
        real.reshape(sequences, length),
        require=require,
        reference=None if flat is None else flat.reshape(sequences, length),
    )
    if form == "expected":
        cost = found.log_none.exp()
    else:
        # A keyword that logits of -inf rule out costs inf; its gradient stays 0, not NaN.
        ruled_out = found.log_occurs <= 0.5 * LOG_ZERO
        cost = torch.where(ruled_out, math.inf, -found.log_occurs)
    count = found.asked.sum(dim=-1)
    cost = torch.where(found.asked, cost, 0.0).sum(dim=-1) / count.clamp(min=1)
    return cost.reshape(lead), (count > 0).reshape(lead)


def _token_cost(log_p: Tensor, target: Tensor, real: Tensor) -> Tensor:
    """-log p(target) at every real position, 0 elsewhere."""
    index = torch.where(real, target, 0).unsqueeze(-1)
    return torch.where(real, -log_p.gather(-1, index).squeeze(-1), 0.0)


def _log_softmax(logits: Tensor, real: Tensor) -> Tensor:
    """Log-probabilities, with positions that do not count kept out of value and gradient."""
    (logits,) = upcast(logits)
    return torch.where(real.unsqueeze(-1), logits, 0.0).log_softmax(dim=-1)


def _real_positions(
    logits: Tensor, target: Tensor | None, ignore_index: int, mask: Tensor | None
) -> Tensor:
    """Which positions count, after checking logits, target and mask against each other."""
    check_float(logits=logits)
    if logits.dim() < 2:
        raise ValueError(
            f"logits {shape_text(logits)} must be [..., T, V]: one row of V logits for each of the "
            "T positions of a sequence."
        )
    check_leading_shape(logits, "logits", target=target, mask=mask)
    check_mask("mask", mask)
    real = torch.ones_like(logits[..., 0], dtype=torch.bool) if mask is None else mask
    if target is None:
        return real
    counted = torch.where(real, target, ignore_index)
    check_class_index("target", counted, logits.shape[-1], ignore_index)
    return counted != ignore_index


def _check_per_sequence(logits: Tensor, weight: Tensor | None) -> None:
    if weight is not None and weight.shape != logits.shape[:-2]:
        raise ValueError(
            f"weight {shape_text(weight)} must hold one value for each sequence, "
            f"{tuple(logits.shape[:-2])}: logits {shape_text(logits)} without the last two "
            "dimensions."
        )


def _check_triple(divisor: object) -> tuple[Any, Any, Any]:
    if divisor is None:
        return (None, None, None)
    if not isinstance(divisor, (tuple, list)) or len(divisor) != 3:
        raise TypeError(
            "divisor must be three counts, (tokens, sequences asked for a keyword, marked "
            f"positions), as each term has its own unit; got {divisor!r}."
        )
    tokens, sequences, marked = divisor
    return tokens, sequences, marked
