"""PCGrad's didactic problem: two deep curved valleys, 500,000 steps of Adam.

Losses, start and settings are those of the paper's appendix D. An optimum is
where the valleys meet, at theta 1 = -2 for theta 2 of 3 and more; it is
reached to within a distance of 0.25.

Nothing is downloaded. About 20 seconds on 2 CPU cores.

  python launch.py --config=configs/papers/pcgrad_didactic.py
"""

import mtl_jax

SOURCE = 'Yu et al., NeurIPS 2020, figure 1 and section 2.2'


def get_config():
  """The config; every key is explained in mtl_jax/config/sections.py."""
  config = mtl_jax.default_config()
  config.optimizer.name = 'adam'
  config.optimizer.learning_rate = 1e-3

  problem = config.problem
  problem.name = 'crossing_valleys'
  problem.steps = 500_000
  problem.record_every = 500
  problem.methods = {
    'adam': {'name': 'weighted_sum'},
    'pcgrad': {'name': 'pcgrad'},
    'imtl_g': {'name': 'imtl_g'},
    'nash_mtl': {'name': 'nash_mtl'},
  }
  problem.claims = {
    'adam_stalls': {
      'text': 'Adam stalls in the valley of one task, off the optimum.',
      'source': SOURCE,
      'statistic': 'distance',
      'method': 'adam',
      'relation': '>',
      'threshold': 0.25,
    },
    'pcgrad_reaches': {
      'text': 'Adam with PCGrad reaches an optimum.',
      'source': SOURCE,
      'statistic': 'distance',
      'method': 'pcgrad',
      'relation': '<',
      'threshold': 0.25,
    },
  }
  return config
