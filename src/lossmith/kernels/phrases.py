"""The exact probability that phrases occur somewhere in a sequence of independent positions.

Everything stays in log space, and the probability of occurring and of not occurring are each
found as a sum of positive terms: both keep their digits where they are 1e-60 and where they are 1.

Shapes: B sequences, T positions, V tokens, K phrases (or sets of phrases) of a sequence; G is 1
where they are shared and B where each sequence has its own.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from lossmith.core.numerics import log1mexp
from lossmith.kernels.collapse import LOG_ZERO as LOG_ZERO

Phrase = tuple[int, ...]


class Occurrence(NamedTuple):
    """What is known of each keyword of each sequence; all ``[B, K]``."""

    log_none: Tensor
    log_occurs: Tensor
    # False for padding, and for a phrase with more tokens than the sequence has positions: no
    # logits could make it occur.
    asked: Tensor


class Padded(NamedTuple):
    """Ragged lists of token ids side by side; ``real`` is False at the padding (id 0)."""

    ids: Tensor
    real: Tensor


def pad(lists: Sequence[Sequence[int]], device: torch.device) -> Padded:
    """Pad lists to one width, of at least 1 so that sums over it are never empty."""
    width = max([1, *map(len, lists)])
    ids = [[*row, *[0] * (width - len(row))] for row in lists]
    real = [[True] * len(row) + [False] * (width - len(row)) for row in lists]
    shape = (len(lists), width)
    return Padded(
        torch.tensor(ids, dtype=torch.long, device=device).reshape(shape),
        torch.tensor(real, dtype=torch.bool, device=device).reshape(shape),
    )


def listed_log_p(log_p: Tensor, tokens: Padded) -> Tensor:
    """Log-probabilities of listed tokens, ``[B, T, A]``; padding has probability 0."""
    batch, length, _ = log_p.shape
    index = tokens.ids.unsqueeze(1).expand(batch, length, -1)
    own = log_p.gather(-1, index)
    # Asked this way round, a NaN is not taken for an impossible token.
    return torch.where(~tokens.real.unsqueeze(1) | (own <= LOG_ZERO), LOG_ZERO, own)


def other_log_p(log_p: Tensor, tokens: Padded) -> Tensor:
    """Log-probability of all tokens not listed, ``[B, T]``, as a sum over them."""
    groups, vocabulary = tokens.ids.shape[0], log_p.shape[-1]
    # The padding goes to a column past the vocabulary.
    index = torch.where(tokens.real, tokens.ids, vocabulary)
    member = torch.zeros(groups, vocabulary + 1, dtype=torch.bool, device=log_p.device)
    member = member.scatter(1, index, True)[:, :vocabulary]
    return torch.where(member.unsqueeze(1), LOG_ZERO, log_p).logsumexp(dim=-1)


class Automata(NamedTuple):
    """Keyword automata, K in each of G groups, over one alphabet for each group.

    States are 0 (nothing begun) to S - 1; S means "has occurred" and is never left. The alphabet
    has A tokens; column A of a transition stands for every other token.
    """

    alphabet: Padded  # [G, A]
    step: Tensor  # [G, K, S, A + 1] next state
    entered_by: Tensor  # [G, K, S] the column of the one token that leads into a state other than 0
    shortest: Tensor  # [G, K] tokens of the shortest phrase; 0 = no automaton here


def build_automata(groups: Sequence[Sequence[Sequence[Phrase]]], device: torch.device) -> Automata:
    """One automaton for each set of phrases in each group, padded to one size."""
    alphabets = [sorted({t for phrases in group for p in phrases for t in p}) for group in groups]
    columns = max(map(len, alphabets)) + 1
    made = [
        [_aho_corasick(phrases, {t: i for i, t in enumerate(alphabet)}) for phrases in group]
        for group, alphabet in zip(groups, alphabets, strict=True)
    ]
    count = max(map(len, made))
    states = max(len(last) for group in made for _, last in group)
    step = [[[0] * columns for _ in range(states)] for _ in range(len(groups) * count)]
    entered_by = [[0] * states for _ in range(len(groups) * count)]
    shortest = [0] * (len(groups) * count)
    for g, group in enumerate(made):
        for k, (table, last) in enumerate(group):
            place = g * count + k
            shortest[place] = min(map(len, groups[g][k]))
            entered_by[place][: len(last)] = last
            for s, targets in enumerate(table):
                step[place][s][: len(targets)] = [states if t < 0 else t for t in targets]
    shape = (len(groups), count, states)
    return Automata(
        pad(alphabets, device),
        torch.tensor(step, device=device).reshape(*shape, columns),
        torch.tensor(entered_by, device=device).reshape(shape),
        torch.tensor(shortest, device=device).reshape(shape[:2]),
    )


def _aho_corasick(
    phrases: Sequence[Phrase], column: Mapping[int, int]
) -> tuple[list[list[int]], list[int]]:
    """Transitions by state and column (-1 = has occurred), and the column that enters each state.

    A state is the longest end of what was read that begins a phrase. (Aho, Corasick 1975; for a
    single phrase, Knuth, Morris, Pratt 1977.)
    """
    children: list[dict[int, int]] = [{}]
    ends = [False]
    for phrase in phrases:
        node = 0
        for token in phrase:
            if token not in children[node]:
                children[node][token] = len(children)
                children.append({})
                ends.append(False)
            node = children[node][token]
        ends[node] = True
    fallback = [0] * len(children)
    after: list[dict[int, int]] = [{} for _ in children]  # tokens that do not lead to state 0
    number: dict[int, int] = {}
    last: list[int] = []
    queue = [(0, 0)]
    for node, token_column in queue:  # grows as it is read: nodes by depth
        ends[node] = ends[node] or ends[fallback[node]]
        if ends[node]:
            continue  # absorbed: nothing beyond is ever reached
        number[node] = len(last)
        last.append(token_column)
        beyond = after[fallback[node]] if node else {}
        after[node] = {**beyond, **children[node]}
        for token, child in children[node].items():
            fallback[child] = beyond.get(token, 0)
            queue.append((child, column[token]))
    table = []
    for node in number:
        row = [0] * len(column)
        for token, to in after[node].items():
            row[column[token]] = -1 if ends[to] else number[to]
        table.append(row)
    return table, last


def phrase_occurrence(
    log_p: Tensor, automata: Automata, real: Tensor, reference: Tensor | None
) -> Occurrence:
    """Whether each automaton finds one of its phrases."""
    outside = other_log_p(log_p, automata.alphabet)
    letters = torch.cat([listed_log_p(log_p, automata.alphabet), outside.unsqueeze(-1)], dim=-1)
    batch = log_p.shape[0]
    if reference is None:
        counted = real.unsqueeze(-1).expand(*real.shape, automata.step.shape[1])
    else:
        counted = _up_to_match(automata, reference, real)
    log_none, log_occurs = _run(automata, letters, counted)
    # Of two probabilities that add up to 1, the smaller has the digits of both.
    rare = log_occurs < -math.log(2.0)
    shortest = automata.shortest.expand(batch, -1)
    return Occurrence(
        torch.where(rare, log1mexp(log_occurs), log_none),
        torch.where(rare, log_occurs, log1mexp(log_none)),
        (shortest > 0) & (real.sum(dim=1, keepdim=True) >= shortest),
    )


def _run(automata: Automata, letters: Tensor, counted: Tensor) -> tuple[Tensor, Tensor]:
    """Log-probabilities of having found nothing and something, ``[B, K]``, after all positions.

    ``letters [B, T, A + 1]`` are log-probabilities by column; ``counted [B, T, K]`` says which
    positions an automaton reads.
    """
    batch, length, _ = letters.shape
    groups, count, states = automata.entered_by.shape
    place = torch.arange(states, device=letters.device)
    by_token = letters[:, :, None, None, :]
    # Three ways on from a state: to the end, back to state 0, and by one token to another state.
    to_end = _sum_where(automata.step.unsqueeze(1) == states, by_token)
    to_start = _sum_where(automata.step.unsqueeze(1) == 0, by_token)
    entered_by = automata.entered_by.reshape(groups, 1, -1).expand(batch, length, -1)
    entering = letters.gather(-1, entered_by).reshape(batch, length, count, states)
    target = automata.step.gather(
        -1, automata.entered_by.unsqueeze(2).expand(groups, count, states, states)
    )
    leads_to = (target == place) & (place > 0)
    # An empty sum: it is 0, and hangs on the graph also where there is no position at all.
    zero = letters[:, :0, 0].sum(dim=1).reshape(batch, 1, 1).expand(batch, count, states)
    state = torch.where(place > 0, LOG_ZERO, zero)
    found = [torch.full_like(state[..., 0], LOG_ZERO)]
    # Unbound, and not indexed by position: the gradient of each index would be a tensor of zeros
    # as long as the sequence, and the backward pass quadratic.
    for here, end, first, enter in zip(
        *(x.unbind(dim=1) for x in (counted, to_end, to_start, entering)), strict=True
    ):
        arrived = (state + end).logsumexp(dim=-1)
        found.append(torch.where(here, arrived, LOG_ZERO))
        start = (state + first).logsumexp(dim=-1, keepdim=True)
        moved = enter + _sum_where(leads_to.mT, state.unsqueeze(-2))
        moved = torch.where(place > 0, moved, start)
        state = torch.where(here.unsqueeze(-1), moved, state)
    return state.logsumexp(dim=-1), torch.stack(found, dim=-1).logsumexp(dim=-1)


def _sum_where(chosen: Tensor, log_terms: Tensor) -> Tensor:
    """log of the sum of the chosen terms along the last dimension."""
    return torch.where(chosen, log_terms, LOG_ZERO).logsumexp(dim=-1)


def _up_to_match(automata: Automata, reference: Tensor, real: Tensor) -> Tensor:
    """Real positions up to the last token of each automaton's first match in the reference."""
    batch, length = reference.shape
    groups, count, states = automata.entered_by.shape
    columns = automata.step.shape[-1]
    same = reference.unsqueeze(-1) == automata.alphabet.ids.unsqueeze(1)
    same = same & automata.alphabet.real.unsqueeze(1)
    other = torch.full_like(reference, columns - 1)
    column = torch.where(same.any(dim=-1), same.long().argmax(dim=-1), other)
    step = automata.step.reshape(groups, count, -1).expand(batch, count, -1)
    state = torch.zeros_like(step[..., 0])
    done = torch.zeros_like(state, dtype=torch.bool)
    counted = []
    for t in range(length):
        here = real[:, t : t + 1]
        counted.append(here & ~done)
        place = state * columns + column[:, t : t + 1]
        following = step.gather(-1, place.unsqueeze(-1)).squeeze(-1)
        done = done | (here & (following == states))
        state = torch.where(here & ~done, following, state)
    if not counted:
        return done.unsqueeze(1).expand(batch, 0, count)
    return torch.stack(counted, dim=1)
