"""How a loss is recognised, fed and named."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import lossmith as lm
from lossmith.check import check_loss
from lossmith.check.signature import guess, parse_inputs
from lossmith.check.subject import make_subject


def swapped(target: Tensor, input: Tensor) -> Tensor:  # noqa: A002
    return F.cross_entropy(input, target)


@pytest.mark.parametrize("inputs", ["class, logits", "logits=input, class=target"])
def test_an_unusual_signature_is_described(inputs: str) -> None:
    subject = make_subject(swapped, inputs=inputs)
    example = subject.example()
    expected = F.cross_entropy(example.predictions[0], example.labels[0])
    assert torch.equal(subject(example), expected)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("logit, class", "Did you mean 'logits'"),
        ("logits, logits", "given twice"),
        ("logits=input, class", "by position come before"),
        ("logits, relevance", "no kind of inputs has just these roles"),
    ],
)
def test_a_wrong_description_is_answered(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_inputs(text)


def test_probabilities_are_made_of_logits() -> None:
    def nll(p: Tensor, target: Tensor) -> Tensor:
        return -p.gather(-1, target.unsqueeze(-1)).log().mean()

    subject = make_subject(nll, inputs="probabilities, class")
    example = subject.example()
    wanted = F.cross_entropy(example.predictions[0], example.labels[0])
    torch.testing.assert_close(subject(example), wanted)


@pytest.mark.parametrize(
    ("names", "family", "kind"),
    [
        (["anchor", "positive", "negative"], None, "triplet"),
        (["pos_score", "neg_score"], None, "positive+negative"),
        (["embeddings", "labels"], None, "embeddings+labels"),
        (["scores", "relevance"], None, "scores+relevance"),
        (["z1", "z2"], None, "two views"),
        (["a", "b"], "tagging", "logits+binary"),
        (["y_true", "y_pred"], "classification", "logits+class"),
    ],
)
def test_inputs_are_guessed_from_names_and_family(
    names: list[str], family: str | None, kind: str
) -> None:
    found, why = guess(names, family)
    assert found is not None and found.kind == kind and why


def test_what_was_guessed_is_said_and_what_cannot_be_is_asked() -> None:
    assert "guessed" in check_loss(swapped, family="classification", laws=[]).notes[0]
    with pytest.raises(ValueError, match="which argument is what"):
        check_loss(lambda one, other: one, laws=[])


@pytest.mark.parametrize(
    ("loss", "kind"),
    [
        (F.cross_entropy, "logits+class"),
        (nn.BCEWithLogitsLoss(), "logits+binary"),
        (nn.BCELoss(), "logits+binary"),
        (nn.KLDivLoss(reduction="batchmean"), "logits+distribution"),
        (F.triplet_margin_loss, "triplet"),
        (nn.MarginRankingLoss, "two scores+sign"),
        (nn.HingeEmbeddingLoss(), "distance+sign"),
        (nn.CosineEmbeddingLoss(), "pair+sign"),
        (nn.SoftMarginLoss(), "logits+binary"),
    ],
)
def test_losses_of_torch_are_used_rightly(loss: Any, kind: str) -> None:
    report = check_loss(loss, laws=["runs", "gradient", "gradcheck", "monotone", "order"])
    assert report.inputs == kind and report.ok and report["gradient"].status == "held"


def test_ctc_is_not_applicable_with_a_reason() -> None:
    report = check_loss(nn.CTCLoss())
    assert report.ok and "alignments" in report.notes[0]
    assert {f.status for f in report.findings} == {"not applicable"}


def test_torchs_own_faults_are_shown() -> None:
    report = check_loss(F.cross_entropy, laws=["nothing-valid", "empty-batch", "sentinels"])
    assert report.broken == ("nothing-valid", "empty-batch")
    assert "nan" in report["nothing-valid"].got
    broken = check_loss(nn.BCEWithLogitsLoss(), laws=["sentinels"])["sentinels"]
    assert broken.status == "broken" and "-1" in broken.detail
    divides = check_loss(nn.KLDivLoss(), laws=["reductions"])["reductions"]
    assert divides.status == "broken" and "batchmean" in divides.hint
    assert check_loss(nn.KLDivLoss(reduction="batchmean"), laws=["reductions"]).ok


def from_library(module: str, cls: type) -> type:
    """The class as if another library had defined it."""
    cls.__module__ = module
    return cls


class _Metric(nn.Module):
    def __init__(self, num_classes: int, embedding_size: int, margin: float = 0.5) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(embedding_size, num_classes) + torch.eye(8)[:, :3])
        self.margin = margin

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        return F.cross_entropy(embeddings @ self.weight, labels)


class _MultipleNegativesRankingLoss(nn.Module):
    def __init__(self, model: nn.Module, scale: float = 20.0) -> None:
        super().__init__()
        self.model, self.scale = model, scale

    def forward(self, sentence_features: Any, labels: Any) -> Tensor:
        a, b = (self.model(f)["sentence_embedding"] for f in sentence_features)
        scores = F.normalize(a, dim=-1) @ F.normalize(b, dim=-1).T * self.scale
        return F.cross_entropy(scores, torch.arange(len(a)))


class _Sparse:
    from_logits = True

    def __call__(self, y_true: Tensor, y_pred: Tensor, sample_weight: Any = None) -> Tensor:
        return F.cross_entropy(y_pred, y_true)


_Sparse.__name__ = "SparseCategoricalCrossentropy"


@pytest.mark.parametrize(
    ("loss", "kind"),
    [
        (from_library("pytorch_metric_learning.losses", _Metric), "embeddings+labels"),
        (
            from_library("sentence_transformers.losses", _MultipleNegativesRankingLoss),
            "queries+positives",
        ),
        (from_library("keras.src.losses", _Sparse)(), "logits+class"),
    ],
)
def test_losses_of_peers_are_fed_in_their_own_way(loss: Any, kind: str) -> None:
    report = check_loss(loss, laws=["runs", "gradient", "gradcheck", "order", "dead-knob"])
    assert report.inputs == kind and report.ok, report.broken
    assert report["gradcheck"].status == "held"


def test_our_own_are_known_by_every_name() -> None:
    for loss in ("bpr", lm.bpr, lm.BPR, lm.BPR()):
        report = check_loss(loss, laws=["order", "value-checks"], isolate=False)
        assert (report.family, report.inputs) == ("recommendation", "positive+negative")
        assert report["value-checks"].status == "held"


def test_values_are_read_from_text_and_checked() -> None:
    assert make_subject(nn.TripletMarginLoss, args="margin=0.5").loss.margin == 0.5
    with pytest.raises(ValueError, match="Did you mean 'margin'"):
        make_subject(nn.TripletMarginLoss, args="margn=0.5")
    with pytest.raises(ValueError, match="Did you mean 'margin'"):
        make_subject("warp", args={"margn": 0.5})
    with pytest.raises(ValueError, match="is not a family"):
        make_subject(swapped, family="taging")
