"""One training in several processes, through accelerate: each computes some rows of every batch.

The model is what costs: every process runs it forward and backward on its rows alone. Its outputs
are gathered, and every process computes the objective of the whole batch, so that any objective,
one that compares the rows of a batch included, has the value it has in one process; no count is
local. Backward, a process gets the gradient of its own rows, and the sum over the processes is the
gradient of one process.

That pays where the model costs more than its outputs do on their way: for the embedded generation
each of two processes needs half the processor time of one. A bag of words or a table of vectors is
faster in one process; WARP's fused step, five times.

The weights are those of one process up to rounding, save for what the objective does not see. A
loss of the differences of scores (most losses of lists and pairs) has no gradient for what moves
all scores of a list alike: the last bias, an offset, the biases of hidden units that are on for
every item; nor has attention for the bias of its keys. There rounding leaves some 1e-10 in place
of 0, which AdamW, dividing by its size, turns into steps. In float64 those weights agree as well.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import sys
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar, cast

import torch
from torch import Tensor, nn

from lossmith.training.job import RequestError
from lossmith.training.launch import NEEDS

if TYPE_CHECKING:
    from lossmith.tasks.task import GradientLearner, Problem

T = TypeVar("T")


class Processes:
    """Those that train together; this one alone, unless a launcher says more."""

    rank, size = 0, 1

    @property
    def first(self) -> bool:
        """Whether it is this one that reads and writes the folder and talks to the user."""
        return self.rank == 0

    def any(self, flag: bool) -> bool:
        """Whether one of them says so."""
        return flag

    def agreed(self, work: Callable[[], T]) -> T:
        """What the work makes, once all have done it; a mistake in one of them is raised in all."""
        return work()

    def share(self, learner: GradientLearner, problem: Problem) -> None:
        """Let the learner compute its rows alone."""


class Launched(Processes):
    """The processes of ``--processes`` or ``torchrun``, on processors."""

    def __init__(self) -> None:
        try:
            from accelerate import Accelerator
        except ModuleNotFoundError:
            raise RequestError(NEEDS) from None
        self.accelerator = Accelerator(cpu=True)
        atexit.register(_leave)
        self.rank = int(self.accelerator.process_index)
        self.size = int(self.accelerator.num_processes)

    def any(self, flag: bool) -> bool:
        """Whether one of them says so."""
        with _talk():
            return bool(self.accelerator.reduce(torch.tensor(float(flag)), "sum") > 0)

    def agreed(self, work: Callable[[], T]) -> T:
        """What the work makes, once all have done it; a mistake in one of them is raised in all."""
        from accelerate.utils import gather_object

        made: T | None = None
        mistake: ValueError | None = None
        try:
            made = work()
        except ValueError as error:
            mistake = error
        with _talk():
            mistakes = gather_object([mistake])
        for first in mistakes:
            if first is not None:
                raise first
        return cast(T, made)

    def rows(self, call: Callable[..., Any]) -> Shards:
        """The same call, of which each process computes some rows."""
        return Shards(call, self)

    def alike(self, tensor: Tensor) -> Tensor:
        """What every process computes for itself: the gradients, added up, are that of one."""
        return _alike(tensor, self.size)

    def share(self, learner: GradientLearner, problem: Problem) -> None:
        """Let the learner compute its rows alone."""
        learner.called = problem.apart(learner.model, self)
        learner.before_step = lambda: self._sum_gradients(learner.model)

    def _sum_gradients(self, model: nn.Module) -> None:
        gradients = [one.grad for one in model.parameters() if one.grad is not None]
        flat = torch.cat([one.flatten() for one in gradients])
        with _talk():
            whole = self.accelerator.reduce(flat, "sum")
        parts = torch.split(whole, [one.numel() for one in gradients])
        for gradient, part in zip(gradients, parts, strict=True):
            gradient.copy_(part.view_as(gradient))


class PartedError(RuntimeError):
    """The processes cannot go on together; the cause is what their talk raised."""


@contextlib.contextmanager
def _talk() -> Iterator[None]:
    """Tell what is raised by the talk between the processes from what is raised by a loss."""
    try:
        yield
    except RuntimeError as error:
        raise PartedError(
            "another of its processes has ended, or cannot be reached any more."
        ) from error


def _leave() -> None:
    """End the talk between the processes together; where one leaves alone, it can abort."""
    if torch.distributed.is_initialized():
        with contextlib.suppress(RuntimeError):  # another has failed, and does not come here
            torch.distributed.monitored_barrier(timeout=timedelta(seconds=10))
        torch.distributed.destroy_process_group()


def end(code: int, *, together: bool = True) -> NoReturn:
    """End this process, one of several: the threads of their talk do not always survive an exit."""
    if together:
        _leave()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def join() -> Processes:
    """The processes that were launched together, by what their launcher left in the environment."""
    return Launched() if int(os.environ.get("WORLD_SIZE", "1")) > 1 else Processes()


Outputs = Tensor | tuple[Tensor, ...]


class Shards(nn.Module):
    """A call that is given whole batches, computes its rows of them, and returns all outputs."""

    def __init__(self, call: Callable[..., Outputs], processes: Launched) -> None:
        super().__init__()
        self.call, self.processes = call, processes

    def forward(self, *inputs: Tensor) -> Outputs:
        """The outputs of all rows, the same in every process."""
        rank, size = self.processes.rank, self.processes.size
        rows = len(inputs[0])
        # The random state is the same everywhere; what a process drops out is its own.
        key = int(torch.randint(2**62, ()))
        with torch.random.fork_rng(devices=[]):
            if rows < size:
                torch.manual_seed(key)
                return _each(self.call(*inputs), lambda one: _alike(one, size))
            torch.manual_seed(key + rank)
            own = [torch.tensor_split(one, size)[rank] for one in inputs]
            outputs = self.call(*own)
        return _each(outputs, lambda one: _gather(one, rows, self.processes))


def _each(outputs: Outputs, change: Callable[[Tensor], Tensor]) -> Outputs:
    return tuple(map(change, outputs)) if isinstance(outputs, tuple) else change(outputs)


def _gather(own: Tensor, rows: int, processes: Launched) -> Tensor:
    apply: Any = _Gather.apply  # torch leaves it untyped
    every: Tensor = apply(own, rows, processes)
    return every


def _alike(tensor: Tensor, size: int) -> Tensor:
    apply: Any = _Alike.apply  # torch leaves it untyped
    same: Tensor = apply(tensor, size)
    return same


class _Gather(torch.autograd.Function):
    """All rows forward; backward the gradient of the process's own."""

    @staticmethod
    def forward(ctx: Any, own: Tensor, rows: int, processes: Launched) -> Tensor:
        size = processes.size
        sizes = [len(part) for part in torch.tensor_split(torch.empty(rows, 0), size)]
        ctx.first, ctx.rows = sum(sizes[: processes.rank]), len(own)
        padded = own.new_zeros(max(sizes), *own.shape[1:])
        padded[: len(own)] = own
        with _talk():
            every = processes.accelerator.gather(padded.contiguous())
        blocks = every.split(max(sizes))
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
