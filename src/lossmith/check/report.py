"""What a check found: one finding per law, and a report that survives JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

Status = Literal["held", "broken", "not applicable", "untested"]


@dataclass(frozen=True)
class Finding:
    """What became of one law.

    ``why`` and ``how`` are the law's own: why it matters for training and how it is tried.
    ``detail`` says what happened; ``example`` is the smallest batch that breaks it, printed
    by argument.
    """

    law: str
    status: Status
    why: str
    how: str
    detail: str = ""
    example: Mapping[str, str] = field(default_factory=dict)
    expected: str = ""
    got: str = ""
    hint: str = ""
    seconds: float = 0.0


@dataclass(frozen=True)
class Report:
    """Every finding about one loss, in the order of the laws."""

    loss: str
    family: str
    inputs: str
    seed: int
    seconds: float
    findings: tuple[Finding, ...]
    notes: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether no law is broken."""
        return not self.broken

    @property
    def broken(self) -> tuple[str, ...]:
        """The names of the broken laws."""
        return tuple(finding.law for finding in self.findings if finding.status == "broken")

    def __getitem__(self, law: str) -> Finding:
        for finding in self.findings:
            if finding.law == law:
                return finding
        from lossmith.core.words import did_you_mean

        hint = did_you_mean(law, [finding.law for finding in self.findings])
        raise KeyError(f"this report has no law {law!r}.{hint}")

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Report:
        """The inverse of :meth:`to_dict`, after a trip through JSON too."""
        given = dict(values)
        given["findings"] = tuple(Finding(**finding) for finding in given["findings"])
        given["notes"] = tuple(given.get("notes", ()))
        return cls(**given)


class Interrupted(KeyboardInterrupt):
    """Ctrl-C during a check; ``report`` holds what was found until then."""

    def __init__(self, report: Report) -> None:
        super().__init__("the check was interrupted")
        self.report = report
