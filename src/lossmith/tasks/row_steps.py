"""Steps of an optimizer on the rows of tables that a batch touched, the others left alone."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.optim import Adagrad, Optimizer
from torch.optim.adagrad import adagrad

from lossmith.kernels.factor_warp import RowGradient

KNOBS = ("lr", "lr_decay", "eps", "weight_decay", "maximize")  # of a group of parameters


class RowSteps:
    """Adagrad by rows: torch's own step, on the rows that have a gradient.

    Without a gradient a weight stays where it is under Adagrad, and so does its sum of squares.
    So the numbers are those of steps on whole tables, and what the optimizer keeps is too: the
    same training may do some steps this way and some that.
    """

    def __init__(self, optimizer: Optimizer) -> None:
        self.optimizer = optimizer
        self.groups = [
            ({id(table) for table in group["params"]}, {name: group[name] for name in KNOBS})
            for group in optimizer.param_groups
        ]

    @staticmethod
    def fit(optimizer: Optimizer) -> bool:
        """Whether the optimizer leaves alone what has no gradient."""
        groups = optimizer.param_groups
        return isinstance(optimizer, Adagrad) and not any(group["weight_decay"] for group in groups)

    @torch.no_grad()
    def step(self, changes: Sequence[tuple[Tensor, RowGradient]]) -> None:
        """One step of each table ``[N, d]`` along the gradient of some of its rows, or of all."""
        for held, knobs in self.groups:
            some = [_Change(t, self.optimizer.state[t], g) for t, g in changes if id(t) in held]
            if some:
                adagrad(
                    [change.weights for change in some],
                    [change.gradient for change in some],
                    [change.squares for change in some],
                    [change.state["step"] for change in some],
                    fused=some[0].table.device.type == "cpu",  # the one that has it
                    **knobs,
                )
            for change in some:
                change.put_back()


class _Change:
    """Some rows of a table and of the optimizer's sum of squares, taken out for a step."""

    def __init__(self, table: Tensor, state: dict[str, Tensor], given: RowGradient) -> None:
        self.table, self.state, self.rows = table, state, given.rows
        self.weights, self.squares = self.table, state["sum"]
        if self.rows is not None:
            self.weights = self.weights.index_select(0, self.rows)
            self.squares = self.squares.index_select(0, self.rows)
        self.gradient = given.gradient.view_as(self.weights)

    def put_back(self) -> None:
        """Write the rows where they came from; a whole table is there already."""
        if self.rows is not None:
            self.table.index_copy_(0, self.rows, self.weights)
            self.state["sum"].index_copy_(0, self.rows, self.squares)
