"""From a model to sequences: the likeliest token at each step, or the likeliest of many paths."""

from __future__ import annotations

import torch
from torch import Tensor

from lossmith.tasks.codec import BEGIN_ID, END_ID, PAD_ID, UNKNOWN_ID
from lossmith.tasks.seq2seq import Seq2Seq, Tensors

NEVER = (PAD_ID, UNKNOWN_ID, BEGIN_ID)  # no part of an output


@torch.no_grad()
def greedy(model: Seq2Seq, source: Tensor, *, most: int, least: int = 1) -> list[list[int]]:
    """The likeliest token at each step, for every row at once.

    A row has ``least`` to ``most`` tokens, the end mark left out.
    """
    memory = model.encode(source)
    state = model.start(memory)
    token = source.new_full((len(source),), BEGIN_ID)
    ended = torch.zeros_like(token, dtype=torch.bool)
    said = []
    for step in range(most):
        logits, state = model.step(token, memory, state)
        token = _allowed(logits, step, least).argmax(dim=-1)
        ended = ended | (token == END_ID)
        token = torch.where(ended, PAD_ID, token)
        said.append(token)
        if bool(ended.all()):
            break
    return _rows(torch.stack(said, dim=1) if said else source[:, :0])


@torch.no_grad()
def beam_search(
    model: Seq2Seq,
    source: Tensor,
    *,
    beams: int,
    most: int,
    least: int = 1,
    length_penalty: float = 1.0,
) -> list[list[int]]:
    """The path of the highest score among those kept: at each step the ``beams`` likeliest.

    The score is ``log p / length ** length_penalty`` (the end mark counts); 0 gives log p, which
    favours short output. A path that has ended keeps its place while its log p is among the
    highest; a row is done when no path that goes on can still pass its best ended one.
    """
    rows = len(source)
    memory = _repeated(model.encode(source), beams)
    state = model.start(memory)
    token = source.new_full((rows * beams,), BEGIN_ID)
    log_p = torch.full((rows, beams), -torch.inf, device=source.device)
    log_p[:, 0] = 0.0  # all paths of a row begin alike: one of them stands for all
    ended = torch.zeros(rows, beams, dtype=torch.bool, device=source.device)
    length = torch.zeros(rows, beams, device=source.device)
    said = source.new_zeros(rows, beams, 0)
    every = torch.arange(rows, device=source.device)
    first = (every * beams).unsqueeze(1)
    for step in range(most):
        logits, state = model.step(token, memory, state)
        next_log_p = _allowed(logits, step, least).log_softmax(dim=-1).view(rows, beams, -1)
        # An ended path goes on in one way, with padding, at no cost.
        stay = torch.full_like(next_log_p, -torch.inf)
        stay[..., PAD_ID] = 0.0
        total = log_p.unsqueeze(-1) + torch.where(ended.unsqueeze(-1), stay, next_log_p)
        log_p, best = total.flatten(1).topk(beams, dim=-1)
        path, new = best // total.shape[-1], best % total.shape[-1]
        ended = ended.gather(1, path)
        length = length.gather(1, path) + (~ended).float()
        said = said.gather(1, path.unsqueeze(-1).expand(-1, -1, step))
        said = torch.cat([said, torch.where(new == END_ID, PAD_ID, new).unsqueeze(-1)], dim=-1)
        ended = ended | (new == END_ID)
        state = tuple(one.index_select(0, (first + path).flatten()) for one in state)
        token = torch.where(ended, PAD_ID, new).flatten()
        score = log_p / length**length_penalty
        finished = torch.where(ended, score, -torch.inf).amax(dim=1)
        hope = torch.where(ended, -torch.inf, log_p).amax(dim=1) / most**length_penalty
        if bool((finished >= hope).all()):
            break
    # At the limit a path that has not ended counts as it stands, behind any that has.
    score = torch.where(ended | ~ended.any(dim=1, keepdim=True), score, -torch.inf)
    chosen = score.argmax(dim=1)
    return _rows(said[every, chosen])


def _allowed(logits: Tensor, step: int, least: int) -> Tensor:
    """The logits without what an output never holds, and without an end that comes too soon."""
    banned = [*NEVER, END_ID] if step < least else list(NEVER)
    index = torch.tensor(banned, device=logits.device)
    return logits.index_fill(-1, index, -torch.inf)


def _repeated(tensors: Tensors, times: int) -> Tensors:
    return tuple(tensor.repeat_interleave(times, dim=0) for tensor in tensors)


def _rows(said: Tensor) -> list[list[int]]:
    """Rows without their padding, which stands behind the output alone."""
    return [[token for token in row if token != PAD_ID] for row in said.tolist()]
