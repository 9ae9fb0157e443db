"""torch's own losses, used rightly, break exactly the laws that they do break."""

from __future__ import annotations

import pytest
from torch import nn

from lossmith.check import check_loss

# Every mean is 0 / 0 for a batch of no rows: NaN, from all of them.
EMPTY = "empty-batch"
CASES = {
    # All labels ignored: NaN. NaN logits in a row whose label is ignored: the value is right, and
    # the gradient of that row is NaN where 0 is right.
    nn.CrossEntropyLoss(): {EMPTY, "nothing-valid", "padding"},
    # A label of -1 is used: the loss of [[-1.0]] against it is -0.687, and unbounded below.
    nn.BCEWithLogitsLoss(): {EMPTY, "sentinels"},
    nn.KLDivLoss(reduction="batchmean"): {EMPTY},
    nn.TripletMarginLoss(): {EMPTY},
    # The sign may be 1 or -1; a 0 switches the pair off: it costs the margin, 0.1, in any case.
    nn.MarginRankingLoss(margin=0.1): {EMPTY, "sentinels"},
    # A 0 is taken for both signs at once: distance 2 costs 2. A sign of shape (2, 1) against
    # distances of (2,) broadcasts to four costs: 0.5 where -0.5 is right.
    nn.HingeEmbeddingLoss(): {EMPTY, "sentinels", "shapes"},
    # A 0 costs nothing, whatever the angle.
    nn.CosineEmbeddingLoss(): {EMPTY, "sentinels"},
}


@pytest.mark.parametrize(("loss", "broken"), CASES.items(), ids=lambda value: type(value).__name__)
def test_nothing_but_what_is_broken_is_called_broken(loss: nn.Module, broken: set[str]) -> None:
    report = check_loss(loss, seconds=60.0, isolate=False)
    found = {
        finding.law: (finding.detail, finding.expected, finding.got)
        for finding in report.findings
        if finding.status == "broken"
    }
    assert found.keys() == broken, found
    assert not [finding for finding in report.findings if finding.status == "untested"]


def test_the_mean_of_a_divergence_by_entries_is_called_out() -> None:
    """torch's default divides by rows times classes; its documentation warns of it."""
    report = check_loss(nn.KLDivLoss(), laws=["reductions"], isolate=False)
    assert report.broken == ("reductions",)
    assert "batchmean" in report["reductions"].hint


def test_ctc_is_out_of_reach_and_says_why() -> None:
    report = check_loss(nn.CTCLoss(), isolate=False)
    assert {finding.status for finding in report.findings} == {"not applicable"}
    assert "alignments" in report.findings[0].detail
