# Written by tools/generate.py from the registry; do not edit.
from typing import Literal

from torch import Tensor

from lossmith.core.module import Objective
from lossmith.core.numerics import Distance
from lossmith.core.reduce import Divisor, Reduction
from lossmith.kernels.keywords import Keywords
from lossmith.kernels.lambda_pairs import LambdaWeighting
from lossmith.kernels.pair_sums import Surrogate
from lossmith.kernels.violators import Weighting
from lossmith.losses.generation.risk import Baseline
from lossmith.losses.generation.terms import Form
from lossmith.losses.generation.terms import Require
from lossmith.losses.ranking.ndcg import Gain
from lossmith.losses.retrieval.structure import Guide

class CrossEntropy(Objective):
    def __init__(
        self,
        *,
        class_weight: Tensor | None = ...,
        ignore_index: int = ...,
        label_smoothing: float = ...,
        reduction: Reduction = ...,
    ) -> None: ...
    def forward(
        self,
        logits: Tensor,
        target: Tensor,
        *,
        mask: Tensor | None = ...,
        weight: Tensor | None = ...,
        divisor: Divisor | None = ...,
    ) -> Tensor: ...
    __call__ = forward

class KLDivergence(Objective):
    def __init__(
        self,
        *,
        reduction: Reduction = ...,
    ) -> None: ...
    def forward(
        self,
        logits: Tensor,
        target_probs: Tensor,
        *,
        mask: Tensor | None = ...,
        weight: Tensor | None = ...,
        divisor: Divisor | None = ...,
    ) -> Tensor: ...
    __call__ = forward

class BinaryCrossEntropy(Objective):
    def __init__(
        self,
        *,
        pos_weight: float | Tensor | None = ...,
        reduction: Reduction = ...,
    ) -> None: ...
    def forward(
        self,
        logits: Tensor,
        target: Tensor,
        *,
        mask: Tensor | None = ...,
        weight: Tensor | None = ...,
        divisor: Divisor | None = ...,
    ) -> Tensor: ...
    __call__ = forward

class MarginBinaryCrossEntropy(Objective):
    def __init__(
        self,
        *,
        margin: float = ...,
        continuous: bool = ...,
        reduction: Reduction = ...,
    ) -> None: ...
    def forward(
        self,
        logits: Tensor,
        target: Tensor,
        *,
        mask: Tensor | None = ...,
        weight: Tensor | None = ...,
        divisor: Divisor | None = ...,
    ) -> Tensor: ...
    __call__ = forward

class MarginCrossEntropy(Objective):
    def __init__(
        self,
        *,
        margin: float = ...,
        continuous: bool = ...,
        ignore_index: int = ...,
        reduction: Reduction = ...,
    ) -> None: ...
    def forward(
        self,
        logits: Tensor,
        target: Tensor,
        *,
        mask: Tensor | None = ...,
        weight: Tensor | None = ...,
        divisor: Divisor | None = ...,
    ) -> Tensor: ...
    __call__ = forward

class Hinge(Objective):
    def __init__(
        self,
        *,
        power: Literal[1, 2] = ...,
        reduction: Reduction = ...,
    ) -> None: ...
    def forward(
        self,
        scores: Tensor,
        target: Tensor,
        *,
        mask: Tensor | None = ...,
        weight: Tensor | None = ...,
        divisor: Divisor | None = ...,
    ) -> Tensor: ...
    __call__ = forward

class MaskedBinaryCrossEntropy(Objective):
    def __init__(
        self,
        *,
        missing: float = ...,
        average: Literal['cells', 'classes'] = ...,
        pos_weight: float | Tensor | None = ...,
        reduction: Reduction = ...,
    ) -> None: ...
    def forward(
        self,
        logits: Tensor,
        labels: Tensor,
        *,
        mask: Tensor | None = ...,
        weight: Tensor | None = ...,
        divisor: Divisor | None = ...,
    ) -> Tensor: ...
    __call__ = forward

class PairwiseAUC(Objective):
    def __init__(
        self,
        *,
        surrogate: Surrogate = ...,
        margin: float = ...,
        missing: float = ...,
        reduction: Reduction = ...,
    ) -> None: ...
    def forward(
        self,
        logits: Tensor,
        labels: Tensor,
        *,
        mask: Tensor | None = ...,
        divisor: Divisor | None = ...,
    ) -> Tensor: ...
    __call__ = forward

class SquaredError(Objective):
    def __init__(
        self,
        *,
        reduction: Reduction = ...,
    ) -> None: ...
    def forward(
        self,
        prediction: Tensor,
        target: Tensor,
        *,
        mask: Tensor | None = ...,
        weight: Tensor | None = ...,
        divisor: Divisor | None = ...,
    ) -> Tensor: ...
    __call__ = forward

class AbsoluteError(Objective):
    def __init__(
        self,
        *,
        reduction: Reduction = ...,
    ) -> None: ...
    def forward(
        self,
        prediction: Tensor,
        target: Tensor,
        *,
        mask: Tensor | None = ...,
        weight: Tensor | None = ...,
        divisor: Divisor | None = ...,
    ) -> Tensor: ...
    __call__ = forward

class Huber(Objective):
    def __init__(
        self,
        *,
        delta: float = ...,
        reduction: Reduction = ...,
    ) -> None: ...
    def forward(
        self,
        prediction: Tensor,
        target: Tensor,
        *,
        mask: Tensor | None = ...,
        weight: Tensor | None = ...,
        divisor: Divisor | None = ...,
    ) -> Tensor: ...
    __call__ = forward

class Pinball(Objective):
    def __init__(
        self,
        *,
        quantile: float = ...,
        reduction: Reduction = ...,
    ) -> None: ...
    def forward(
        self,
        prediction: Tensor,
        target: Tensor,
        *,
        mask: Tensor | None = ...,
        weight: Tensor | None = ...,
        divisor: Divisor | None = ...,
    ) -> Tensor: ...
    __call__ = forward

class EpsilonInsensitive(Objective):
    def __init__(
        self,
        *,
        epsilon: float = ...,
        power: Literal[1, 2] = ...,
        reduction: Reduction = ...,
    ) -> None: ...
    def forward(
        self,
        prediction: Tensor,
        target: Tensor,
        *,
        epsilon: float = ...,
        mask: Tensor | None = ...,
        weight: Tensor | None = ...,
        divisor: Divisor | None = ...,
    ) -> Tensor: ...
    __call__ = forward

class KeywordPresence(Objective):
    def __init__(
        self,
        *,
        require: Require = ...,
        form: Form = ...,
        ignore_index: int = ...,
        reduction: Reduction = ...,
    ) -> None: ...
    def forward(
        self,
        logits: Tensor,
        keywords: Keywords,
        *,
        target: Tensor | None = ...,
        mask: Tensor | None = ...,
        weight: Tensor | None = ...,
        divisor: Divisor | None = ...,
    ) -> Tensor: ...
    __call__ = forward

class KeywordPlacement(Objective):
    def __init__(
        self,
        *,
        ignore_index: int = ...,
        reduction: Reduction = ...,
    ) -> None: ...
    def forward(
        self,
        logits: Tensor,
        target: Tensor,
        keyword_mask: Tensor,
        *,
        mask: Tensor | None = ...,
        weight: Tensor | None = ...,
        divisor: Divisor | None = ...,
    ) -> Tensor: ...
    __call__ = forward

class KeywordHybrid(Objective):
    def __init__(
        self,
        *,
        presence: float = ...,
        placement: float = ...,
        require: Require = ...,
        form: Form = ...,
        prefix_aware: bool = ...,
        ignore_index: int = ...,
        reduction: Reduction = ...,
    ) -> None: ...
    def forward(
        self,
        logits: Tensor,
        target: Tensor,
        keywords: Keywords,
        keyword_mask: Tensor,
        *,
        mask: Tensor | None = ...,
        weight: Tensor | None = ...,
        divisor: tuple[Divisor, Divisor, Divisor] | None = ...,
    ) -> Tensor: ...
    __call__ = forward

class SequenceRisk(Objective):
    def __init__(
        self,
        *,
        estimator: Literal['score_function', 'minimum_risk'] = ...,
        baseline: Baseline = ...,
        alpha: float = ...,
        reduction: Reduction = ...,
    ) -> None: ...
    def forward(
        self,
        log_probs: Tensor,
        rewards: Tensor,
        *,
        mask: Tensor | None = ...,
        weight: Tensor | None = ...,
        divisor: Divisor | None = ...,
    ) -> Tensor: ...
    __call__ = forward

class LinearCrossEntropy(Objective):
    def __init__(
        self,
        *,
        class_weight: Tensor | None = ...,
        ignore_index: int = ...,
        label_smoothing: float = ...,
        z_loss: float = ...,
        margin: float = ...,
        gamma: float = ...,
        presence: float = ...,
        placement: float = ...,
        require: Require = ...,
        form: Form = ...,
        prefix_aware: bool = ...,
        reduction: Reduction = ...,
    ) -> None: ...
    def forward(
        self,
        hidden: Tensor,
        head: Tensor,
        target: Tensor,
        *,
        head_bias: Tensor | None = ...,
        keywords: Keywords | None = ...,
        keyword_mask: Tensor | None = ...,
        mask: Tensor | None = ...,
        weight: Tensor | None = ...,
        divisor: Divisor | tuple[Divisor, Divisor, Divisor] | None = ...,
    ) -> Tensor: ...
    __call__ = forward

class InfoNCE(Objective):
    def __init__(
        self,
        *,
        temperature: float | Tensor = ...,
        symmetric: bool = ...,
        normalize: bool = ...,
        same_id: Literal['ignore', 'positive'] = ...,
        guide_margin: float = ...,
        reduction: Reduction = ...,
    ) -> None: ...
    def forward(
        self,
        queries: Tensor,
        positives: Tensor,
        negatives: Tensor | None = ...,
        *,
        ids: Tensor | None = ...,
        log_q: Tensor | None = ...,
        negatives_mask: Tensor | None = ...,
        ignore_pairs: Tensor | None = ...,
        guide: Guide | None = ...,
        mask: Tensor | None = ...,
        weight: Tensor | None = ...,
        divisor: Divisor | None = ...,
    ) -> Tensor: ...
    __call__ = forward

class NTXent(Objective):
    def __init__(
        self,
        *,
        temperature: float | Tensor = ...,
        reduction: Reduction = ...,
    ) -> None: ...
    def forward(
        self,
        z1: Tensor,
        z2: Tensor,
        *,
        mask: Tensor | None = ...,
        weight: Tensor | None = ...,
        divisor: Divisor | None = ...,
    ) -> Tensor: ...
    __call__ = forward

class SigmoidContrastive(Objective):
    def __init__(
        self,
        *,
        temperature: float | Tensor = ...,
        bias: float | Tensor | None = ...,
        normalize: bool = ...,
        reduction: Reduction = ...,
    ) -> None: ...
    def forward(
        self,
        queries: Tensor,
        positives: Tensor,
        *,
        ids: Tensor | None = ...,
        ignore_pairs: Tensor | None = ...,
        mask: Tensor | None = ...,
        weight: Tensor | None = ...,
        divisor: Divisor | None = ...,
    ) -> Tensor: ...
    __call__ = forward

class SupCon(Objective):
    def __init__(
        self,
        *,
        temperature: float | Tensor = ...,
        reduction: Reduction = ...,
    ) -> None: ...
    def forward(
        self,
        embeddings: Tensor,
        labels: Tensor,
        *,
        mask: Tensor | None = ...,
        weight: Tensor | None = ...,
        divisor: Divisor | None = ...,
    ) -> Tensor: ...
    __call__ = forward

class MultiSimilarity(Objective):
    def __init__(
        self,
        *,
        alpha: float = ...,
        beta: float = ...,
        base: float = ...,
        mining_margin: float | None = ...,
        reduction: Reduction = ...,
    ) -> None: ...
    def forward(
        self,
        embeddings: Tensor,
        labels: Tensor,
        *,
        mask: Tensor | None = ...,
        weight: Tensor | None = ...,
        divisor: Divisor | None = ...,
    ) -> Tensor: ...
    __call__ = forward

class Circle(Objective):
    def __init__(
        self,
        *,
        margin: float = ...,
        gamma: float = ...,
        reduction: Reduction = ...,
    ) -> None: ...
    def forward(
        self,
        embeddings: Tensor,
        labels: Tensor,
        *,
        mask: Tensor | None = ...,
        weight: Tensor | None = ...,
        divisor: Divisor | None = ...,
    ) -> Tensor: ...
    __call__ = forward

class MatryoshkaInfoNCE(Objective):
    def __init__(
        self,
        *,
        temperature: float | Tensor = ...,
        prefixes: list[int] | tuple[int, ...] | None = ...,
        reduction: Reduction = ...,
    ) -> None: ...
    def forward(
        self,
        queries: Tensor,
        positives: Tensor,
        *,
        mask: Tensor | None = ...,
        weight: Tensor | None = ...,
        divisor: Divisor | None = ...,
    ) -> Tensor: ...
    __call__ = forward

class BatchHardTriplet(Objective):
    def __init__(
        self,
        *,
        margin: float = ...,
        distance: Distance = ...,
        reduction: Reduction = ...,
    ) -> None: ...
    def forward(
        self,
        embeddings: Tensor,
        labels: Tensor,
        *,
        mask: Tensor | None = ...,
        weight: Tensor | None = ...,
        divisor: Divisor | None = ...,
    ) -> Tensor: ...
    __call__ = forward

class BatchSemiHardTriplet(Objective):
    def __init__(
        self,
        *,
        margin: float = ...,
        distance: Distance = ...,
        reduction: Reduction = ...,
    ) -> None: ...
    def forward(
        self,
        embeddings: Tensor,
        labels: Tensor,
        *,
        mask: Tensor | None = ...,
        weight: Tensor | None = ...,
        divisor: Divisor | None = ...,
    ) -> Tensor: ...
    __call__ = forward

class BatchAllTriplet(Objective):
    def __init__(
        self,
        *,
        margin: float = ...,
        distance: Distance = ...,
        reduction: Reduction = ...,
    ) -> None: ...
    def forward(
        self,
        embeddings: Tensor,
        labels: Tensor,
        *,
        mask: Tensor | None = ...,
        weight: Tensor | None = ...,
        divisor: Divisor | None = ...,
    ) -> Tensor: ...
    __call__ = forward

class Contrastive(Objective):
    def __init__(
        self,
        *,
        margin: float = ...,
        distance: Distance = ...,
        reduction: Reduction = ...,
    ) -> None: ...
    def forward(
        self,
        x1: Tensor,
        x2: Tensor,
        same: Tensor,
        *,
        mask: Tensor | None = ...,
        weight: Tensor | None = ...,
        divisor: Divisor | None = ...,
    ) -> Tensor: ...
    __call__ = forward

class Triplet(Objective):
    def __init__(
        self,
        *,
        margin: float = ...,
        distance: Distance = ...,
        reduction: Reduction = ...,
    ) -> None: ...
    def forward(
        self,
        anchor: Tensor,
        positive: Tensor,
        negative: Tensor,
        *,
        mask: Tensor | None = ...,
        weight: Tensor | None = ...,
        divisor: Divisor | None = ...,
    ) -> Tensor: ...
    __call__ = forward

class ListNet(Objective):
    def __init__(
        self,
        *,
        reduction: Reduction = ...,
    ) -> None: ...
    def forward(
        self,
        scores: Tensor,
        relevance: Tensor,
        *,
        mask: Tensor | None = ...,
        weight: Tensor | None = ...,
        divisor: Divisor | None = ...,
    ) -> Tensor: ...
    __call__ = forward

class ListMLE(Objective):
    def __init__(
        self,
        *,
        reduction: Reduction = ...,
    ) -> None: ...
    def forward(
        self,
        scores: Tensor,
        relevance: Tensor,
        *,
        mask: Tensor | None = ...,
        weight: Tensor | None = ...,
        divisor: Divisor | None = ...,
    ) -> Tensor: ...
    __call__ = forward

class LambdaLoss(Objective):
    def __init__(
        self,
        *,
        weighting: LambdaWeighting = ...,
        k: int | None = ...,
        gain: Gain = ...,
        mu: float = ...,
        reduction: Reduction = ...,
    ) -> None: ...
    def forward(
        self,
        scores: Tensor,
        relevance: Tensor,
        *,
        mask: Tensor | None = ...,
        weight: Tensor | None = ...,
        divisor: Divisor | None = ...,
    ) -> Tensor: ...
    __call__ = forward

class ApproxNDCG(Objective):
    def __init__(
        self,
        *,
        temperature: float = ...,
        gain: Gain = ...,
        reduction: Reduction = ...,
    ) -> None: ...
    def forward(
        self,
        scores: Tensor,
        relevance: Tensor,
        *,
        mask: Tensor | None = ...,
        weight: Tensor | None = ...,
        divisor: Divisor | None = ...,
    ) -> Tensor: ...
    __call__ = forward

class RankNet(Objective):
    def __init__(
        self,
        *,
        reduction: Reduction = ...,
    ) -> None: ...
    def forward(
        self,
        scores: Tensor,
        relevance: Tensor,
        *,
        mask: Tensor | None = ...,
        weight: Tensor | None = ...,
        divisor: Divisor | None = ...,
    ) -> Tensor: ...
    __call__ = forward

class PairwiseHinge(Objective):
    def __init__(
        self,
        *,
        margin: float = ...,
        reduction: Reduction = ...,
    ) -> None: ...
    def forward(
        self,
        scores: Tensor,
        relevance: Tensor,
        *,
        mask: Tensor | None = ...,
        weight: Tensor | None = ...,
        divisor: Divisor | None = ...,
    ) -> Tensor: ...
    __call__ = forward

class PairwiseSquaredHinge(Objective):
    def __init__(
        self,
        *,
        margin: float = ...,
        reduction: Reduction = ...,
    ) -> None: ...
    def forward(
        self,
        scores: Tensor,
        relevance: Tensor,
        *,
        mask: Tensor | None = ...,
        weight: Tensor | None = ...,
        divisor: Divisor | None = ...,
    ) -> Tensor: ...
    __call__ = forward

class PairwiseExponential(Objective):
    def __init__(
        self,
        *,
        reduction: Reduction = ...,
    ) -> None: ...
    def forward(
        self,
        scores: Tensor,
        relevance: Tensor,
        *,
        mask: Tensor | None = ...,
        weight: Tensor | None = ...,
        divisor: Divisor | None = ...,
    ) -> Tensor: ...
    __call__ = forward

class BPR(Objective):
    def __init__(
        self,
        *,
        reduction: Reduction = ...,
    ) -> None: ...
    def forward(
        self,
        positive: Tensor,
        negative: Tensor,
        *,
        mask: Tensor | None = ...,
        weight: Tensor | None = ...,
        divisor: Divisor | None = ...,
    ) -> Tensor: ...
    __call__ = forward

class WARP(Objective):
    def __init__(
        self,
        *,
        num_items: int = ...,
        margin: float = ...,
        weighting: Weighting = ...,
        reduction: Reduction = ...,
    ) -> None: ...
    def forward(
        self,
        positive: Tensor,
        negatives: Tensor,
        *,
        num_items: int = ...,
        mask: Tensor | None = ...,
        trials: Tensor | None = ...,
        weight: Tensor | None = ...,
        divisor: Divisor | None = ...,
    ) -> Tensor: ...
    __call__ = forward

class ExpectedWARP(Objective):
    def __init__(
        self,
        *,
        margin: float = ...,
        weighting: Weighting = ...,
        max_trials: int | None = ...,
        reduction: Reduction = ...,
    ) -> None: ...
    def forward(
        self,
        positive: Tensor,
        catalogue: Tensor,
        *,
        mask: Tensor | None = ...,
        weight: Tensor | None = ...,
        divisor: Divisor | None = ...,
    ) -> Tensor: ...
    __call__ = forward

def from_text(text: str) -> Objective: ...
