"""A convex front at once: VLMOP1 with twenty preferences.

As vlmop2_front.py; here a weighted sum reaches all of the front too. The
settings are ours.

Nothing is downloaded. About 15 seconds on 2 CPU cores.

  python launch.py --config=configs/papers/vlmop1_front.py
"""

import mtl_jax

PREFERRED = {'name': 'with_preference', 'preference': 'member'}
METHODS = {
  'weighted sum': {'name': 'weighted_sum', 'wrappers': (PREFERRED,)},
  'chebyshev': {'name': 'chebyshev', 'preference': 'member'},
  'stch': {'name': 'stch', 'preference': 'member', 'mu': 0.02},
  'pbi': {'name': 'pbi', 'preference': 'member'},
  'cosmos': {'name': 'cosmos', 'preference': 'member', 'penalty': 2.0},
  'mgda': {'name': 'mgda', 'wrappers': (PREFERRED,)},
}
CLAIMS = (
  mtl_jax.claim(
    'A weighted sum covers a convex front.',
    *('hypervolume_ratio', 'weighted sum', '>', 0.9),
    source='ours, before the runs',
  ),
  mtl_jax.claim(
    'Smooth Chebyshev covers it.',
    *('hypervolume_ratio', 'stch', '>', 0.9),
    source='Lin et al., ICML 2024, abstract',
  ),
)


def get_config():
  """The config; every key is explained in mtl_jax/config/sections.py."""
  config = mtl_jax.default_config()
  config.optimizer.name = 'adam'
  config.optimizer.learning_rate = 1e-2
  config.optimizer.schedule = 'cosine'
  config.training.steps = 3000

  config.problem.name = 'vlmop1'
  config.problem.record_every = 100
  config.problem.preferences = 20
  config.population.seeds = 5
  config.study.methods = {
    label: {'combinator': combinator} for label, combinator in METHODS.items()
  }
  config.study.claims = CLAIMS
  return config
