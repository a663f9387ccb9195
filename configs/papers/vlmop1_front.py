"""A convex front at once: VLMOP1 with twenty preferences.

As vlmop2_front.py; here a weighted sum reaches all of the front too. The
settings are ours.

Nothing is downloaded. About 15 seconds on 2 CPU cores.

  python launch.py --config=configs/papers/vlmop1_front.py
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
  problem.name = 'vlmop1'
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
    'sum_covers': {
      'text': 'A weighted sum covers a convex front.',
      'source': SOURCE,
      'statistic': 'hypervolume_ratio',
      'method': 'weighted sum',
      'relation': '>',
      'threshold': 0.9,
      'test': 't',
    },
    'stch_covers': {
      'text': 'Smooth Chebyshev covers it.',
      'source': SOURCE,
      'statistic': 'hypervolume_ratio',
      'method': 'stch',
      'relation': '>',
      'threshold': 0.9,
      'test': 't',
    },
  }
  return config
