"""Objectives for a list of items that is to be put in order of relevance."""

from lossmith.losses.ranking.listwise import list_mle, listnet
from lossmith.losses.ranking.ndcg import approx_ndcg, lambda_loss
from lossmith.losses.ranking.pairwise import (
    pairwise_exponential,
    pairwise_hinge,
    pairwise_squared_hinge,
    ranknet,
)

__all__ = [
    "approx_ndcg",
    "lambda_loss",
    "list_mle",
    "listnet",
    "pairwise_exponential",
    "pairwise_hinge",
    "pairwise_squared_hinge",
    "ranknet",
]
