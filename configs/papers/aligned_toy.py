"""Aligned-MTL's variant of the toy problem: both losses halved.

Five starts, 35,000 steps of Adam (Senushkin et al., CVPR 2023; scale 0.5 of the
authors' optimize_toy.py). Nothing is claimed: the paper's text was not at hand.

Nothing is downloaded. About 20 seconds on 2 CPU cores.

  python launch.py --config=configs/papers/aligned_toy.py
"""

import mtl_jax

STARTS = ((-8.5, 7.5), (0.0, 0.0), (9.0, 9.0), (-7.5, -0.5), (9.0, -1.0))
METHODS = {
  'adam': {'name': 'weighted_sum'},
  'mgda': {'name': 'mgda'},
  'pcgrad': {'name': 'pcgrad'},
  'cagrad': {'name': 'cagrad', 'preset': 'nash-mtl'},
  'nash_mtl': {'name': 'nash_mtl', 'preset': 'nash-mtl'},
  'imtl_g': {'name': 'imtl_g'},
  'aligned_mtl': {'name': 'aligned_mtl'},
}


def get_config():
  """The config; every key is explained in mtl_jax/config/sections.py."""
  config = mtl_jax.default_config()
  config.optimizer.name = 'adam'
  config.optimizer.learning_rate = 1e-3
  config.training.steps = 35_000

  config.problem.name = 'two_valleys'
  config.problem.options = {'scales': (0.5, 0.5), 'starts': STARTS}
  config.problem.record_every = 50
  config.study.methods = {
    label: {'combinator': combinator} for label, combinator in METHODS.items()
  }
  return config
