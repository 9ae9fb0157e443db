"""A KL divergence that is given probabilities for log-probabilities.

Published: the commonest question about ``torch.nn.functional.kl_div``, whose first argument is log
p.
Costs: ``sum q (log q - p)`` is least when all of p is on the likeliest class, so the student
learns the teacher's argmax and forgets the rest; the value is negative, which no divergence is.
Mend: ``log_softmax``.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from lossmith.core.labels import check_distribution
from lossmith.core.numerics import times_log, upcast
from lossmith.core.reduce import reduce
from lossmith.core.validate import check_float, check_same_shape

FAMILY = "classification"
INPUTS = "logits+distribution"
CAUGHT_BY = ("descent",)


def broken(logits: Tensor, target: Tensor) -> Tensor:
    """softmax where log_softmax is asked for."""
    return F.kl_div(logits.softmax(-1), target, reduction="batchmean")


def corrected(logits: Tensor, target: Tensor) -> Tensor:
    """The divergence of the target from the model."""
    check_float(logits=logits)
    check_same_shape(logits=logits, target=target)
    check_distribution("target", target, None)
    logits, target = upcast(logits, target)
    log_q = torch.where(target > 0, target, 1.0).log()
    cost = times_log(target, log_q) - times_log(target, logits.log_softmax(-1))
    return reduce(cost.sum(-1))
