from __future__ import annotations

import sys
from pathlib import Path

# Worker processes import the fake task by its name, so its folder has to be on the path.
sys.path.insert(0, str(Path(__file__).parent))
