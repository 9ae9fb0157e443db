from __future__ import annotations

import pytest
from torch import Tensor

from lossmith.check import check_loss
from lossmith.check.report import Interrupted


def test_what_was_found_before_ctrl_c_is_kept() -> None:
    laws: list[str] = []

    def square(prediction: Tensor, target: Tensor) -> Tensor:
        if laws[-1:] == ["order"]:
            raise KeyboardInterrupt
        return (prediction - target).square().mean()

    with pytest.raises(Interrupted) as stop:
        check_loss(
            square,
            inputs="prediction+number",
            laws=["gradient", "order", "pickle"],
            isolate=False,
            on_law=lambda law, done, total: laws.append(law),
        )
    report = stop.value.report
    assert report["gradient"].status == "held"
    for law in ("order", "pickle"):
        assert (report[law].status, report[law].detail) == ("untested", "interrupted")
