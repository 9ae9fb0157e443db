"""Objectives for embeddings: what belongs together ends up close, what does not ends up apart."""

from lossmith.losses.retrieval.in_batch import info_nce, nt_xent, sigmoid_contrastive
from lossmith.losses.retrieval.labelled import circle, multi_similarity, sup_con
from lossmith.losses.retrieval.matryoshka import matryoshka_info_nce
from lossmith.losses.retrieval.mined import (
    batch_all_triplet,
    batch_hard_triplet,
    batch_semi_hard_triplet,
)
from lossmith.losses.retrieval.pairs import contrastive, triplet

__all__ = [
    "batch_all_triplet",
    "batch_hard_triplet",
    "batch_semi_hard_triplet",
    "circle",
    "contrastive",
    "info_nce",
    "matryoshka_info_nce",
    "multi_similarity",
    "nt_xent",
    "sigmoid_contrastive",
    "sup_con",
    "triplet",
]
