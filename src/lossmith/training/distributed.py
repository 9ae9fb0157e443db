"""One training in several processes, through accelerate: each computes some rows of every batch.

The model is what costs: every process runs it forward and backward on its rows alone. Its outputs
are gathered, and every process computes the objective of the whole batch, so that any objective,
one that compares the rows of a batch included, has the value it has in one process; no count is
local. Backward, a process gets the gradient of its own rows, and the sum over the processes is the
gradient of one process.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from lossmith.training.job import RequestError

if TYPE_CHECKING:
    from lossmith.tasks.task import GradientLearner, Problem


class Processes:
    """Those that train together; this one alone, unless a launcher such as torchrun says more."""

    rank, size = 0, 1

    @property
    def first(self) -> bool:
        """Whether it is this one that reads and writes the folder and talks to the user."""
        return self.rank == 0

    def wait(self) -> None:
        """Go on when all have come here."""

    def any(self, flag: bool) -> bool:
        """Whether one of them says so."""
        return flag

    def share(self, learner: GradientLearner, problem: Problem) -> None:
        """Let the learner compute its rows alone."""


class Launched(Processes):
    """The processes of ``torchrun``, on processors."""

    def __init__(self) -> None:
        try:
            from accelerate import Accelerator
        except ModuleNotFoundError:
            raise RequestError(
                "a training in several processes needs accelerate. Try "
                'pip install "lossmith[distributed]".'
            ) from None
        self.accelerator = Accelerator(cpu=True)
        self.rank = int(self.accelerator.process_index)
        self.size = int(self.accelerator.num_processes)

    def wait(self) -> None:
        """Go on when all have come here."""
        self.accelerator.wait_for_everyone()

    def any(self, flag: bool) -> bool:
        """Whether one of them says so."""
        return bool(self.accelerator.reduce(torch.tensor(float(flag)), "sum") > 0)

    def share(self, learner: GradientLearner, problem: Problem) -> None:
        """Let the learner compute its rows alone."""
        if not problem.rows_apart:
            raise RequestError(
                "this task trains in one process: its model does not compute the rows of a batch "
                "apart. Leave torchrun out."
            )
        learner.called = Shards(learner.model, self)
        learner.before_step = lambda: self._sum_gradients(learner.model)

    def _sum_gradients(self, model: nn.Module) -> None:
        gradients = [one.grad for one in model.parameters() if one.grad is not None]
        whole = self.accelerator.reduce(torch.cat([one.flatten() for one in gradients]), "sum")
        parts = torch.split(whole, [one.numel() for one in gradients])
        for gradient, part in zip(gradients, parts, strict=True):
            gradient.copy_(part.view_as(gradient))


def join() -> Processes:
    """The processes that were launched together, by what their launcher left in the environment."""
    return Launched() if int(os.environ.get("WORLD_SIZE", "1")) > 1 else Processes()


class Shards(nn.Module):
    """A model that is given whole batches, computes its rows of them, and returns all outputs."""

    def __init__(self, model: nn.Module, processes: Launched) -> None:
        super().__init__()
        self.model, self.processes = model, processes

    def forward(self, *inputs: Tensor) -> Tensor:
        """The outputs of all rows, the same in every process."""
        rank, size = self.processes.rank, self.processes.size
        rows = len(inputs[0])
        # The random state is the same everywhere; what a process drops out is its own.
        key = int(torch.randint(2**62, ()))
        with torch.random.fork_rng(devices=[]):
            if rows < size:
                torch.manual_seed(key)
                alike: Tensor = _Alike.apply(self.model(*inputs), size)  # type: ignore[no-untyped-call]  # torch leaves it untyped
                return alike
            torch.manual_seed(key + rank)
            own = [torch.tensor_split(one, size)[rank] for one in inputs]
            outputs = self.model(*own)
        gathered: Tensor = _Gather.apply(outputs, rows, self.processes)  # type: ignore[no-untyped-call]  # torch leaves it untyped
        return gathered


class _Gather(torch.autograd.Function):
    """All rows forward; backward the gradient of the process's own."""

    @staticmethod
    def forward(ctx: Any, own: Tensor, rows: int, processes: Launched) -> Tensor:
        size = processes.size
        sizes = [len(part) for part in torch.tensor_split(torch.empty(rows, 0), size)]
        ctx.first, ctx.rows = sum(sizes[: processes.rank]), len(own)
        padded = own.new_zeros(max(sizes), *own.shape[1:])
        padded[: len(own)] = own
        blocks = processes.accelerator.gather(padded.contiguous()).split(max(sizes))
        return torch.cat([block[:n] for block, n in zip(blocks, sizes, strict=True)])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        return gradients[0][ctx.first : ctx.first + ctx.rows], None, None


class _Alike(torch.autograd.Function):
    """What every process computes alike: the sum of their gradients has to be one of them."""

    @staticmethod
    def forward(ctx: Any, outputs: Tensor, size: int) -> Tensor:
        ctx.size = size
        return outputs.view_as(outputs)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return gradients[0] / ctx.size, None
