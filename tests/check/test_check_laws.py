"""Each law against a tiny loss that breaks it and one that holds it."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from check.tiny import OURS, TABLE, cross_entropy, draws, mask_times, with_eps
from lossmith.check import Finding, Report, check_loss
from lossmith.check.laws import laws

IDS = [f"{law}-{getattr(broken, '__name__', 'object')}" for law, _, broken, _ in TABLE]


@pytest.mark.parametrize(("law", "inputs", "broken", "good"), TABLE, ids=IDS)
def test_a_law_tells_the_broken_from_the_good(
    law: str, inputs: str, broken: Any, good: Any
) -> None:
    bad = check_loss(broken, inputs=inputs, laws=[law])[law]
    assert bad.status == "broken", bad
    assert bad.why and bad.how and bad.detail and bad.hint
    well = check_loss(good, inputs=inputs, laws=[law])[law]
    assert well.status == "held", well


def test_every_law_is_in_the_table() -> None:
    assert {law for law, *_ in TABLE} | OURS == set(laws())


@pytest.mark.parametrize("law", sorted(OURS))
def test_conventions_of_ours_are_no_defects_of_others(law: str) -> None:
    assert check_loss(cross_entropy, inputs="logits+class", laws=[law])[law].status == (
        "not applicable"
    )


def test_a_failure_is_shrunk_to_one_row_and_round_numbers() -> None:
    found = check_loss(mask_times, inputs="logits+class", laws=["nothing-valid"])["nothing-valid"]
    assert found.example["target"] == "[3]" or found.example["target"].count(",") == 0
    assert found.expected.startswith("0") and found.got.startswith("nan")


def test_saturation_shows_the_numbers() -> None:
    found = check_loss(with_eps, laws=["saturation"], family="recommendation")["saturation"]
    assert "30" in found.detail and float(found.got) < 1e-3


def test_the_same_seed_gives_the_same_report() -> None:
    def findings(seed: int) -> list[dict[str, Any]]:
        report = check_loss(
            draws,
            inputs="logits+binary",
            seed=seed,
            laws=["gradient", "order", "shapes", "sentinels"],
        )
        return [{**f.__dict__, "seconds": 0} for f in report.findings]

    assert findings(1) == findings(1)


def test_a_report_survives_json() -> None:
    report = check_loss(with_eps, family="recommendation", laws=["saturation", "order"])
    again = Report.from_dict(json.loads(json.dumps(report.to_dict())))
    assert again == report
    assert report.broken == ("saturation",) and not report.ok
    with pytest.raises(KeyError, match="Did you mean 'order'"):
        report["ordr"]


def test_no_time_is_said() -> None:
    report = check_loss(cross_entropy, inputs="logits+class", seconds=-1.0)
    assert {f.status for f in report.findings} <= {"untested", "not applicable"}
    assert report["gradient"].detail == "out of time"


def test_a_loss_that_does_not_run_leaves_the_rest_untested() -> None:
    report = check_loss(lambda logits, target: logits.nope, inputs="logits+class")
    assert report.broken == ("runs",)
    assert report["order"].status == "untested" and "AttributeError" in report["order"].detail


def test_the_checks_surroundings_are_left_alone() -> None:
    def rude(logits: Tensor, target: Tensor) -> Tensor:
        torch.set_default_dtype(torch.float64)
        torch.set_grad_enabled(False)
        torch.rand(1)
        return F.cross_entropy(logits, target)

    before = torch.get_rng_state()
    check_loss(rude, inputs="logits+class", laws=["runs", "side-effects", "order"])
    assert torch.is_grad_enabled() and torch.get_default_dtype() is torch.float32
    assert torch.equal(before, torch.get_rng_state())


def test_an_unknown_law_is_answered_with_a_suggestion() -> None:
    with pytest.raises(ValueError, match="Did you mean 'padding'"):
        check_loss(cross_entropy, inputs="logits+class", laws=["paddin"])


def test_a_finding_is_plain() -> None:
    assert Finding("order", "held", "why", "how").example == {}


def test_the_list_of_laws_is_reached_by_one_name_before_and_after_a_check() -> None:
    import lossmith

    check_loss(cross_entropy, inputs="logits+class", laws=["order"])
    assert "order" in lossmith.check.laws()


def test_a_confident_mistake_is_shown_as_it_was_made() -> None:
    def bpr(positive: Tensor, negative: Tensor) -> Tensor:
        return -torch.log(1e-10 + torch.sigmoid(positive - negative)).mean()

    found = check_loss(bpr, inputs="positive+negative", laws=["saturation"])["saturation"]
    assert found.status == "broken"
    assert found.example == {"positive": "[-15.0]", "negative": "[15.0]"}
