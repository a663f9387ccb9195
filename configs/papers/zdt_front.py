"""ZDT1, ZDT2 or ZDT3 with twenty preferences: a convex, concave, broken front.

As vlmop2_front.py, in 30 variables within [0, 1]; the argument says which of
the three. The settings are ours.

Seen in the runs: on ZDT3, all preferences of a seed begin at one point, and
descent stays within the waves of the second loss near it: the pieces of the
front that lie far from the start are not reached by any method. MGDA ends at
the first loss's minimum on all three, where its gradient is zero only at the
bound.

Nothing is downloaded. About 15 seconds on 2 CPU cores.

  python launch.py --config=configs/papers/zdt_front.py
  python launch.py --config=configs/papers/zdt_front.py:2
  python launch.py --config=configs/papers/zdt_front.py:3
"""

import mtl_jax

SOURCE = 'known of these scalarizations; see Lin et al., ICML 2024, from memory'


def covers(text, method, threshold=0.9, against=''):
  """A claim on the hypervolume."""
  return {
    'text': text,
    'source': SOURCE,
    'statistic': 'hypervolume_ratio',
    'method': method,
    'against': against,
    'relation': '>',
    'threshold': threshold,
    'test': 't',
  }


def get_config(number='1'):
  """The config; every key is explained in mtl_jax/config/sections.py."""
  config = mtl_jax.default_config()
  config.optimizer.name = 'adam'
  config.optimizer.learning_rate = 1e-2
  config.optimizer.schedule = 'cosine'

  problem = config.problem
  problem.name = 'zdt'
  problem.options = {'number': int(number)}
  problem.steps = 3000
  problem.record_every = 100
  problem.seeds = 5
  problem.preferences = 20
  ideal = (0.0, -0.8 if number == '3' else 0.0)
  preferred = {'name': 'with_preference', 'preference': 'member'}
  chosen = {'preference': 'member', 'ideal': ideal}
  problem.methods = {
    'weighted sum': {'name': 'weighted_sum', 'wrappers': (preferred,)},
    'chebyshev': {'name': 'chebyshev', **chosen},
    'stch': {'name': 'stch', 'mu': 0.02, **chosen},
    'pbi': {'name': 'pbi', **chosen},
    'cosmos': {'name': 'cosmos', 'preference': 'member', 'penalty': 2.0},
    'mgda': {'name': 'mgda', 'wrappers': (preferred,)},
  }
  problem.claims = {
    '1': {
      'sum_covers': covers(
        'A weighted sum covers a convex front.', 'weighted sum'
      ),
      'stch_covers': covers('Smooth Chebyshev covers it.', 'stch'),
    },
    '2': {
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
      'stch_covers': covers('Smooth Chebyshev covers it.', 'stch'),
    },
    '3': {
      'stch_sum': covers(
        'Smooth Chebyshev covers more of a broken front than a weighted sum.',
        'stch',
        0.0,
        'weighted sum',
      ),
    },
  }[number]
  return config
