"""What a loss of one's own needs to know of each token of a large vocabulary, and no more."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from lossmith.core.labels import class_index
from lossmith.core.numerics import pick
from lossmith.core.validate import (
    check_class_index,
    check_leading_shape,
    check_mask,
    shape_text,
)
from lossmith.kernels.collapse import Columns
from lossmith.kernels.linear_cross_entropy import checked_layer, linear_collapse


class TokenStatistics(NamedTuple):
    """Differentiable numbers of each token; all 0 where the token does not count."""

    log_sum_exp: Tensor  # [...] log of the sum of exp(logits)
    target_logit: Tensor | None  # [...] None without a target
    logits: Tensor | None  # [..., k] at the chosen ids; None without ids


def token_statistics(
    hidden: Tensor,
    head: Tensor,
    target: Tensor | None = None,
    *,
    ids: Tensor | None = None,
    head_bias: Tensor | None = None,
    ignore_index: int = -100,
    mask: Tensor | None = None,
) -> TokenStatistics:
    """Log-sum-exp, target logit and logits at chosen ids, without holding all logits.

    Use to write a loss of sequences over a large vocabulary: each number is differentiable, memory
    is O(tokens) and one block of logits, and the backward pass makes the logits again. Not for
    plain cross-entropy and its variants, which ``linear_cross_entropy`` computes in one pass.

    Shapes: hidden ``[..., d]``; head ``[V, d]``; head_bias ``[V]``; target and mask ``[...]``; ids
    ``[k]`` for all tokens, or ``[..., k]``.

    Errors: shapes that do not fit, an id outside [0, V), a target outside it other than
    ``ignore_index``.

    The probability that a sequence never says token 3, in five lines:

    >>> hidden, head = torch.zeros(2, 4, 8), torch.zeros(5, 8)  # every token has p = 1/5
    >>> found = token_statistics(hidden, head, ids=torch.tensor([3]))
    >>> log_p = found.logits.squeeze(-1) - found.log_sum_exp
    >>> absent = torch.log1p(-log_p.exp()).sum(dim=-1).exp()
    >>> absent.mean()  # (4/5) ** 4
    tensor(0.4096)
    """
    states, layer = checked_layer(hidden, head, head_bias)
    check_leading_shape(hidden, "hidden", target=target, mask=mask)
    check_mask("mask", mask)
    lead, vocabulary = hidden.shape[:-1], len(head)
    valid = torch.ones_like(states[..., 0], dtype=torch.bool) if mask is None else mask
    index = None
    if target is not None:
        index, valid = class_index(
            "target", target, vocabulary, ignore_index=ignore_index, mask=mask
        )
    columns, place = _columns(index, ids, lead, vocabulary, states)
    states = torch.where(valid.unsqueeze(-1), states, 0.0).reshape(-1, hidden.shape[-1])
    short = linear_collapse(states, layer, columns).reshape(*lead, -1)
    short = torch.where(valid.unsqueeze(-1), short, 0.0)
    log_sum_exp = torch.where(valid, short.logsumexp(dim=-1), 0.0)
    own = None if target is None else pick(short, place[..., -1])
    chosen = None
    if ids is not None:
        chosen = short.gather(-1, place if target is None else place[..., :-1])
    return TokenStatistics(log_sum_exp, own, chosen)


def _columns(
    target: Tensor | None, ids: Tensor | None, lead: torch.Size, vocabulary: int, states: Tensor
) -> tuple[Columns, Tensor]:
    """The columns of each token, and in which of them each id and, last, the target stands."""
    parts = []
    if ids is not None:
        check_class_index("ids", ids, vocabulary)
        if ids.dim() != 1 and ids.shape[:-1] != lead:
            raise ValueError(
                f"ids {shape_text(ids)} must be [k] for all tokens, or {(*lead, 'k')} with k for "
                "each."
            )
        parts.append(ids.long().expand(*lead, ids.shape[-1]))
    if target is not None:
        parts.append(target.unsqueeze(-1))
    if not parts:  # one column that is not active
        none = torch.zeros((*lead, 1), dtype=torch.long, device=states.device)
        rows = none.reshape(-1, 1)
        return Columns.of(rows, torch.zeros_like(rows, dtype=torch.bool)), none
    listed = torch.cat(parts, dim=-1)
    # What is listed twice stands in its first column.
    same = listed.unsqueeze(-1) == listed.unsqueeze(-2)
    place = same.long().argmax(dim=-1)
    active = place == torch.arange(listed.shape[-1], device=listed.device)
    width = listed.shape[-1]
    return Columns.of(listed.reshape(-1, width), active.reshape(-1, width)), place
