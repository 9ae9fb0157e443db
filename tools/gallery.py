"""Write docs/gallery/findings.json: what check says of each mistake, for the gallery's page.

Run it after a change of the gallery or of a law, and then tools/generate.py.
"""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from typing import Any

from lossmith.check import check_loss

GALLERY = Path(__file__).resolve().parent.parent / "docs" / "gallery"


def findings(path: Path) -> dict[str, dict[str, str]]:
    """What was expected and what came, for each law that is to catch the mistake."""
    spec = importlib.util.spec_from_file_location(f"gallery_{path.stem}", path)
    assert spec is not None and spec.loader is not None
    module: Any = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where pickle finds it again
    spec.loader.exec_module(module)
    report = check_loss(
        module.broken,
        family=module.FAMILY,
        inputs=module.INPUTS,
        args=getattr(module, "ARGS", None),
        laws=module.CAUGHT_BY,
    )
    missed = set(module.CAUGHT_BY) - set(report.broken)
    if missed:
        print(f"{path.name}: not caught by {', '.join(sorted(missed))}")
    return {
        finding.law: {"expected": finding.expected, "got": finding.got}
        for finding in report.findings
        if finding.status == "broken"
    }


def main() -> int:
    """Check every file and write what was found."""
    found = {path.stem: findings(path) for path in sorted(GALLERY.glob("*.py"))}
    (GALLERY / "findings.json").write_text(json.dumps(found, indent=1) + "\n", "utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
