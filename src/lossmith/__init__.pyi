# Written by tools/generate.py from the registry; do not edit.
from typing import Final

from lossmith.core.module import Objective as Objective
from lossmith.core.spec import find as find
from lossmith.core.spec import objectives as objectives
from lossmith.core.validate import value_checks as value_checks
from lossmith.kernels.known_items import KnownItems as KnownItems
from lossmith.kernels.violators import Violators as Violators
from lossmith.kernels.violators import dot_scores as dot_scores
from lossmith.kernels.violators import sample_violators as sample_violators
from lossmith.losses.classification import binary_cross_entropy as binary_cross_entropy
from lossmith.losses.classification import cross_entropy as cross_entropy
from lossmith.losses.classification import hinge as hinge
from lossmith.losses.classification import kl_divergence as kl_divergence
from lossmith.losses.classification import margin_binary_cross_entropy as margin_binary_cross_entropy
from lossmith.losses.classification import margin_cross_entropy as margin_cross_entropy
from lossmith.losses.generation import keyword_hybrid as keyword_hybrid
from lossmith.losses.generation import keyword_placement as keyword_placement
from lossmith.losses.generation import keyword_presence as keyword_presence
from lossmith.losses.generation import linear_cross_entropy as linear_cross_entropy
from lossmith.losses.ranking import listnet as listnet
from lossmith.losses.ranking import pairwise_hinge as pairwise_hinge
from lossmith.losses.ranking import ranknet as ranknet
from lossmith.losses.recommendation import bpr as bpr
from lossmith.losses.recommendation import expected_warp as expected_warp
from lossmith.losses.recommendation import warp as warp
from lossmith.losses.regression import epsilon_insensitive as epsilon_insensitive
from lossmith.losses.retrieval import contrastive as contrastive
from lossmith.losses.retrieval import info_nce as info_nce
from lossmith.losses.retrieval import nt_xent as nt_xent
from lossmith.losses.retrieval import triplet as triplet
from lossmith.losses.tagging import masked_binary_cross_entropy as masked_binary_cross_entropy
from lossmith.modules import BPR as BPR
from lossmith.modules import BinaryCrossEntropy as BinaryCrossEntropy
from lossmith.modules import Contrastive as Contrastive
from lossmith.modules import CrossEntropy as CrossEntropy
from lossmith.modules import EpsilonInsensitive as EpsilonInsensitive
from lossmith.modules import ExpectedWARP as ExpectedWARP
from lossmith.modules import Hinge as Hinge
from lossmith.modules import InfoNCE as InfoNCE
from lossmith.modules import KLDivergence as KLDivergence
from lossmith.modules import KeywordHybrid as KeywordHybrid
from lossmith.modules import KeywordPlacement as KeywordPlacement
from lossmith.modules import KeywordPresence as KeywordPresence
from lossmith.modules import LinearCrossEntropy as LinearCrossEntropy
from lossmith.modules import ListNet as ListNet
from lossmith.modules import MarginBinaryCrossEntropy as MarginBinaryCrossEntropy
from lossmith.modules import MarginCrossEntropy as MarginCrossEntropy
from lossmith.modules import MaskedBinaryCrossEntropy as MaskedBinaryCrossEntropy
from lossmith.modules import NTXent as NTXent
from lossmith.modules import PairwiseHinge as PairwiseHinge
from lossmith.modules import RankNet as RankNet
from lossmith.modules import Triplet as Triplet
from lossmith.modules import WARP as WARP
from lossmith.modules import from_text as from_text

__version__: Final[str]
