"""Models as a user writes them, who has read docs/your-own.md and nothing else."""

from __future__ import annotations

import torch
from torch import nn


class Pairs(nn.Module):
    """Scores a user and an item from both vectors: no product of vectors could."""

    def __init__(self, users, items, width=6):
        super().__init__()
        self.users, self.items = nn.Embedding(users, width), nn.Embedding(items, width)
        self.layers = nn.Sequential(nn.Linear(2 * width, 16), nn.ReLU(), nn.Linear(16, 1))

    def forward(self, users, items):
        return self.layers(torch.cat([self.users(users), self.items(items)], dim=-1))


class Known(nn.Module):
    """Scores of what is known of an item alone, beside how much each user takes."""

    def __init__(self, users, item_features):
        super().__init__()
        self.item_features = item_features
        self.users = nn.Embedding(users, item_features.shape[1])

    def forward(self, users, items):
        return (self.users(users) * self.item_features[items]).sum(dim=-1)


class Product(nn.Module):
    """Matrix factorisation once more, pair by pair."""

    def __init__(self, users, items, width=5):
        super().__init__()
        self.users, self.items = nn.Embedding(users, width), nn.Embedding(items, width)
        self.bias = nn.Embedding(items, 1)

    def forward(self, users, items):
        return (self.users(users) * self.items(items)).sum(dim=-1) + self.bias(items).squeeze(-1)


class Vector(nn.Module):
    """A text's vector."""

    def __init__(self, vocabulary, dimension):
        super().__init__()
        self.words = nn.EmbeddingBag(vocabulary, dimension, padding_idx=0)

    def forward(self, ids):
        return self.words(ids)


class Scores(Vector):
    """A text's score of each item."""

    def __init__(self, vocabulary, items):
        super().__init__(vocabulary, items)


class Writer(nn.Module):
    """An encoder-decoder without any cache: the mean of the source beside a recurrent decoder."""

    def __init__(self, vocabulary, width=16):
        super().__init__()
        self.words = nn.Embedding(vocabulary, width)
        self.decoder = nn.GRU(2 * width, width, batch_first=True)
        self.out = nn.Linear(width, vocabulary)

    def forward(self, source, source_mask, target_in):
        read = self.words(source) * source_mask.unsqueeze(-1)
        mean = read.sum(dim=1, keepdim=True) / source_mask.sum(dim=1)[:, None, None]
        given = self.words(target_in)
        states, _ = self.decoder(torch.cat([given, mean.expand_as(given)], dim=-1))
        return self.out(states)


def items_alone(features):
    """No list around them, and a last axis of one number."""
    return nn.Sequential(nn.Linear(features, 8), nn.ReLU(), nn.Linear(8, 1))


def two_numbers(features):
    return nn.Linear(features, 2)


def wide(vocabulary):
    return Vector(vocabulary, 3)


def pairs_of_three(users, items):
    class Three(Pairs):
        def forward(self, users, items):
            return super().forward(users, items).expand(-1, 3)

    return Three(users, items)


def one_input(users, items):
    return nn.Embedding(users, 4)


class Failing(Pairs):
    def forward(self, users, items):
        return self.users(users) @ self.items(items)


class Unmade(Pairs):
    def __init__(self, users, items):
        super().__init__(users, items, {}["width"])


class Ahead(Writer):
    """Its decoder reads from the end, too."""

    def forward(self, source, source_mask, target_in):
        turned = super().forward(source, source_mask, target_in.flip(1)).flip(1)
        return super().forward(source, source_mask, target_in) + turned


class TwoInputs(Writer):
    def forward(self, source, target_in):
        return super().forward(source, source != 0, target_in)


class Short(Writer):
    def forward(self, source, source_mask, target_in):
        return super().forward(source, source_mask, target_in)[:, -1]


class Integers(nn.Module):
    def forward(self, features):
        return features.sum(dim=-1).long()


def integers(features):
    return Integers()
