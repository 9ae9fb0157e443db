"""Scores of a few items a row, against plain products."""

from __future__ import annotations

import pytest
import torch

from lossmith.kernels.dot_scores import dot_scores


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("draws", [1, 3, 30])  # the last are more than there are items
def test_scores_are_products_whichever_items_are_asked_for(dtype, draws, bias):
    torch.manual_seed(draws)
    users, vectors = torch.randn(6, 5).to(dtype), torch.randn(9, 5).to(dtype)
    biases = torch.randn(9).to(dtype) if bias else None
    rows = torch.tensor([4, 0, 0, 5])
    items = torch.randint(9, (4, draws))
    items[1] = items[1, 0]  # the same one each time
    score = dot_scores(users, vectors, biases)
    expected = (users[rows].unsqueeze(1) * vectors[items]).sum(dim=-1)
    expected = expected if biases is None else expected + biases[items]
    found = score(rows, items)
    with torch.no_grad():
        quick = score(rows, items)
    tolerance = {"atol": 0.1, "rtol": 0.1} if dtype is torch.bfloat16 else {}
    for one in (found, quick):
        assert one.dtype is dtype
        torch.testing.assert_close(one, expected, **tolerance)


@pytest.mark.parametrize(("rows", "draws"), [(0, 2), (3, 0)])
def test_nothing_asked_for_is_nothing_scored(rows, draws):
    score = dot_scores(torch.randn(4, 2), torch.randn(5, 2), torch.randn(5))
    with torch.no_grad():
        made = score(torch.arange(rows), torch.zeros(rows, draws, dtype=torch.long))
    assert made.shape == (rows, draws)
