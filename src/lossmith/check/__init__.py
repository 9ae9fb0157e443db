"""The laws every loss must obey, the examples they are tried on, the report.

    >>> from lossmith.check import check_loss
    >>> check_loss("bpr", laws=["gradient"], isolate=False).ok
    True

Names are resolved when first used, so that importing this package alone does not import torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lossmith.check.engine import check_loss as check_loss
    from lossmith.check.explain import Explanation as Explanation
    from lossmith.check.explain import explain_batch as explain_batch
    from lossmith.check.laws import laws as laws
    from lossmith.check.report import Finding as Finding
    from lossmith.check.report import Report as Report
    from lossmith.check.suite import parametrize_with_laws as parametrize_with_laws

_HOMES = {
    "check_loss": "engine",
    "explain_batch": "explain",
    "Explanation": "explain",
    "laws": "laws",
    "Finding": "report",
    "Report": "report",
    "parametrize_with_laws": "suite",
}
__all__ = list(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'lossmith.check' has no attribute {name!r}")
    home = importlib.import_module(f"lossmith.check.{_HOMES[name]}")
    # `laws` is a package too, and importing it has just put it under this name.
    globals()[name] = value = getattr(home, name)
    return value
