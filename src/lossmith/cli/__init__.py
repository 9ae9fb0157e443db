"""The command line: argument parsing only, one file per verb.

Nothing here imports torch or reads data before a command has been understood.
"""

from __future__ import annotations

import os
import sys


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

    code = run(sys.argv[1:])
    if (
        int(os.environ.get("WORLD_SIZE", "1")) > 1
        and "lossmith.training.distributed" in sys.modules
    ):
        from lossmith.training.distributed import end

        end(code)
    raise SystemExit(code)
