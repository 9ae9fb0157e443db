"""Losses, metrics and models as a user writes them; worker processes import this file."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

import lossmith as lm
from lossmith.compare import judged


def plain(logits, target):
    return lm.cross_entropy(logits, target)


class Smoothed(nn.Module):
    def __init__(self, smoothing=0.1):
        super().__init__()
        self.smoothing = smoothing

    def forward(self, logits, target):
        return F.cross_entropy(logits, target, label_smoothing=self.smoothing)


def yes_or_no(logits, target):
    return lm.binary_cross_entropy(logits, target)


yes_or_no.inputs = "logits+binary"


def by_list(scores, relevance, mask):
    target = relevance.masked_fill(~mask, -torch.inf).softmax(dim=-1)
    log_p = scores.masked_fill(~mask, -torch.inf).log_softmax(dim=-1)
    return -(target * log_p.masked_fill(~mask, 0.0)).sum(dim=-1).mean()


def vector(logits, target):
    return F.cross_entropy(logits, target, reduction="none")


def not_a_number(logits, target):
    return logits.sum() * float("nan")


def dead(logits, target):
    return (logits.argmax(dim=-1) != target).float().mean()


def not_a_tensor(logits, target):
    return 0.5


def broken(logits, target):
    return logits @ logits


def share(logits, target):
    return ((logits > 0) == (target == 1)).double().mean()


share.higher_is_better = True


def first_is_best(scores, relevance, mask):
    best = scores.masked_fill(~mask, -torch.inf).argmax(dim=-1, keepdim=True)
    return relevance.gather(-1, best).squeeze(-1)


TOP = judged(first_is_best, higher_is_better=True)


class Bag(nn.Module):
    def __init__(self, vocabulary, outputs, width=4):
        super().__init__()
        self.words = nn.EmbeddingBag(vocabulary, width, padding_idx=0)
        self.out = nn.Linear(width, outputs)

    def forward(self, ids):
        return self.out(self.words(ids))


def linear_ranker(features):
    layer = nn.Linear(features, 1)
    return Scorer(layer)


class Scorer(nn.Module):
    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def forward(self, features, mask):
        return self.layer(features).squeeze(-1)
