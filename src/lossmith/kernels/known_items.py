"""The items that each user is known to like, looked up for a batch of rows at once."""

from __future__ import annotations

import copy

import torch
from torch import Tensor

from lossmith.core.validate import check_values, check_whole_number, shape_text

# Up to here a table of all pairs, a byte each, answers faster than a search among the known ones.
TABLE_CELLS = 1 << 26


class KnownItems:
    """The items each user is known to like, in memory proportional to the number of pairs.

    A catalogue and users that fit get a table of at most 64 MiB beside them, for speed.

    ``rows(users)`` is the same set with row r standing for ``users[r]``, as a batch needs it.

    >>> known = KnownItems(torch.tensor([0, 0, 2]), torch.tensor([4, 1, 3]), num_items=5)
    >>> known.contains(torch.tensor([0, 1]), torch.tensor([[1, 2, 4], [1, 2, 4]]))
    tensor([[ True, False,  True],
            [False, False, False]])
    >>> known.rows(torch.tensor([2, 0])).dense(torch.tensor([0]))
    tensor([[False, False, False,  True, False]])
    """

    def __init__(self, users: Tensor, items: Tensor, *, num_items: int) -> None:
        check_whole_number("num_items", num_items, 1)
        if users.dim() != 1 or users.shape != items.shape:
            raise ValueError(
                f"users {shape_text(users)} and items {shape_text(items)} must be two vectors of "
                "the same length: the k-th pair is (users[k], items[k])."
            )
        for name, index in (("users", users), ("items", items)):
            if index.is_floating_point() or index.dtype is torch.bool:
                raise TypeError(f"{name} must hold indices; got {index.dtype}. Try {name}.long().")
        users, items = users.long(), items.long()
        check_values("users", users, users >= 0, "a user index, at least 0")
        in_catalogue = (items >= 0) & (items < num_items)
        check_values("items", items, in_catalogue, f"an item index in [0, {num_items - 1}]")
        pairs: Tensor = torch.unique(users * num_items + items)
        first_of_user = torch.searchsorted(pairs, pairs // num_items * num_items)
        place = torch.arange(len(pairs), device=pairs.device) - first_of_user
        # The end mark keeps every search inside, even with no pairs at all.
        end = pairs.new_full((1,), torch.iinfo(torch.int64).max)
        self.num_items = num_items
        self._pairs = torch.cat([pairs, end])
        self._gaps = torch.cat([pairs - place, end])
        self._users: Tensor | None = None
        self._table = self._make_table(pairs)

    def __len__(self) -> int:
        return len(self._pairs) - 1

    @classmethod
    def from_mask(cls, known: Tensor) -> KnownItems:
        """From a bool table ``[users, items]``."""
        if known.dtype is not torch.bool:
            raise TypeError(f"known must be bool, True = known; got {known.dtype}.")
        users, items = known.nonzero(as_tuple=True)
        return cls(users, items, num_items=known.shape[1])

    @property
    def has_table(self) -> bool:
        """Whether :meth:`contains` looks into a table, at next to no cost."""
        return self._table is not None

    def rows(self, users: Tensor) -> KnownItems:
        """The same pairs, seen by rows: row r is ``users[r]``."""
        view = copy.copy(self)
        users = users.long()
        view._users = users if self._users is None else self._users[users]
        return view

    def check_fits(self, rows: int, num_items: int) -> None:
        """Raise unless it can serve a batch of that many rows over that catalogue."""
        if self.num_items != num_items:
            raise ValueError(f"known is about {self.num_items} items; num_items is {num_items}.")
        if self._users is None:
            raise ValueError(
                "known does not say which user each row is; try known=known.rows(users) with the "
                f"batch's {rows} users."
            )
        if len(self._users) != rows:
            raise ValueError(
                f"known.rows(users) was made for {len(self._users)} users; the batch has "
                f"{rows} rows."
            )

    def to(self, device: torch.device | str) -> KnownItems:
        """The same pairs on another device."""
        moved = copy.copy(self)
        moved._pairs, moved._gaps = self._pairs.to(device), self._gaps.to(device)
        moved._table = None if self._table is None else self._table.to(device)
        moved._users = None if self._users is None else self._users.to(device)
        return moved

    def contains(self, rows: Tensor, items: Tensor) -> Tensor:
        """Whether each of ``items [R, k]`` is known for its row ``rows [R]``."""
        wanted = self._start(rows) + items
        if self._table is not None:
            # A user beyond the last known one ends at the last cell, which is nobody's.
            flat = wanted.flatten().clamp_(0, len(self._table) - 1)
            return self._table.index_select(0, flat).view_as(wanted)
        found: Tensor = self._pairs[torch.searchsorted(self._pairs, wanted)] == wanted
        return found

    def below(self, rows: Tensor, items: Tensor | int) -> Tensor:
        """How many items with a smaller index than each of ``items [R, k]`` are known."""
        start = self._start(rows)
        return torch.searchsorted(self._pairs, start + items) - self._first(start)

    def unknown(self, rows: Tensor, places: Tensor) -> Tensor:
        """The items at ``places [R, k]`` (0-based) among those of each row that are not known.

        The j-th known item (0-based) has (item - j) unknown ones before it; so as many known
        items stand before the wanted one as have at most ``place`` unknown ones before them.
        """
        start = self._start(rows)
        passed = torch.searchsorted(self._gaps, start + places, right=True)
        return places + passed - self._first(start)

    def dense(self, rows: Tensor) -> Tensor:
        """The table ``[R, num_items]``, True where the item is known."""
        start, count = self._start(rows), self.below(rows, self.num_items).squeeze(-1)
        row = torch.arange(len(rows), device=rows.device).repeat_interleave(count)
        place = torch.arange(len(row), device=rows.device) - (count.cumsum(0) - count)[row]
        pair = self._pairs[self._first(start)[row, 0] + place]
        table = torch.zeros(len(rows), self.num_items, dtype=torch.bool, device=rows.device)
        table[row, pair - start[row, 0]] = True
        return table

    def _make_table(self, pairs: Tensor) -> Tensor | None:
        """True in the cell of every known pair, with one more cell at the end, False."""
        users = int(pairs[-1]) // self.num_items + 1 if len(pairs) else 0
        if users * self.num_items > TABLE_CELLS:
            return None
        cells = users * self.num_items + 1
        return torch.zeros(cells, dtype=torch.bool, device=pairs.device).index_fill_(0, pairs, True)

    def _start(self, rows: Tensor) -> Tensor:
        """What the keys of each row's user begin with, ``[R, 1]``."""
        users = rows if self._users is None else self._users.index_select(0, rows)
        return (users * self.num_items).unsqueeze(-1)

    def _first(self, start: Tensor) -> Tensor:
        return torch.searchsorted(self._pairs, start)
