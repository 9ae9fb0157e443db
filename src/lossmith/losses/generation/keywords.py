"""Objectives for sequences of tokens: that keywords are said, and said where they belong."""

from __future__ import annotations

import torch
from torch import Tensor

from lossmith.core.numerics import pick
from lossmith.core.reduce import Divisor, Reduction, reduce
from lossmith.core.spec import Tune, objective
from lossmith.core.validate import check_choice, check_leading_shape, check_mask, check_range
from lossmith.kernels.alphabets import Alphabets
from lossmith.kernels.collapse import collapse, target_log_p
from lossmith.kernels.keywords import Keywords as Keywords  # part of the signatures below
from lossmith.losses.generation.terms import (
    Form,
    Require,
    check_per_sequence,
    check_triple,
    presence_cost,
    real_positions,
    sequences_of,
)

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
    require: Require = "any",
    form: Form = "expected",
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
    real = real_positions("logits", logits, logits.shape[-1], target, ignore_index, mask)
    check_per_sequence("logits", logits, weight)
    log_p, made = _short_log_p(logits, keywords, target, real)
    cost = presence_cost(log_p, made, sequences_of(real), target is not None, require, form)
    return reduce(
        cost.reshape(real.shape[:-1]),
        valid=made.asked.reshape(real.shape[:-1]),
        weight=weight,
        reduction=reduction,
        divisor=divisor,
    )


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
    real = real_positions("logits", logits, logits.shape[-1], target, ignore_index, mask)
    check_leading_shape(logits, "logits", keyword_mask=keyword_mask, weight=weight)
    marked = keyword_mask & real
    cost = -target_log_p(logits, torch.where(marked, target, 0), marked)
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
    require: Require = "any",
    form: Form = "expected",
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
    real = real_positions("logits", logits, logits.shape[-1], target, ignore_index, mask)
    check_leading_shape(logits, "logits", keyword_mask=keyword_mask)
    check_per_sequence("logits", logits, weight)
    divisors = check_triple(divisor)
    log_p, made = _short_log_p(logits, keywords, target, real)
    absent = presence_cost(log_p, made, sequences_of(real), prefix_aware, require, form)
    assert made.place is not None
    token_cost = torch.where(real, -pick(log_p, made.place).reshape(real.shape), 0.0)
    marked = keyword_mask & real
    lead = real.shape[:-1]
    terms = (
        (1.0, token_cost.sum(dim=-1), real.sum(dim=-1)),
        (presence, absent.reshape(lead), made.asked.reshape(lead)),
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


def _short_log_p(
    logits: Tensor, keywords: Keywords, target: Tensor | None, real: Tensor
) -> tuple[Tensor, Alphabets]:
    """Log-probabilities ``[B, T, k + 1]`` of what the terms look at, and what stands where."""
    vocabulary, valid = logits.shape[-1], sequences_of(real)
    target = None if target is None else target.reshape(valid.shape)
    made = Alphabets.of(keywords, target, valid, vocabulary)
    rows = logits.reshape(valid.numel(), vocabulary)  # -1 cannot be told in an empty batch
    short = collapse(rows, made.columns, valid.reshape(-1)).log_softmax(dim=-1)
    return short.reshape(*valid.shape, short.shape[-1]), made
