"""FAMO's toy problem: Nash-MTL's, for 50,000 steps.

The starts are those of the authors' code; with the argument 'paper' those of
the paper's text, which has others: (-8.5, 5) and (10, -8) in place of
(-7.5, -0.5) and (9, -1). FAMO has no weight decay, a rate of 0.025 and the
lower bounds -2.1 and -21, as in the code. The front is reached to within a
distance of 0.5 from the Pareto set.

Nothing is downloaded. About 25 seconds on 2 CPU cores.

  python launch.py --config=configs/papers/famo_toy.py
  python launch.py --config=configs/papers/famo_toy.py:paper
"""

import mtl_jax

SOURCE = 'Liu et al., NeurIPS 2023, figure 1'
STARTS = {
  'code': ((-8.5, 7.5), (0.0, 0.0), (9.0, 9.0), (-7.5, -0.5), (9.0, -1.0)),
  'paper': ((-8.5, 7.5), (-8.5, 5.0), (0.0, 0.0), (9.0, 9.0), (10.0, -8.0)),
}


def get_config(starts='code'):
  """The config; every key is explained in mtl_jax/config/sections.py."""
  config = mtl_jax.default_config()
  config.optimizer.name = 'adam'
  config.optimizer.learning_rate = 1e-3

  problem = config.problem
  problem.name = 'two_valleys'
  problem.options = {'scales': (0.1, 1.0), 'starts': STARTS[starts]}
  problem.steps = 50_000
  problem.record_every = 100
  problem.methods = {
    'adam': {'name': 'weighted_sum'},
    'mgda': {'name': 'mgda'},
    'pcgrad': {'name': 'pcgrad'},
    'cagrad': {'name': 'cagrad', 'preset': 'nash-mtl'},
    'nash_mtl': {'name': 'nash_mtl', 'preset': 'nash-mtl'},
    'famo': {
      'name': 'famo',
      'minimum': (-2.1, -21.0),
      'optimizer': {'name': 'adam', 'learning_rate': 0.025},
    },
  }
  problem.claims = {
    'adam_fails_once': {
      'text': 'Adam fails in 1 out of 5 runs to reach the Pareto front.',
      'source': SOURCE,
      'statistic': 'distance',
      'method': 'adam',
      'over': 'above',
      'level': 0.5,
      'relation': '=',
      'threshold': 1,
    },
    'famo_reaches': {
      'text': 'FAMO reaches the Pareto front in all 5 runs.',
      'source': SOURCE,
      'statistic': 'distance',
      'method': 'famo',
      'over': 'max',
      'relation': '<',
      'threshold': 0.5,
    },
    'famo_balanced': {
      'text': 'FAMO ends more balanced than Adam.',
      'source': SOURCE,
      'statistic': 'imbalance',
      'method': 'famo',
      'against': 'adam',
      'relation': '<',
      'threshold': 0.0,
    },
  }
  return config
