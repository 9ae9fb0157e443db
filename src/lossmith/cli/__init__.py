"""The command line: argument parsing only, one file per verb.

Nothing here imports torch or reads data before a command has been understood.
"""

from __future__ import annotations

import os
import sys

FAILED = 1


def main() -> None:
    """The command ``lossmith``."""
    try:
        import rich as rich
        import typer as typer
    except ModuleNotFoundError as error:
        print(
            f"The command line needs {error.name}. Install the tool's packages with:\n"
            '  pip install "lossmith[compare]"',
            file=sys.stderr,
        )
        raise SystemExit(2) from None
    from lossmith.cli.app import run

    try:
        code = run(sys.argv[1:])
    except Exception:
        if not _one_of_several():
            raise
        sys.excepthook(*sys.exc_info())
        code = FAILED
    if _one_of_several():
        from lossmith.training.distributed import end
        from lossmith.training.launch import PARTED

        # Where one fails, the others are not where they would leave together.
        end(code, together=code not in (FAILED, PARTED))
    raise SystemExit(code)


def _one_of_several() -> bool:
    several = int(os.environ.get("WORLD_SIZE", "1")) > 1
    return several and "lossmith.training.distributed" in sys.modules
