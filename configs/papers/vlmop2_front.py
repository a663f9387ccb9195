"""A whole concave front at once: VLMOP2 with twenty preferences.

Every preference is a member of one population: weighted sums, Chebyshev and
its smooth form, boundary intersection, COSMOS, and MGDA on preferred losses.
A weighted sum has its minima at the ends of a concave front, and Chebyshev's
form reaches all of it. The settings are ours.

Nothing is downloaded. About 15 seconds on 2 CPU cores.

  python launch.py --config=configs/papers/vlmop2_front.py
"""

import functools

import mtl_jax

SOURCE = 'Lin et al., ICML 2024, figure 1'
PREFERRED = {'name': 'with_preference', 'preference': 'member'}
METHODS = {
  'weighted sum': {'name': 'weighted_sum', 'wrappers': (PREFERRED,)},
  'chebyshev': {'name': 'chebyshev', 'preference': 'member'},
  'stch': {'name': 'stch', 'preference': 'member', 'mu': 0.02},
  'pbi': {'name': 'pbi', 'preference': 'member'},
  'cosmos': {'name': 'cosmos', 'preference': 'member', 'penalty': 2.0},
  'mgda': {'name': 'mgda', 'wrappers': (PREFERRED,)},
}
claim = functools.partial(mtl_jax.claim, source=SOURCE)
CLAIMS = (
  claim(
    'A weighted sum finds nothing but the ends of a concave front.',
    *('imbalance', 'weighted sum', '>', 0.9),
    over='min',
  ),
  claim(
    'Smooth Chebyshev covers the front.',
    *('hypervolume_ratio', 'stch', '>', 0.9),
  ),
  claim(
    'Chebyshev covers the front.',
    *('hypervolume_ratio', 'chebyshev', '>', 0.9),
  ),
)


def get_config():
  """The config; every key is explained in mtl_jax/config/sections.py."""
  config = mtl_jax.default_config()
  config.optimizer.name = 'adam'
  config.optimizer.learning_rate = 1e-2
  config.optimizer.schedule = 'cosine'
  config.training.steps = 3000

  config.problem.name = 'vlmop2'
  config.problem.record_every = 100
  config.problem.preferences = 20
  config.population.seeds = 5
  config.study.methods = {
    label: {'combinator': combinator} for label, combinator in METHODS.items()
  }
  config.study.claims = CLAIMS
  return config
