"""What a model that recommends is: scores of items for users, some at a time or all of them."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable

import torch
from torch import Tensor, nn

from lossmith.tasks.place import place_of
from lossmith.tasks.task import Share

PAIRS_AT_ONCE = 1 << 18  # of users and items that a model of one's own scores


class Recommender(nn.Module):
    """Scores items for users. A user is a number, which may stand for a text.

    What scores are made of is read once for each user (:meth:`read`): it may be a vector.
    """

    @abstractmethod
    def read(self, users: Tensor) -> Tensor:
        """What stands for users ``[B]`` from here on, ``[B, ...]``."""

    @abstractmethod
    def score(self, read: Tensor, items: Tensor) -> tuple[Tensor, Tensor]:
        """Scores ``[B, K]`` of items ``[B, K]``, and a penalty ``[B]``."""

    @abstractmethod
    def catalogue(self, read: Tensor) -> Tensor:
        """Scores ``[B, N]`` of every item."""

    @abstractmethod
    def scorer(self, read: Tensor) -> Callable[[Tensor, Tensor], Tensor]:
        """What WARP's sampler asks: the scores of ``items [R, k]`` for the ``rows [R]`` of what
        was read. What is the same for all items may be left out.
        """

    @abstractmethod
    def user_penalty(self, read: Tensor) -> Tensor:
        """What the users add to the penalty, ``[B]``."""

    @abstractmethod
    def item_penalty(self, items: Tensor | None = None) -> Tensor:
        """What items ``[...]``, or all ``[N]``, add to it."""

    def forward(self, users: Tensor, items: Tensor) -> tuple[Tensor, Tensor]:
        """Scores ``[B, K]`` of items ``[B, K]`` for users ``[B]``, and a penalty ``[B]``.

        The penalty is of all that the scores were made of: of each user once, and of each item.
        """
        return self.score(self.read(users), items)

    def all_scores(self, users: Tensor) -> Tensor:
        """Scores ``[B, N]`` of every item."""
        return self.catalogue(self.read(users))


class Apart(Recommender):
    """A model of which several processes compute some rows each."""

    def __init__(self, model: Recommender, share: Share) -> None:
        super().__init__()
        self.model, self.share = model, share
        self.some, self.every = share.rows(model.score), share.rows(model.catalogue)
        self.users = share.rows(model.read)

    def read(self, users: Tensor) -> Tensor:
        """By users."""
        found: Tensor = self.users(users)
        return found

    def score(self, read: Tensor, items: Tensor) -> tuple[Tensor, Tensor]:
        """By users."""
        found: tuple[Tensor, Tensor] = self.some(read, items)
        return found

    def catalogue(self, read: Tensor) -> Tensor:
        """By users."""
        scores: Tensor = self.every(read)
        return scores

    def scorer(self, read: Tensor) -> Callable[[Tensor, Tensor], Tensor]:
        """Violators are sought in every process: what is drawn depends on what was found."""
        return self.model.scorer(read)

    def user_penalty(self, read: Tensor) -> Tensor:
        """Of what all have read."""
        return self.model.user_penalty(read)

    def item_penalty(self, items: Tensor | None = None) -> Tensor:
        """In every process."""
        return self.share.alike(self.model.item_penalty(items))


class _NoVectors(Recommender):
    """A model that shows scores and no vectors, so that nothing can be penalised."""

    items: int

    def user_penalty(self, read: Tensor) -> Tensor:
        """Nothing."""
        return torch.zeros(len(read), device=read.device)

    def item_penalty(self, items: Tensor | None = None) -> Tensor:
        """Nothing."""
        return torch.zeros(self.items if items is None else items.shape, device=place_of(self))


class PairScores(_NoVectors):
    """A model of the user's own, which scores pairs: ``model(users [M], items [M]) -> [M]``."""

    def __init__(self, model: nn.Module, items: int) -> None:
        super().__init__()
        self.model, self.items = model, items

    def read(self, users: Tensor) -> Tensor:
        """The users' numbers."""
        return users

    def score(self, read: Tensor, items: Tensor) -> tuple[Tensor, Tensor]:
        """Each pair by itself, and no penalty."""
        users = read.unsqueeze(-1).expand_as(items).flatten()
        pairs = torch.split(users, PAIRS_AT_ONCE), torch.split(items.flatten(), PAIRS_AT_ONCE)
        scores = torch.cat([self.model(*some) for some in zip(*pairs, strict=True)])
        return scores.view(items.shape), self.user_penalty(read)

    def catalogue(self, read: Tensor) -> Tensor:
        """Every item with every user, block by block."""
        users, place = torch.unique(read, return_inverse=True)  # a batch has some of them again
        every = torch.arange(self.items, device=users.device).expand(len(users), self.items)
        return self.score(users, every)[0][place]

    def scorer(self, read: Tensor) -> Callable[[Tensor, Tensor], Tensor]:
        """The pairs that the sampler draws."""
        return lambda rows, items: self.score(read[rows], items)[0]


class RowScores(_NoVectors):
    """A model that scores all items at once, of which some are looked up."""

    def __init__(self, items: int) -> None:
        super().__init__()
        self.items = items

    def score(self, read: Tensor, items: Tensor) -> tuple[Tensor, Tensor]:
        """Those of the scores that are asked for, and no penalty."""
        return read.gather(1, items), self.user_penalty(read)

    def catalogue(self, read: Tensor) -> Tensor:
        """The scores themselves."""
        return read

    def scorer(self, read: Tensor) -> Callable[[Tensor, Tensor], Tensor]:
        """Those that the sampler draws."""
        return lambda rows, items: read[rows].gather(1, items)
