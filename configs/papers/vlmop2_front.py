"""A whole concave front at once: VLMOP2 with twenty preferences.

Every preference is a member of one population: weighted sums, Chebyshev and
its smooth form, boundary intersection, COSMOS, and MGDA on preferred losses.
What is claimed is known since long: a weighted sum has its minima at the ends
of a concave front, and Chebyshev's form reaches all of it. The settings are
ours.

Nothing is downloaded. About 15 seconds on 2 CPU cores.

  python launch.py --config=configs/papers/vlmop2_front.py
"""

import mtl_jax

SOURCE = 'known of these scalarizations; see Lin et al., ICML 2024, from memory'


def get_config():
  """The config; every key is explained in mtl_jax/config/sections.py."""
  config = mtl_jax.default_config()
  config.optimizer.name = 'adam'
  config.optimizer.learning_rate = 1e-2
  config.optimizer.schedule = 'cosine'

  problem = config.problem
  problem.name = 'vlmop2'
  problem.steps = 3000
  problem.record_every = 100
  problem.seeds = 5
  problem.preferences = 20
  preferred = {'name': 'with_preference', 'preference': 'member'}
  problem.methods = {
    'weighted sum': {'name': 'weighted_sum', 'wrappers': (preferred,)},
    'chebyshev': {'name': 'chebyshev', 'preference': 'member'},
    'stch': {'name': 'stch', 'preference': 'member', 'mu': 0.02},
    'pbi': {'name': 'pbi', 'preference': 'member'},
    'cosmos': {'name': 'cosmos', 'preference': 'member', 'penalty': 2.0},
    'mgda': {'name': 'mgda', 'wrappers': (preferred,)},
  }
  problem.claims = {
    'sum_ends': {
      'text': 'A weighted sum finds nothing but the ends of a concave front.',
      'source': SOURCE,
      'statistic': 'imbalance',
      'method': 'weighted sum',
      'over': 'min',
      'relation': '>',
      'threshold': 0.9,
      'test': 't',
    },
    'stch_covers': {
      'text': 'Smooth Chebyshev covers the front.',
      'source': SOURCE,
      'statistic': 'hypervolume_ratio',
      'method': 'stch',
      'relation': '>',
      'threshold': 0.9,
      'test': 't',
    },
    'chebyshev_covers': {
      'text': 'Chebyshev covers the front.',
      'source': SOURCE,
      'statistic': 'hypervolume_ratio',
      'method': 'chebyshev',
      'relation': '>',
      'threshold': 0.9,
      'test': 't',
    },
  }
  return config
