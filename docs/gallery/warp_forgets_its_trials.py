"""A WARP that resets its loss and forgets its trials.

Published: the pseudo-code of a question and answer about WARP in batches for Keras (text to
hashtag, cosine scores, 1,000 sampled negatives).
Costs: the loss of every example but the last is thrown away, so a batch of 64 trains one row, and
the number of trials is always 1, so every violation weighs log(items - 1).
Mend: take the first violator of each row at once; its place in draw order is the trial count.
"""

from __future__ import annotations

import math

import torch.nn.functional as F
from torch import Tensor

from lossmith.losses.recommendation import warp

FAMILY = "recommendation"
INPUTS = "positive+draws"
CAUGHT_BY = ("order", "descent")


def broken(
    positive: Tensor, negatives: Tensor, *, num_items: int = 100, margin: float = 1.0
) -> Tensor:
    """One row after the other, each with a fresh loss and a fresh counter."""
    loss = positive.sum() * 0
    for row in range(len(positive)):
        loss = positive.sum() * 0
        for draw in negatives[row]:
            trials = 1
            if draw > positive[row] - margin:
                loss = math.log((num_items - 1) / trials) * F.relu(margin - positive[row] + draw)
                break
    return loss


corrected = warp  # of this library, which declares that its value jumps with the rank
