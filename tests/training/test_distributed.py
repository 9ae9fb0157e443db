"""The shards of a model: the outputs and gradients of the whole, on stand-ins for processes."""

from __future__ import annotations

import threading

import pytest
import torch
from torch import nn

from lossmith.losses.retrieval import info_nce
from lossmith.training.distributed import Shards


class Together:
    """Threads in place of processes, which gather and add up at a barrier."""

    def __init__(self, size: int) -> None:
        self.size, self.barrier = size, threading.Barrier(size, timeout=20)
        self.brought: list[torch.Tensor | None] = [None] * size

    def exchange(self, rank: int, tensor: torch.Tensor) -> list[torch.Tensor]:
        self.brought[rank] = tensor.detach()
        self.barrier.wait()
        found = [one.clone() for one in self.brought if one is not None]
        self.barrier.wait()
        return found


class One:
    """A process as :class:`Shards` sees it, its accelerator included."""

    def __init__(self, together: Together, rank: int) -> None:
        self.together, self.rank, self.size = together, rank, together.size
        self.accelerator = self

    def gather(self, tensor: torch.Tensor) -> torch.Tensor:
        return torch.cat(self.together.exchange(self.rank, tensor))


@pytest.mark.parametrize("rows", [2, 5, 6, 7])
def test_shards_have_the_outputs_and_the_gradients_of_the_whole(rows):
    """Under a loss that compares every row of the batch with every other."""
    torch.manual_seed(0)
    inputs, positives = torch.randn(rows, 4), torch.randn(rows, 3)
    whole = nn.Linear(4, 3)
    outputs = whole(inputs)
    info_nce(outputs, positives).backward()
    together = Together(3)
    models = [nn.Linear(4, 3) for _ in range(3)]
    seen: list[torch.Tensor] = [torch.empty(0)] * 3

    def work(rank: int) -> None:
        models[rank].load_state_dict(whole.state_dict())
        made = Shards(models[rank], One(together, rank))(inputs)
        seen[rank] = made.detach()
        info_nce(made, positives).backward()

    threads = [threading.Thread(target=work, args=(rank,)) for rank in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for made in seen:
        torch.testing.assert_close(made, outputs.detach())
    summed = sum(model.weight.grad for model in models)
    torch.testing.assert_close(summed, whole.weight.grad, rtol=1e-5, atol=1e-6)


def test_what_is_dropped_out_differs_and_the_random_state_stays_common():
    """Each alone, as threads share torch's random state; what others bring is the same again."""

    class Alone(One):
        def gather(self, tensor):
            return torch.cat([tensor] * self.size)

    states, outputs = [], []
    for rank in range(2):
        torch.manual_seed(7)
        outputs.append(Shards(nn.Dropout(0.5).train(), Alone(Together(2), rank))(torch.ones(40, 3)))
        states.append(torch.get_rng_state())
    assert torch.equal(states[0], states[1]) and not torch.equal(outputs[0], outputs[1])
