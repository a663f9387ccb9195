"""FAMO's demonstration: 100 linear regressions on noise, 100 steps.

Weight decay 0.01 and a rate of 0.025 for the weights, Adam with 1e-3 for the
model, as in the authors' famo.py. It prints the mean loss and states no
number; what is claimed here is that it works at 100 tasks.

Nothing is downloaded. About 5 seconds on 2 CPU cores.

  python launch.py --config=configs/papers/famo_demo.py
"""

import mtl_jax


def get_config():
  """The config; every key is explained in mtl_jax/config/sections.py."""
  config = mtl_jax.default_config()
  config.optimizer.name = 'adam'
  config.optimizer.learning_rate = 1e-3
  config.training.steps = 100

  config.problem.name = 'linear_regressions'
  config.problem.record_every = 1
  config.population.seeds = 5
  config.study.methods = {
    'equal': {'combinator': {'name': 'weighted_sum'}},
    'famo': {'combinator': {'name': 'famo'}},
  }
  config.study.claims = (
    mtl_jax.claim(
      'Under FAMO all hundred losses fall.',
      *('worst_relative_loss', 'famo', '<', 1.0),
      source="the demonstration of FAMO's authors, which states no number",
    ),
  )
  return config
