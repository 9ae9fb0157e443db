"""The promise of a cost, against losses that keep it and losses that do not."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

import lossmith as lm
from lossmith.check import check_loss
from lossmith.check.laws import Broken, laws
from lossmith.check.laws.cost import AXES, Counter
from lossmith.check.subject import make_subject
from lossmith.check.trial import Trial
from lossmith.core.spec import Growth, objectives
from lossmith.kernels.pair_sums import all_pairs


def promised(name: str, growth: Growth, function: Any = None) -> str:
    """What the law says of an objective of ours with that promise."""
    subject = make_subject(name)
    assert subject.spec is not None
    subject = replace(subject, spec=replace(subject.spec, cost=growth))
    if function is not None:
        subject = replace(subject, loss=function)
    return laws()["cost"].run(Trial(subject)) or ""


def ranknet_of_pairs(scores: Tensor, relevance: Tensor) -> Tensor:
    items = torch.ones_like(relevance, dtype=torch.bool)
    cost, pairs = all_pairs(scores, relevance, items, "logistic")
    return cost.sum() / pairs.sum()


def test_n_log_n_is_seen_in_the_items_of_a_list() -> None:
    said = promised("ranknet", "n log n")
    assert "items of a list up to 1280" in said


def test_all_pairs_do_not_pass_for_n_log_n() -> None:
    with pytest.raises(Broken, match=r"items of a list up to \d+: numbers n\^2.00") as broken:
        promised("ranknet", "n log n", ranknet_of_pairs)
    assert broken.value.failure.expected == "n log n, as declared"


def test_what_an_operator_does_inside_is_counted() -> None:
    # One operator to torch: a promise of n would be believed if its inside were not counted.
    with pytest.raises(Broken, match="items of a list"):
        promised("lambda_loss", "n")
    scores = torch.randn(1, 2000)
    with Counter() as counter:
        lm.ranknet(scores, torch.arange(2000).unsqueeze(0) % 5)
    assert counter.numbers > 100_000 and counter.calls < 40


def test_the_pairs_across_a_batch_are_no_n_log_n_when_formed() -> None:
    def formed(logits: Tensor, labels: Tensor) -> Tensor:
        cost, pairs = all_pairs(logits.T, labels.T, labels.T != -1, "logistic")
        return cost.sum() / pairs.sum()

    assert "rows up to 1536" in promised("pairwise_auc", "n log n")
    with pytest.raises(Broken, match="rows up to"):
        promised("pairwise_auc", "n log n", formed)


def test_a_gradient_that_writes_zeros_for_every_position_is_found() -> None:
    def indexed(logits: Tensor, target: Tensor, marked: Tensor) -> Tensor:
        log_p = logits.log_softmax(-1)
        steps = [log_p[:, t].gather(-1, target[:, t : t + 1]) for t in range(log_p.shape[1])]
        return -(torch.cat(steps, dim=1) * marked).sum() / marked.sum()

    def unbound(logits: Tensor, target: Tensor, marked: Tensor) -> Tensor:
        pairs = zip(logits.log_softmax(-1).unbind(1), target.unbind(1), strict=True)
        steps = [log_p.gather(-1, label.unsqueeze(-1)) for log_p, label in pairs]
        return -(torch.cat(steps, dim=1) * marked).sum() / marked.sum()

    with pytest.raises(Broken, match="positions"):
        promised("keyword_placement", "n", indexed)
    promised("keyword_placement", "n", unbound)


def test_a_loop_over_the_items_is_found() -> None:
    def looped(scores: Tensor, relevance: Tensor) -> Tensor:
        costs = [
            torch.nn.functional.softplus(scores[:, j] - scores[:, i])
            * (relevance[:, i] > relevance[:, j])
            for i in range(scores.shape[1])
            for j in range(scores.shape[1])
        ]
        return torch.stack(costs).sum() / len(scores)

    found = check_loss(looped, inputs="scores+relevance", laws=["cost"])["cost"]
    assert found.status == "broken" and "loop" in found.detail
    assert found.hint == "Replace the loop over items of a list by operations on whole tensors."


def test_every_kind_of_inputs_grows_in_something_but_its_rows() -> None:
    kinds = {kind for spec in objectives() for kind in spec.inputs}
    rows_alone = {"prediction+number", "positive+negative"}
    assert kinds - rows_alone <= set(AXES)


def test_weights_of_a_fixed_size_are_no_fault() -> None:
    class Proxies(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.proxies = torch.nn.Parameter(torch.eye(8))

        def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
            return torch.nn.functional.cross_entropy(embeddings @ self.proxies.T, labels)

    found = check_loss(Proxies(), inputs="embeddings+labels", laws=["cost"])["cost"]
    assert found.status == "held" and "features" not in found.detail, found
