"""Cross-entropy over a large vocabulary, from hidden states; the logits are never held."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from lossmith.core import labels
from lossmith.core.numerics import pick, times_log, unit_step
from lossmith.core.reduce import Divisor, Reduction, reduce
from lossmith.core.spec import Tune, objective
from lossmith.core.validate import (
    check_choice,
    check_leading_shape,
    check_mask,
    check_range,
    shape_text,
)
from lossmith.kernels.alphabets import Alphabets
from lossmith.kernels.collapse import LOG_ZERO
from lossmith.kernels.keywords import Keywords as Keywords  # part of the signature below
from lossmith.kernels.linear_cross_entropy import by_short_rows, checked_layer, one_pass
from lossmith.losses.generation.terms import Form, Require, check_triple, presence_cost


@objective(
    family="generation",
    module="LinearCrossEntropy",
    inputs="hidden+head+class",
    unit="targets not ignored; with keywords, each term by its own",
    serves="perplexity",
    limit="hidden @ head.T + head_bias as logits: cross_entropy",
    tune={"label_smoothing": Tune(0.0, 0.3), "z_loss": Tune(1e-5, 1e-2, log=True)},
    aliases=("fused linear cross-entropy", "chunked cross-entropy", "cut cross-entropy"),
    paper="Good 1952; z-loss, Chowdhery et al. 2022; focal, Lin et al. 2017; margin, Su 2017",
)
def linear_cross_entropy(
    hidden: Tensor,
    head: Tensor,
    target: Tensor,
    *,
    head_bias: Tensor | None = None,
    class_weight: Tensor | None = None,
    ignore_index: int = -100,
    label_smoothing: float = 0.0,
    z_loss: float = 0.0,
    margin: float = 1.0,
    gamma: float = 0.0,
    keywords: Keywords | None = None,
    keyword_mask: Tensor | None = None,
    presence: float = 0.3,
    placement: float = 0.2,
    require: Require = "any",
    form: Form = "expected",
    prefix_aware: bool = True,
    mask: Tensor | None = None,
    weight: Tensor | None = None,
    reduction: Reduction = "mean",
    divisor: Divisor | tuple[Divisor, Divisor, Divisor] | None = None,
) -> Tensor:
    """Raise the probability of the right token without ever holding the logits.

    Formula: with ``logits = hidden @ head.T + head_bias``, ``p = softmax(logits)`` and
    ``Z = sum exp(logits)``, ``f w_y (1 - label_smoothing) (-log p_y) + label_smoothing / V
    sum_c w_c (-log p_c) + z_loss (log Z) ** 2``, w the ``class_weight`` and
    ``f = (1 - p_y) ** gamma (1 - theta(p_y - margin))``: focal, and no cost past the margin.
    ``keywords`` add ``presence * keyword_presence``, ``keyword_mask`` adds ``placement *
    keyword_placement``; ``prefix_aware`` as in ``keyword_hybrid``.

    Use where the vocabulary is large: memory is one block of logits (256 MB) instead of all, and
    the gradient is made in the forward pass, in three matrix products. Not for a few hundred
    classes, where ``cross_entropy`` on logits is as cheap. ``torch.compile`` and ``torch.func``
    look through plain operations only: there all logits are held, so compile the model up to its
    hidden states and call this outside.

    Shapes: hidden ``[..., d]``, with keywords ``[..., T, d]``; head ``[V, d]``; head_bias and
    class_weight ``[V]``; target, mask, weight and keyword_mask ``[...]``; keywords as in
    ``keyword_presence``. "none" is ``[...]`` per token; with keywords or a keyword_mask it is the
    whole cost of each sequence.

    Mean divides by: the targets not ignored, or the sum of their class weights, as torch does;
    the presence term by the sequences asked for a keyword, the placement term by the marked
    positions. ``divisor`` is one count, or with keywords or a keyword_mask the triple of these.

    Errors: shapes that do not fit, a target outside [0, V) other than ``ignore_index``.

    >>> hidden, head = torch.zeros(2, 3), torch.zeros(4, 3)
    >>> linear_cross_entropy(hidden, head, torch.tensor([1, 3]))  # log 4
    tensor(1.3863)

    Source: Good 1952; blocks of rows with their gradient made at once, Liger-Kernel 2024;
    label smoothing by the mean of the head, this library.
    """
    knobs = _Knobs(label_smoothing, z_loss, margin, gamma, presence, placement)
    knobs.check()
    check_choice("require", require, ("any", "each"))
    check_choice("form", form, ("expected", "nll"))
    check_leading_shape(
        hidden, "hidden", target=target, mask=mask, weight=weight, keyword_mask=keyword_mask
    )
    check_mask("mask", mask)
    check_mask("keyword_mask", keyword_mask)
    states, layer = checked_layer(hidden, head, head_bias)
    index, valid = labels.class_index(
        "target", target, len(head), ignore_index=ignore_index, mask=mask
    )
    by_sequence = keywords is not None or keyword_mask is not None
    if by_sequence and hidden.dim() < 2:
        raise ValueError(f"hidden {shape_text(hidden)} must be [..., T, d] where keywords count.")
    # Without keywords, tokens need not be in sequences: one of all tokens.
    length = valid.shape[-1] if by_sequence else valid.numel()
    shape = (math.prod(valid.shape[:-1]) if by_sequence else 1, length)
    made = Alphabets.of(keywords, index.reshape(shape), valid.reshape(shape), len(head))
    scale = None
    if class_weight is not None:
        column = layer.head[:, 0]
        scale = labels.per_class("class_weight", class_weight, column).expand_as(column)
    assert made.place is not None
    costs = _Costs(
        knobs,
        place=made.place.reshape(-1),
        valid=valid.reshape(-1),
        weight=None if weight is None else weight.reshape(-1),
        own_weight=None if scale is None else scale[index].reshape(-1),
        even_weight=None if scale is None else scale.mean(),
        marked=None if keyword_mask is None else (keyword_mask & valid).reshape(-1),
        made=None if keywords is None else made,
        presence=(prefix_aware, require, form),
        length=length,
        reduction=reduction,
    ).with_divisors(divisor)
    share = None
    if label_smoothing > 0:
        share = (torch.ones_like(layer.head[:, 0]) if scale is None else scale) / len(head)
    states = torch.where(valid.unsqueeze(-1), states, 0.0).reshape(-1, hidden.shape[-1])
    whole = reduction == "none" or _any_learns(weight, class_weight, *knobs)
    run = by_short_rows if whole else one_pass
    value = run(
        costs,
        states,
        layer,
        made.columns,
        share=share,
        unit=1 if keywords is None else length,
    )
    if reduction == "none":
        return value.reshape(valid.shape[:-1] if by_sequence else valid.shape)
    return value


class _Knobs(NamedTuple):
    smoothing: float
    z_loss: float
    margin: float
    gamma: float
    presence: float
    placement: float

    def check(self) -> None:
        check_range("label_smoothing", self.smoothing, 0.0, 1.0)
        check_range("z_loss", self.z_loss, 0.0)
        check_range("margin", self.margin, 0.0, 1.0, low_open=True)
        check_range("gamma", self.gamma, 0.0)
        check_range("presence", self.presence, 0.0)
        check_range("placement", self.placement, 0.0)


@dataclass(frozen=True)
class _Costs:
    """The cost of any rows of a batch from their short rows; all tensors are flat, ``[N]``."""

    knobs: _Knobs
    place: Tensor  # the column of the target
    valid: Tensor
    weight: Tensor | None
    own_weight: Tensor | None  # the class weight of the target
    even_weight: Tensor | None  # the mean class weight
    marked: Tensor | None
    made: Alphabets | None  # None without keywords
    presence: tuple[bool, Require, Form]
    length: int  # of a sequence
    reduction: Reduction
    divisors: tuple[Any, Any, Any] = (None, None, None)

    def with_divisors(self, divisor: Any) -> _Costs:
        """Knowing the counts of the whole batch, which its parts are divided by."""
        check_choice("reduction", self.reduction, ("mean", "sum", "none"))
        tokens, sequences, marked = (divisor, None, None)
        if self.by_sequence:
            tokens, sequences, marked = check_triple(divisor)
        if self.reduction != "mean":
            return replace(self, divisors=(tokens, sequences, marked))
        if tokens is None and self.own_weight is not None:
            tokens = torch.where(self.valid, self.own_weight, 0.0).sum()
        elif tokens is None:
            tokens = self.valid.sum()
        if sequences is None and self.made is not None:
            sequences = self.made.asked.sum()
        if marked is None and self.marked is not None:
            marked = self.marked.sum()
        return replace(self, divisors=(tokens, sequences, marked))

    @property
    def by_sequence(self) -> bool:
        """Whether some term is one of sequences."""
        return self.made is not None or self.marked is not None

    def __call__(self, short: Tensor, mixed: Tensor | None, a: int, b: int) -> Tensor:
        """What the rows a to b cost, divided by the counts of the whole batch."""
        log_p = short.log_softmax(dim=-1)
        own = pick(log_p, self.place[a:b])
        token = self._token(short, log_p, own, mixed, a, b)
        total = self._reduce(token, self.valid, a, b, self.divisors[0])
        if self.marked is not None:
            said = self._reduce(-own, self.marked, a, b, self.divisors[2])
            total = total + self.knobs.placement * said
        if self.made is not None:
            total = total + self.knobs.presence * self._absent(log_p, a, b)
        return total

    def _token(
        self, short: Tensor, log_p: Tensor, own: Tensor, mixed: Tensor | None, a: int, b: int
    ) -> Tensor:
        """The cost of each token."""
        knobs = self.knobs
        cost = -own if self.own_weight is None else -times_log(self.own_weight[a:b], own)
        if knobs.gamma > 0:
            # 1 - p as the sum over all others: exact where p is nearly 1.
            others = log_p.scatter(-1, self.place[a:b].unsqueeze(-1), LOG_ZERO).logsumexp(dim=-1)
            cost = torch.exp(knobs.gamma * others) * cost
        if knobs.margin < 1.0:
            edge = math.log(knobs.margin)
            cost = (1.0 - unit_step(own - edge)) * cost
        if mixed is None and knobs.z_loss == 0.0:
            return cost
        log_z = short.logsumexp(dim=-1)
        if mixed is not None:
            even = (1.0 if self.even_weight is None else self.even_weight) * log_z - mixed
            cost = (1.0 - knobs.smoothing) * cost + knobs.smoothing * even
        return cost + knobs.z_loss * log_z.square()

    def _absent(self, log_p: Tensor, a: int, b: int) -> Tensor:
        """What the missing keywords of the sequences in these rows cost."""
        assert self.made is not None
        sequences = slice(a // self.length, b // self.length) if self.length else slice(0, None)
        part = self.made.of_sequences(sequences)
        real = self.valid[a:b].reshape(-1, self.length)
        log_p = log_p.reshape(*real.shape, log_p.shape[-1])
        return reduce(
            presence_cost(log_p, part, real, *self.presence),
            valid=part.asked,
            reduction=self.reduction,
            divisor=self.divisors[1],
        )

    def _reduce(self, cost: Tensor, counted: Tensor, a: int, b: int, divisor: Any) -> Tensor:
        weight = None if self.weight is None else self.weight[a:b]
        value = reduce(
            cost, valid=counted[a:b], weight=weight, reduction=self.reduction, divisor=divisor
        )
        if self.reduction == "none" and self.by_sequence:
            return value.reshape(-1, self.length).sum(dim=-1)
        return value


def _any_learns(*values: object) -> bool:
    return any(isinstance(value, Tensor) and value.requires_grad for value in values)
