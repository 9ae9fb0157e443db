from __future__ import annotations

import sys
from pathlib import Path

# The fake task of the comparison's tests serves the command line's too.
sys.path.insert(0, str(Path(__file__).parents[1] / "compare"))
