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

LIN = 'Lin et al., ICML 2024, figure 1'
OURS = 'ours, before the runs'
COVERS = mtl_jax.claim(
  'Smooth Chebyshev covers it.',
  *('hypervolume_ratio', 'stch', '>', 0.9),
  source=LIN,
)
CLAIMS = {
  '1': (
    mtl_jax.claim(
      'A weighted sum covers a convex front.',
      *('hypervolume_ratio', 'weighted sum', '>', 0.9),
      source=OURS,
    ),
    COVERS,
  ),
  '2': (
    mtl_jax.claim(
      'A weighted sum finds nothing but the ends of a concave front.',
      *('imbalance', 'weighted sum', '>', 0.9),
      over='min',
      source=LIN,
    ),
    COVERS,
  ),
  '3': (
    mtl_jax.claim(
      'Smooth Chebyshev covers more of a broken front than a weighted sum.',
      *('hypervolume_ratio', 'stch', '>'),
      against='weighted sum',
      source=OURS,
    ),
  ),
}


def get_config(number='1'):
  """The config; every key is explained in mtl_jax/config/sections.py."""
  config = mtl_jax.default_config()
  config.optimizer.name = 'adam'
  config.optimizer.learning_rate = 1e-2
  config.optimizer.schedule = 'cosine'
  config.training.steps = 3000

  config.problem.name = 'zdt'
  config.problem.options = {'number': int(number)}
  config.problem.record_every = 100
  config.problem.preferences = 20
  config.population.seeds = 5
  ideal = (0.0, -0.8 if number == '3' else 0.0)
  preferred = {'name': 'with_preference', 'preference': 'member'}
  chosen = {'preference': 'member', 'ideal': ideal}
  methods = {
    'weighted sum': {'name': 'weighted_sum', 'wrappers': (preferred,)},
    'chebyshev': {'name': 'chebyshev', **chosen},
    'stch': {'name': 'stch', 'mu': 0.02, **chosen},
    'pbi': {'name': 'pbi', **chosen},
    'cosmos': {'name': 'cosmos', 'preference': 'member', 'penalty': 2.0},
    'mgda': {'name': 'mgda', 'wrappers': (preferred,)},
  }
  config.study.methods = {
    label: {'combinator': combinator} for label, combinator in methods.items()
  }
  config.study.claims = CLAIMS[number]
  return config
