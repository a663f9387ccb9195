"""FAMO's demonstration: 100 linear regressions on noise, 100 steps.

Weight decay 0.01 and a rate of 0.025 for the weights, Adam with 1e-3 for the
model, as in the authors' famo.py. It prints the mean loss and states no
number; what is claimed here is that it works at 100 tasks.

Nothing is downloaded. About 5 seconds on 2 CPU cores.

  python launch.py --config=configs/papers/famo_demo.py
"""

import mtl_jax

SOURCE = "the demonstration of FAMO's authors, which states no number"


def get_config():
  """The config; every key is explained in mtl_jax/config/sections.py."""
  config = mtl_jax.default_config()
  config.optimizer.name = 'adam'
  config.optimizer.learning_rate = 1e-3

  problem = config.problem
  problem.name = 'linear_regressions'
  problem.steps = 100
  problem.record_every = 1
  problem.seeds = 5
  problem.methods = {
    'equal': {'name': 'weighted_sum'},
    'famo': {'name': 'famo'},
  }
  problem.claims = {
    'all_fall': {
      'text': 'Under FAMO all hundred losses fall.',
      'source': SOURCE,
      'statistic': 'worst_relative_loss',
      'method': 'famo',
      'relation': '<',
      'threshold': 1.0,
      'test': 't',
    },
  }
  return config
