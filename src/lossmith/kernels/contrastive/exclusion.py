"""Which pairs of a query and a candidate count as wrong answers."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from lossmith.kernels.contrastive.engine import ABSENT, Optionals

# Larger than any difference of similarities is small: a step of 0 or 1 by arithmetic, which on a
# block costs a fraction of what a bool mask does.
STEEP = -ABSENT


@dataclass(frozen=True)
class Exclusion:
    """Pairs that are left out of a row's candidates, in forms linear in the batch.

    The candidate in column i is the positive of row i; columns past the rows are negatives of all.
    """

    own: bool = True  # a row's own positive is no wrong answer
    bias: Tensor | None = None  # added to a column's similarities; ABSENT takes it out
    rows_out: Tensor | None = None  # bool: rows that ask nothing and are no candidates
    ids: Tensor | None = None  # float whole numbers: rows and columns of equal id
    pairs: Tensor | None = None  # (2, P) rows and columns, sorted by row
    guide_rows: Tensor | None = None  # a teacher's vectors, or its scores (rows, columns)
    guide_columns: Tensor | None = None
    guide_limit: Tensor | None = None  # a row's teacher score past which a candidate is right too

    def constants(self) -> Optionals:
        """The tensors, in the order that :meth:`of` reads."""
        return [
            self.bias,
            self.rows_out,
            self.ids,
            self.pairs,
            self.guide_rows,
            self.guide_columns,
            self.guide_limit,
        ]

    def beside(self, other: Exclusion, size: int, more: Tensor) -> Exclusion:
        """This for the first ``size`` columns, and the bias of the other for those of ``more``."""
        if self.bias is None and other.bias is None:
            return self
        first = more.new_zeros(size) if self.bias is None else self.bias
        second = more.new_zeros(len(more)) if other.bias is None else other.bias
        return replace(self, bias=torch.cat([first, second]))

    @staticmethod
    def of(constants: Optionals, own: float) -> Exclusion:
        """The inverse of :meth:`constants`."""
        return Exclusion(bool(own), *constants)

    def apply(self, block: Tensor, start: int, scratch: Tensor, by_column: bool = False) -> None:
        """Take the excluded pairs out of similarities of rows from ``start`` on, in place.

        ``by_column``: the teacher's limit is that of the column, which asks the rows.
        """
        stop = start + len(block)
        if self.bias is not None:
            block.add_(self.bias)
        if self.ids is not None:
            self._drop_equal_ids(block, start, stop, scratch)
        if self.guide_limit is not None:
            self._drop_by_guide(block, start, stop, scratch, by_column)
        if self.pairs is not None:
            self._drop_pairs(block, start, stop)
        if self.own:
            block.diagonal(offset=start).fill_(ABSENT)
        if self.rows_out is not None:
            block.masked_fill_(self.rows_out[start:stop, None], ABSENT)

    def _drop_equal_ids(self, block: Tensor, start: int, stop: int, scratch: Tensor) -> None:
        assert self.ids is not None
        columns = len(self.ids)
        gap = scratch[:, :columns]
        torch.sub(self.ids[start:stop, None], self.ids, out=gap)
        gap.abs_().clamp_(max=1.0).sub_(1.0).mul_(STEEP)  # 0 where ids differ, ABSENT where equal
        block[:, :columns].add_(gap)

    def _drop_by_guide(
        self, block: Tensor, start: int, stop: int, scratch: Tensor, by_column: bool
    ) -> None:
        assert self.guide_limit is not None and self.guide_rows is not None
        columns = len(self.guide_limit)
        excess = scratch[:, :columns]
        if self.guide_columns is None:
            excess.copy_(self.guide_rows[start:stop])
        else:
            torch.mm(self.guide_rows[start:stop], self.guide_columns.T, out=excess)
        excess.sub_(self.guide_limit if by_column else self.guide_limit[start:stop, None])
        excess.mul_(STEEP).clamp_(0.0, STEEP)
        block[:, :columns].sub_(excess)

    def _drop_pairs(self, block: Tensor, start: int, stop: int) -> None:
        assert self.pairs is not None
        edges = torch.tensor([start, stop], device=block.device)
        first, last = torch.searchsorted(self.pairs[0].contiguous(), edges).tolist()
        rows, columns = self.pairs[:, first:last]
        block[rows - start, columns] = ABSENT

    def whole(self, similarity: Tensor, by_column: bool = False) -> Tensor:
        """The same out of place, for the whole matrix."""
        if self.bias is not None:
            similarity = similarity + self.bias
        out = torch.zeros_like(similarity, dtype=torch.bool)
        size = len(similarity)
        if self.own:
            out = out | torch.ones_like(out).tril().triu()
        if self.ids is not None:
            out = _widen(out, self.ids.unsqueeze(1) == self.ids)
        if self.guide_limit is not None:
            assert self.guide_rows is not None
            scores = self.guide_rows
            if self.guide_columns is not None:
                scores = self.guide_rows @ self.guide_columns.T
            limit = self.guide_limit if by_column else self.guide_limit.unsqueeze(1)
            out = _widen(out, scores > limit)
        if self.pairs is not None:
            rows, columns = self.pairs
            flat = torch.zeros_like(out, dtype=similarity.dtype).flatten()
            hit = flat.index_add(
                0, rows * out.shape[1] + columns, torch.ones_like(rows, dtype=flat.dtype)
            )
            out = out | (hit.view_as(out) > 0)
        if self.rows_out is not None:
            out = out | self.rows_out.unsqueeze(1)
            assert size == len(self.rows_out)
        return torch.where(out, torch.full_like(similarity, ABSENT), similarity)


def _widen(out: Tensor, square: Tensor) -> Tensor:
    """Add pairs of rows and their own columns to those of all columns."""
    extra = out.shape[1] - square.shape[1]
    return out | torch.nn.functional.pad(square, (0, extra))
