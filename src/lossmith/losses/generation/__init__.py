"""Objectives for sequences of tokens: keywords, large vocabularies, sampled outputs."""

from lossmith.losses.generation.keywords import keyword_hybrid as keyword_hybrid
from lossmith.losses.generation.keywords import keyword_placement as keyword_placement
from lossmith.losses.generation.keywords import keyword_presence as keyword_presence
from lossmith.losses.generation.risk import sequence_risk as sequence_risk
from lossmith.losses.generation.vocabulary import linear_cross_entropy as linear_cross_entropy
