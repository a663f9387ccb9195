"""Aligned-MTL's variant of the toy problem: both losses halved.

Five starts, 35,000 steps of Adam. What the paper says of it, that Aligned-MTL
reaches the lowest weighted loss from every start and the others do not, is
written down from memory: it was not checked against the text.

Nothing is downloaded. About 20 seconds on 2 CPU cores.

  python launch.py --config=configs/papers/aligned_toy.py
"""

import mtl_jax

SOURCE = 'Senushkin et al., CVPR 2023, from memory'
STARTS = ((-8.5, 7.5), (0.0, 0.0), (9.0, 9.0), (-7.5, -0.5), (9.0, -1.0))


def get_config():
  """The config; every key is explained in mtl_jax/config/sections.py."""
  config = mtl_jax.default_config()
  config.optimizer.name = 'adam'
  config.optimizer.learning_rate = 1e-3

  problem = config.problem
  problem.name = 'two_valleys'
  problem.options = {'scales': (0.5, 0.5), 'starts': STARTS}
  problem.steps = 35_000
  problem.record_every = 50
  problem.methods = {
    'adam': {'name': 'weighted_sum'},
    'mgda': {'name': 'mgda'},
    'pcgrad': {'name': 'pcgrad'},
    'cagrad': {'name': 'cagrad', 'preset': 'nash-mtl'},
    'nash_mtl': {'name': 'nash_mtl', 'preset': 'nash-mtl'},
    'imtl_g': {'name': 'imtl_g'},
    'aligned_mtl': {'name': 'aligned_mtl'},
  }
  problem.claims = {
    'aligned_optimum': {
      'text': 'Aligned-MTL reaches the lowest mean loss from all five starts.',
      'source': SOURCE,
      'statistic': 'optimum_gap',
      'method': 'aligned_mtl',
      'over': 'max',
      'relation': '<',
      'threshold': 0.1,
    },
    'nash_elsewhere': {
      'text': 'Nash-MTL ends above the lowest mean loss from some start.',
      'source': SOURCE,
      'statistic': 'optimum_gap',
      'method': 'nash_mtl',
      'over': 'max',
      'relation': '>',
      'threshold': 0.1,
    },
    'pcgrad_elsewhere': {
      'text': 'PCGrad ends above the lowest mean loss from some start.',
      'source': SOURCE,
      'statistic': 'optimum_gap',
      'method': 'pcgrad',
      'over': 'max',
      'relation': '>',
      'threshold': 0.1,
    },
  }
  return config
