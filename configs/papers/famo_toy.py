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

import functools

import mtl_jax

SOURCE = 'Liu et al., NeurIPS 2023, figure 1'
STARTS = {
  'code': ((-8.5, 7.5), (0.0, 0.0), (9.0, 9.0), (-7.5, -0.5), (9.0, -1.0)),
  'paper': ((-8.5, 7.5), (-8.5, 5.0), (0.0, 0.0), (9.0, 9.0), (10.0, -8.0)),
}
METHODS = {
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
claim = functools.partial(mtl_jax.claim, source=SOURCE, test='value')
CLAIMS = (
  claim(
    'Adam fails in 1 out of 5 runs to reach the Pareto front.',
    *('distance', 'adam', '=', 1),
    over='above',
    level=0.5,
  ),
  claim(
    'FAMO reaches the Pareto front in all 5 runs.',
    *('distance', 'famo', '<', 0.5),
    over='max',
  ),
  claim(
    'FAMO ends more balanced than Adam.',
    *('imbalance', 'famo', '<'),
    against='adam',
  ),
)


def get_config(starts='code'):
  """The config; every key is explained in mtl_jax/config/sections.py."""
  config = mtl_jax.default_config()
  config.optimizer.name = 'adam'
  config.optimizer.learning_rate = 1e-3
  config.training.steps = 50_000

  config.problem.name = 'two_valleys'
  config.problem.options = {'scales': (0.1, 1.0), 'starts': STARTS[starts]}
  config.problem.record_every = 100
  config.study.methods = {
    label: {'combinator': combinator} for label, combinator in METHODS.items()
  }
  config.study.claims = CLAIMS
  return config
