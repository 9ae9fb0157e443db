"""Large vocabularies: cross-entropy from hidden states, token statistics, keyword losses.

Liger-Kernel and cut-cross-entropy are Triton kernels and have no form for a CPU; they stand in no
row here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

import lossmith as lm
from benchmarks.case import Case, Contender, Inputs, Size

BLOCK_BYTES = 256 << 20
LENGTH = 128  # positions of a sequence
# So many cells of logits that a run of torch's own chunks, which read the head for each, takes half
# a minute.
PATIENCE = 300_000_000


def head_inputs(size: Size) -> Inputs:
    """Hidden states, an output layer and targets, a tenth of them ignored."""
    rows, width, vocabulary = size["N"], size["d"], size["V"]
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(rows, width, generator=generator).mul_(0.5)
    head = torch.randn(vocabulary, width, generator=generator).mul_(0.05)
    target = torch.randint(vocabulary, (rows,), generator=generator)
    target[::10] = -100
    return {
        "hidden": hidden.requires_grad_(),
        "head": head.requires_grad_(),
        "target": target,
        "weight": torch.rand(rows, generator=generator),
        "class_weight": torch.rand(vocabulary, generator=generator) + 0.5,
        "keywords": torch.randint(vocabulary, (4,), generator=generator),
    }


def logit_inputs(size: Size) -> Inputs:
    """Logits of sequences, targets, three keywords for all, and 4 % of the positions marked."""
    shape = (size["B"], LENGTH, size["V"])
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(shape, generator=generator).requires_grad_()
    target = torch.randint(size["V"], shape[:2], generator=generator)
    keywords = torch.randint(size["V"], (3,), generator=generator)
    return {
        "logits": logits,
        "target": target,
        "keywords": keywords,
        "marked": torch.rand(shape[:2], generator=generator) < 0.04,
    }


def trains(loss: Callable[[Inputs], Tensor]) -> Callable[[Inputs], Tensor]:
    """A forward and a backward pass; the gradients are dropped first, as an optimizer does."""

    def run(x: Inputs) -> Tensor:
        for tensor in x.values():
            tensor.grad = None
        value = loss(x)
        value.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        return value.detach()

    return run


def three_products(x: Inputs) -> Tensor:
    """Logits, and what their gradient brings to both factors, in blocks of 256 MB."""
    hidden, head = x["hidden"].detach(), x["head"].detach()
    rows = max(BLOCK_BYTES // (4 * len(head)), 1)
    block = hidden.new_empty(min(rows, len(hidden)), len(head))
    by_hidden, by_head = torch.empty_like(hidden), torch.zeros_like(head)
    for a in range(0, len(hidden), rows):
        part = hidden[a : a + rows]
        logits = torch.mm(part, head.t(), out=block[: len(part)])
        torch.mm(logits, head, out=by_hidden[a : a + rows])
        by_head.addmm_(logits.t(), part)
    return by_hidden


def ours(x: Inputs) -> Tensor:
    """Plain cross-entropy, one pass."""
    return lm.linear_cross_entropy(x["hidden"], x["head"], x["target"])


def ours_with_everything(x: Inputs) -> Tensor:
    """Every extra at once, the rows taken as sequences."""
    target = x["target"].view(-1, LENGTH)
    return lm.linear_cross_entropy(
        x["hidden"].view(*target.shape, -1),
        x["head"],
        target,
        class_weight=x["class_weight"],
        weight=x["weight"].view_as(target),
        label_smoothing=0.1,
        z_loss=1e-4,
        margin=0.9,
        gamma=1.0,
        keywords=x["keywords"],
        keyword_mask=torch.isin(target, x["keywords"]),
    )


def plain(x: Inputs) -> Tensor:
    """All logits at once."""
    return F.cross_entropy(F.linear(x["hidden"], x["head"]), x["target"])


def torch_linear(**options: Any) -> Callable[[Inputs], Tensor]:
    """The function that torch has since 2.13."""

    def loss(x: Inputs) -> Tensor:
        chosen = torch.nn.LinearCrossEntropyOptions(**options)
        return F.linear_cross_entropy(x["hidden"], x["head"], x["target"], options=chosen)

    return loss


def checkpointed(x: Inputs) -> Tensor:
    """Eight chunks of rows whose logits are made again in the backward pass."""

    def cost(hidden: Tensor, target: Tensor) -> Tensor:
        return F.cross_entropy(F.linear(hidden, x["head"]), target, reduction="sum")

    chunks = zip(x["hidden"].chunk(8), x["target"].chunk(8), strict=True)
    total = sum(checkpoint(cost, h, t, use_reentrant=False) for h, t in chunks)
    return torch.as_tensor(total / (x["target"] != -100).sum())


def our_statistics(x: Inputs) -> Tensor:
    """A loss of one's own: cross-entropy and the log-probabilities of four chosen tokens."""
    found = lm.token_statistics(x["hidden"], x["head"], x["target"], ids=x["keywords"])
    assert found.target_logit is not None and found.logits is not None
    return (found.log_sum_exp - found.target_logit).mean() + found.logits.square().mean()


def plain_statistics(x: Inputs) -> Tensor:
    """The same loss from all logits."""
    logits = F.linear(x["hidden"], x["head"])
    target = x["target"].clamp(min=0).unsqueeze(-1)
    gap = logits.logsumexp(dim=-1) - logits.gather(-1, target).squeeze(-1)
    real = x["target"] != -100
    chosen = torch.where(real.unsqueeze(-1), logits[:, x["keywords"]], 0.0)
    return torch.where(real, gap, 0.0).mean() + chosen.square().mean()


def hybrid(x: Inputs) -> Tensor:
    """Cross-entropy, presence and placement."""
    return lm.keyword_hybrid(x["logits"], x["target"], x["keywords"], x["marked"])


def presence(x: Inputs) -> Tensor:
    """Presence alone, aware of what the reference has said."""
    return lm.keyword_presence(x["logits"], x["keywords"], target=x["target"])


def placement(x: Inputs) -> Tensor:
    """Placement alone."""
    return lm.keyword_placement(x["logits"], x["target"], x["marked"])


def our_cross_entropy(x: Inputs) -> Tensor:
    """Ours on given logits."""
    return lm.cross_entropy(x["logits"], x["target"])


def our_margin(x: Inputs) -> Tensor:
    """The one that stops at the margin."""
    return lm.margin_cross_entropy(x["logits"], x["target"])


def torch_cross_entropy(x: Inputs) -> Tensor:
    """What the keyword losses are measured against."""
    return F.cross_entropy(x["logits"].flatten(0, 1), x["target"].flatten())


def four_positions_in_a_loop(x: Inputs) -> Tensor:
    """The placement reward as published, position by position, on four positions alone.

    The time is linear in their number: whoever quotes it for more extrapolates, and says so.
    """
    log_p = x["logits"].log_softmax(dim=-1)
    reward = torch.zeros(())
    for b, t in x["marked"].nonzero()[:4].tolist():
        reward = reward + log_p[b, t, x["target"][b, t]]
    return torch_cross_entropy(x) - 0.25 * reward / x["target"].numel()


def one_read_one_write(x: Inputs) -> Tensor:
    """The bytes: the logits read once forward, read and written once backward."""
    logits = x["logits"].detach()
    return logits.sum() + torch.empty_like(logits).copy_(logits)[0, 0, 0]


def soon(size: Size) -> bool:
    """Whether torch's own chunks are done in time."""
    return size["N"] * size["V"] <= PATIENCE


HEADS = ({"N": 4096, "d": 256, "V": 32_000}, {"N": 4096, "d": 256, "V": 128_000})
SMALL_HEAD = ({"N": 1024, "d": 256, "V": 32_000},)
SEQUENCES = ({"B": 16, "V": 32_000}, {"B": 64, "V": 32_000})

CASES = (
    Case(
        name="linear cross-entropy",
        target="1.15 x the three products; 1.1 x faster than plain torch; under 300 MB",
        inputs=head_inputs,
        contenders={
            "lossmith": Contender(trains(ours)),
            "lossmith, everything": Contender(trains(ours_with_everything)),
            "torch, plain": Contender(trains(plain)),
            "torch, linear_cross_entropy": Contender(trains(torch_linear()), fits=soon),
            "torch, linear_cross_entropy(256)": Contender(
                trains(torch_linear(batch_chunk_size=256))
            ),
            "checkpointed chunks": Contender(trains(checkpointed)),
        },
        sizes=HEADS,
        quick=SMALL_HEAD,
        floor=three_products,
        at_most={
            "floor": 1.15,
            "torch, plain": 1 / 1.1,
            "lossmith, everything / lossmith": 1.05,
            "memory beyond gradients": 286,  # 300 MB
        },
    ),
    Case(
        name="token statistics",
        target="1.25 x plain torch at a tenth of its memory",
        inputs=head_inputs,
        contenders={
            "lossmith": Contender(trains(our_statistics)),
            "torch, plain": Contender(trains(plain_statistics)),
        },
        sizes=HEADS,
        quick=SMALL_HEAD,
        floor=three_products,
        at_most={"torch, plain": 1.25, "memory beyond gradients": 286},
    ),
    Case(
        name="keyword losses on logits",
        target="1.1 x plain cross-entropy",
        inputs=logit_inputs,
        contenders={
            "lossmith hybrid": Contender(trains(hybrid)),
            "lossmith presence": Contender(trains(presence)),
            "lossmith placement": Contender(trains(placement)),
            "lossmith cross-entropy": Contender(trains(our_cross_entropy)),
            "lossmith margin": Contender(trains(our_margin)),
            "torch, cross-entropy": Contender(trains(torch_cross_entropy)),
            "published loop, 4 positions": Contender(
                trains(four_positions_in_a_loop), fits=lambda size: size["B"] <= 16
            ),
        },
        sizes=SEQUENCES,
        quick=SEQUENCES[:1],
        floor=one_read_one_write,
        at_most={
            "lossmith hybrid / torch, cross-entropy": 1.1,
            "lossmith presence / torch, cross-entropy": 1.1,
            "lossmith placement / torch, cross-entropy": 1.1,
            "lossmith cross-entropy / torch, cross-entropy": 1.0,
            "lossmith margin / torch, cross-entropy": 1.0,
        },
    ),
)
