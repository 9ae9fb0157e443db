from __future__ import annotations

import pytest
import torch

from lossmith.kernels.known_items import KnownItems


def test_known_items_agree_with_a_table() -> None:
    generator = torch.Generator().manual_seed(0)
    table = torch.rand(13, 17, generator=generator) < 0.3
    table[4] = True
    table[5] = False
    users, items = table.nonzero(as_tuple=True)
    order = torch.randperm(len(users), generator=generator)
    twice = torch.cat([order, order[:9]])
    known = KnownItems(users[twice], items[twice], num_items=17)
    assert len(known) == int(table.sum())
    rows = torch.randint(13, (50,), generator=generator)
    asked = torch.randint(17, (50, 6), generator=generator)
    assert known.contains(rows, asked).equal(table[rows].gather(1, asked))
    assert known.dense(rows).equal(table[rows])
    assert known.rows(rows).dense(torch.arange(50)).equal(table[rows])
    assert (
        known.rows(rows).rows(torch.tensor([3, 3])).dense(torch.tensor([1])).equal(table[rows[3:4]])
    )
    assert known.below(rows, asked).equal((table.cumsum(1) - table.long())[rows].gather(1, asked))
    for user in range(13):
        unknown = (~table[user]).nonzero().squeeze(-1)
        places = torch.arange(len(unknown)).unsqueeze(0)
        assert known.unknown(torch.tensor([user]), places)[0].equal(unknown)


def test_known_items_of_nobody_and_of_users_never_seen() -> None:
    nothing = torch.empty(0, dtype=torch.long)
    empty = KnownItems(nothing, nothing, num_items=3)
    rows = torch.tensor([0, 1_000_000])
    assert len(empty) == 0
    assert not bool(empty.dense(rows).any())
    assert not bool(empty.contains(rows, torch.tensor([[0], [2]])).any())
    one = KnownItems(torch.tensor([5]), torch.tensor([2]), num_items=3)
    assert not bool(one.dense(torch.tensor([4, 6])).any())


def test_known_items_keep_memory_in_proportion_to_the_pairs() -> None:
    users, items = torch.tensor([0, 3_000_000]), torch.tensor([0, 2_999_999])
    known = KnownItems(users, items, num_items=3_000_000)  # as a table, 9 terabytes
    assert known.contains(users, items.unsqueeze(-1)).all()


def test_known_items_errors_say_what_to_do() -> None:
    with pytest.raises(ValueError, match=r"users \(2,\) and items \(3,\) must be two vectors"):
        KnownItems(torch.zeros(2), torch.zeros(3), num_items=5)
    with pytest.raises(ValueError, match=r"items\[1\] is 5; expected an item index in \[0, 4\]"):
        KnownItems(torch.tensor([0, 0]), torch.tensor([1, 5]), num_items=5)
    with pytest.raises(
        TypeError, match=r"items must hold indices; got torch.float32. Try items.long"
    ):
        KnownItems(torch.tensor([0]), torch.tensor([1.0]), num_items=5)
    with pytest.raises(TypeError, match="known must be bool, True = known"):
        KnownItems.from_mask(torch.zeros(3, 5))
