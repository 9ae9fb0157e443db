"""What a similarity of two labelled rows counts as in an exponential."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Transform(NamedTuple):
    """``scale s``, or ``sign gamma [sign (s - o)]+ (s - c)``, the sign being that of ``scale``.

    The last is the circle loss's, whose factor in brackets is a weight without a gradient.
    """

    scale: float = 1.0
    gamma: float = 0.0  # 0: no weight
    origin: float = 0.0
    centre: float = 0.0

    def of(self, similarity: Tensor) -> Tensor:
        """The differentiable form."""
        if self.gamma == 0.0:
            return self.scale * similarity
        weight = (self.scale * self.gamma * (similarity.detach() - self.origin)).relu()
        return self.scale * weight * (similarity - self.centre)

    def apply(self, similarity: Tensor, out: Tensor) -> Tensor | None:
        """The form in place; the slope in ``out``, or None for the constant ``scale``."""
        if self.gamma == 0.0:
            if self.scale != 1.0:
                similarity.mul_(self.scale)
            return None
        slope = torch.sub(similarity, self.origin, out=out)
        slope.mul_(self.scale * self.gamma).clamp_(min=0.0)
        if self.scale != 1.0:
            slope.neg_()
        similarity.sub_(self.centre).mul_(slope)
        return slope

    @property
    def constant(self) -> float:
        """The slope where it is one number, and 1 where it is not."""
        return 1.0 if self.gamma else self.scale


PLAIN = Transform()
