"""Keywords, single tokens or phrases: how they are given, and the probability that they occur.

Shapes: B sequences, T positions, V tokens, K keywords of a sequence; G is 1 where the keywords are
shared and B where each sequence has its own.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from lossmith.core.numerics import log1mexp, softplus
from lossmith.core.validate import check_class_index, shape_text
from lossmith.kernels.phrases import (
    LOG_ZERO,
    Occurrence,
    Padded,
    Phrase,
    build_automata,
    listed_log_p,
    other_log_p,
    pad,
    phrase_occurrence,
)

Keyword = int | tuple[int, ...]
Keywords = Sequence[Keyword] | Sequence[Sequence[Keyword]] | Tensor


def occurrence(
    log_p: Tensor,
    keywords: Keywords,
    real: Tensor,
    *,
    require: Literal["any", "each"],
    reference: Tensor | None = None,
) -> Occurrence:
    """Log-probabilities that keywords occur, or do not, where each position draws on its own.

    Args:
        log_p: ``[B, T, V]`` log-probabilities of each position.
        keywords: token ids or phrases (tuples), shared; or one list of them per sequence.
        real: ``[B, T]`` bool; the other positions are skipped, as if they were not there.
        require: "any" takes the keywords of a sequence as one (K = 1), "each" one by one.
        reference: ``[B, T]`` token ids; a keyword counts the positions up to and including its
            first occurrence there, and all where it does not occur there.

    >>> log_p = torch.full((1, 3, 2), 0.5).log()
    >>> occurrence(log_p, [1], torch.ones(1, 3).bool(), require="any").log_none.exp()
    tensor([[0.1250]])
    """
    single = any_token if require == "any" else each_token
    if isinstance(keywords, Tensor):
        check_keyword_tensor(keywords, log_p.shape[-1])
        return single(log_p, _shared(keywords, once=require == "any"), real, reference)
    groups = read_keywords(keywords, log_p.shape[-1], log_p.shape[0])
    words = [[phrase[0] for phrase in group if len(phrase) == 1] for group in groups]
    if require == "any":  # said twice, it would count twice
        words = [sorted(set(group)) for group in words]
    phrases = [[phrase for phrase in group if len(phrase) > 1] for group in groups]
    if not any(phrases):
        return single(log_p, pad(words, log_p.device), real, reference)
    if require == "any":
        # One automaton looks for all keywords of a sequence at once.
        sets = [[group] if group else [] for group in groups]
        return phrase_occurrence(log_p, build_automata(sets, log_p.device), real, reference)
    sets = [[[phrase] for phrase in group] for group in phrases]
    longer = phrase_occurrence(log_p, build_automata(sets, log_p.device), real, reference)
    if not any(words):
        return longer
    single_tokens = each_token(log_p, pad(words, log_p.device), real, reference)
    both = zip(single_tokens, longer, strict=True)
    return Occurrence(*(torch.cat(pair, dim=1) for pair in both))


def read_keywords(keywords: object, vocabulary: int, sequences: int) -> list[list[Phrase]]:
    """One list of phrases if they are shared, else one per sequence; raise for what is neither.

    >>> read_keywords([3, (1, 2)], vocabulary=5, sequences=8)
    [[(3,), (1, 2)]]
    >>> read_keywords([[3], []], vocabulary=5, sequences=2)
    [[(3,)], []]
    """
    if isinstance(keywords, str) or not isinstance(keywords, Sequence):
        raise TypeError(
            f"keywords must be token ids; got {type(keywords).__name__} {keywords!r}. Try "
            "[7, (3, 4)], or a list of such lists, one for each sequence."
        )
    lists = [isinstance(entry, list) for entry in keywords]
    if not any(lists):
        return [[_read(k, f"keywords[{i}]", vocabulary) for i, k in enumerate(keywords)]]
    if not all(lists):
        raise TypeError(
            "keywords mixes lists with other entries; a list holds the keywords of one sequence, "
            f"a tuple is a phrase. Try a tuple for keywords[{lists.index(True)}]."
        )
    if len(keywords) != sequences:
        raise ValueError(
            f"keywords holds {len(keywords)} lists, logits {sequences} sequences; expected one "
            "list for each, empty where nothing is asked. A phrase for all is a tuple."
        )
    return [
        [_read(k, f"keywords[{b}][{i}]", vocabulary) for i, k in enumerate(entry)]
        for b, entry in enumerate(keywords)
        if isinstance(entry, list)
    ]


def _read(keyword: object, name: str, vocabulary: int) -> Phrase:
    phrase = keyword if isinstance(keyword, tuple) else (keyword,)
    if not phrase:
        raise ValueError(f"{name} is an empty phrase; expected at least one token id.")
    ids = []
    for i, token in enumerate(phrase):
        place = f"{name}[{i}]" if isinstance(keyword, tuple) else name
        try:
            ids.append(operator.index(token))
        except TypeError:
            raise TypeError(
                f"{place} is {token!r}; expected a token id. Try the tokenizer's ids of the word."
            ) from None
        if not 0 <= ids[-1] < vocabulary:
            raise ValueError(f"{place} is {token}; expected a token id in [0, {vocabulary - 1}].")
    return tuple(ids)


def check_keyword_tensor(keywords: Tensor, vocabulary: int) -> None:
    """Raise unless the tensor is a row of token ids."""
    if keywords.dim() != 1:
        raise ValueError(
            f"keywords {shape_text(keywords)} must have one dimension, token ids for all "
            "sequences. For each its own, give a list of lists: try keywords.tolist()."
        )
    check_class_index("keywords", keywords, vocabulary)


def first_places(ids: Tensor) -> Tensor:
    """Where each of the ids ``[K]`` stands first among them.

    >>> first_places(torch.tensor([5, 7, 5]))
    tensor([0, 1, 0])
    """
    return (ids.unsqueeze(1) == ids.unsqueeze(0)).long().argmax(dim=-1)


def _shared(keywords: Tensor, once: bool) -> Padded:
    """A row of ids for all sequences; ``once`` leaves out what was listed before."""
    if keywords.numel() == 0:
        return pad([[]], keywords.device)
    ids = keywords.long()
    real = torch.ones_like(ids, dtype=torch.bool)
    if once:
        real = first_places(ids) == torch.arange(len(ids), device=ids.device)
    return Padded(ids.unsqueeze(0), real.unsqueeze(0))


def any_token(log_p: Tensor, tokens: Padded, real: Tensor, reference: Tensor | None) -> Occurrence:
    """Whether any of a sequence's tokens occurs."""
    inside = listed_log_p(log_p, tokens).logsumexp(dim=-1)
    log_odds = inside - other_log_p(log_p, tokens)
    counted = real
    if reference is not None:
        hit = (reference.unsqueeze(-1) == tokens.ids.unsqueeze(1)) & tokens.real.unsqueeze(1)
        counted = up_to_first(hit.any(dim=-1) & real, real)
    present = tokens.real.any(dim=-1, keepdim=True)
    return _noisy_or(log_odds.unsqueeze(-1), counted.unsqueeze(-1), present, real)


def each_token(log_p: Tensor, tokens: Padded, real: Tensor, reference: Tensor | None) -> Occurrence:
    """Whether each of a sequence's tokens occurs.

    The odds against a token need the sum over all others. One sum, without the most probable
    token, serves all keywords: that token's odds are exact by it, and every other token has a
    probability of at most 1/2, where log(1 - p) loses nothing.
    """
    top = log_p.argmax(dim=-1, keepdim=True)
    rest = log_p.scatter(-1, top, LOG_ZERO).logsumexp(dim=-1, keepdim=True)
    own = listed_log_p(log_p, tokens)
    is_top = top == tokens.ids.unsqueeze(1)
    against = torch.where(is_top, rest, torch.log1p(-torch.exp(torch.where(is_top, -1.0, own))))
    hit = real.unsqueeze(-1)
    if reference is None:
        counted = hit.expand_as(own)
    else:
        hit = hit & (reference.unsqueeze(-1) == tokens.ids.unsqueeze(1))
        counted = up_to_first(hit, real.unsqueeze(-1))
    return _noisy_or(own - against, counted, tokens.real, real)


def _noisy_or(log_odds: Tensor, counted: Tensor, present: Tensor, real: Tensor) -> Occurrence:
    """Chance of at least one success in independent trials with these log-odds ``[B, T, K]``."""
    trials = torch.where(counted, softplus(log_odds), 0.0)
    x = trials.sum(dim=1)  # -log P(none)
    log_x = torch.where(counted, _log_softplus(log_odds), LOG_ZERO).logsumexp(dim=1)
    tiny = log_x < -15
    # log(1 - exp(-x)): by its series where x may be below the smallest float, else two branches.
    series = log_x - 0.5 * torch.exp(torch.where(tiny, log_x, 0.0))
    log_occurs = torch.where(tiny, series, log1mexp(-torch.where(tiny, 1.0, x)))
    asked = present & real.any(dim=1, keepdim=True)
    return Occurrence(-x, log_occurs, asked)


def _log_softplus(x: Tensor) -> Tensor:
    """log(log(1 + exp(x))), also where exp(x) underflows."""
    low = x < -15
    high_part = torch.log(softplus(torch.where(low, 0.0, x)))
    return torch.where(low, x - 0.5 * torch.exp(torch.where(low, x, 0.0)), high_part)


def up_to_first(hit: Tensor, real: Tensor) -> Tensor:
    """Real positions up to and including the first hit along dimension 1."""
    before = hit.long().cumsum(dim=1) - hit.long()
    return real & (before == 0)
