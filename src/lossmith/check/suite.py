"""Laws as the tests of somebody's own suite."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from lossmith.check.engine import check_loss, chosen, name_of
from lossmith.check.report import Finding


def parametrize_with_laws(
    losses: Any, *, laws: Iterable[str] | None = None, **options: Any
) -> Callable[[Any], Any]:
    """Run each law on each loss as a test of its own, for a test with the argument ``check``.

    ``losses`` is what :func:`check_loss` takes, or a list of them; ``options`` go to it too. A
    broken law fails with its smallest example, one that does not apply or could not be tried is
    skipped with the reason::

        @parametrize_with_laws(MyLoss(), family="ranking")
        def test_my_loss(check):
            check()
    """
    import pytest

    listed = list(losses) if isinstance(losses, (list, tuple)) else [losses]
    cases = [
        pytest.param(_check(loss, law.name, options), id=f"{law.name}[{name_of(loss)}]")
        for loss in listed
        for law in chosen(laws)
    ]
    return pytest.mark.parametrize("check", cases)


def _check(loss: Any, law: str, options: dict[str, Any]) -> Callable[[], None]:
    def check() -> None:
        # In this process: a test that hangs is the runner's to end.
        given = {"isolate": False, **options}
        verify(check_loss(loss, laws=[law], **given)[law])

    return check


def verify(finding: Finding) -> None:
    """Pass, skip or fail as pytest does, by what was found."""
    import pytest

    if finding.status == "held":
        return
    if finding.status == "broken":
        pytest.fail(explained(finding), pytrace=False)
    pytest.skip(f"{finding.status}: {finding.detail}")


def explained(finding: Finding) -> str:
    """A broken law in a few lines.

    >>> broken = Finding("order", "broken", "Rows mix.", "Shuffle.", "they differ", {"x": "[1]"})
    >>> print(explained(broken))
    order: they differ
      why: Rows mix.
      x = [1]
    """
    lines = [f"{finding.law}: {finding.detail}", f"  why: {finding.why}"]
    lines += [f"  {name} = {value}" for name, value in finding.example.items()]
    for word in ("expected", "got", "hint"):
        if getattr(finding, word):
            lines.append(f"  {word}: {getattr(finding, word)}")
    return "\n".join(lines)
