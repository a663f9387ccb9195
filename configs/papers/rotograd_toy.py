"""RotoGrad's toy problem: one point, two tasks with other optima.

A network 2 - 10 - 2 at the origin, SGD with 1e-3, 400 steps, as in the
authors' example (Javaloy and Valera, ICLR 2022), and the rotations with Adam,
0.05 and a decay of 0.99999; five seeds of the parameters. Nothing is claimed,
for the paper's text was not at hand.

Seen in the runs: with RotoGrad four of five seeds end with both tasks between
-5.5 and -6, their minimum, and one is still at -0.7 after 400 steps. Plain
descent takes one task to its minimum, at the other's cost, in four of five.

Nothing is downloaded. About 5 seconds on 2 CPU cores.

  python launch.py --config=configs/papers/rotograd_toy.py
"""

import mtl_jax

METHODS = {
  'vanilla': {'name': 'weighted_sum'},
  'pcgrad': {'name': 'pcgrad'},
  'mgda': {'name': 'mgda'},
  'imtl_g': {'name': 'imtl_g'},
  'rotograd': {'name': 'rotograd', 'learning_rate': 0.05, 'decay': 0.99999},
}


def get_config():
  """The config; every key is explained in mtl_jax/config/sections.py."""
  config = mtl_jax.default_config()
  config.optimizer.name = 'sgd'
  config.optimizer.learning_rate = 1e-3
  config.training.steps = 400

  config.problem.name = 'two_waves'
  config.problem.record_every = 1
  config.population.seeds = 5
  config.study.methods = {
    label: {'combinator': combinator} for label, combinator in METHODS.items()
  }
  return config
