"""PCGrad's didactic problem: two deep curved valleys, 500,000 steps of Adam.

Losses, start and settings are those of the paper's appendix D. An optimum is
where the valleys meet, at theta 1 = -2 for theta 2 of 3 and more; it is
reached to within a distance of 0.25.

Nothing is downloaded. About 20 seconds on 2 CPU cores.

  python launch.py --config=configs/papers/pcgrad_didactic.py
"""

import functools

import mtl_jax

SOURCE = 'Yu et al., NeurIPS 2020, figure 1 and section 2.2'
METHODS = {
  'adam': {'name': 'weighted_sum'},
  'pcgrad': {'name': 'pcgrad'},
  'imtl_g': {'name': 'imtl_g'},
  'nash_mtl': {'name': 'nash_mtl'},
}
claim = functools.partial(mtl_jax.claim, source=SOURCE, test='value')
CLAIMS = (
  claim(
    'Adam stalls in the valley of one task, off the optimum.',
    *('distance', 'adam', '>', 0.25),
  ),
  claim(
    'Adam with PCGrad reaches an optimum.',
    *('distance', 'pcgrad', '<', 0.25),
  ),
)


def get_config():
  """The config; every key is explained in mtl_jax/config/sections.py."""
  config = mtl_jax.default_config()
  config.optimizer.name = 'adam'
  config.optimizer.learning_rate = 1e-3
  config.training.steps = 500_000

  config.problem.name = 'crossing_valleys'
  config.problem.record_every = 500
  config.study.methods = {
    label: {'combinator': combinator} for label, combinator in METHODS.items()
  }
  config.study.claims = CLAIMS
  return config
