# Written by tools/generate.py from the registry; do not edit.
from typing import Final

from lossmith.core.module import Objective as Objective
from lossmith.core.spec import find as find
from lossmith.core.spec import objectives as objectives
from lossmith.core.validate import value_checks as value_checks
from lossmith.losses.classification import binary_cross_entropy as binary_cross_entropy
from lossmith.losses.classification import cross_entropy as cross_entropy
from lossmith.losses.classification import hinge as hinge
from lossmith.losses.classification import kl_divergence as kl_divergence
from lossmith.losses.classification import (
    margin_binary_cross_entropy as margin_binary_cross_entropy,
)
from lossmith.losses.classification import margin_cross_entropy as margin_cross_entropy
from lossmith.modules import BinaryCrossEntropy as BinaryCrossEntropy
from lossmith.modules import CrossEntropy as CrossEntropy
from lossmith.modules import Hinge as Hinge
from lossmith.modules import KLDivergence as KLDivergence
from lossmith.modules import MarginBinaryCrossEntropy as MarginBinaryCrossEntropy
from lossmith.modules import MarginCrossEntropy as MarginCrossEntropy
from lossmith.modules import from_text as from_text

__version__: Final[str]
