"""Recommendation: logs as people have them, protocols, ranking, baselines."""

from mtl_jax.recommendation.interactions import TIES, Interactions, make
from mtl_jax.recommendation.protocols import PROTOCOLS, Split
from mtl_jax.recommendation.ranking import Places, TargetRanking, places, rank

__all__ = [
  'PROTOCOLS',
  'TIES',
  'Interactions',
  'Places',
  'TargetRanking',
  'Split',
  'make',
  'places',
  'rank',
]
