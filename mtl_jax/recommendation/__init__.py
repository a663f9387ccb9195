"""Recommendation: logs as people have them, protocols, ranking, baselines."""

from mtl_jax.recommendation.interactions import TIES, Interactions, make
from mtl_jax.recommendation.protocols import PROTOCOLS, Split
from mtl_jax.recommendation.ranking import Places, Ranking, places, rank

__all__ = [
  'PROTOCOLS',
  'TIES',
  'Interactions',
  'Places',
  'Ranking',
  'Split',
  'make',
  'places',
  'rank',
]
