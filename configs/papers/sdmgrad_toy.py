"""SDMGrad's toy problem: CAGrad's, with noise on every task gradient.

0.2 times standard normal noise, Adam with 2e-3, 70,000 steps, lambda = 0.01,
as in the authors' code (Xiao et al., NeurIPS 2023); five seeds of the noise.
There SDMGrad solves its problem exactly on one noisy sample; here, as in the
algorithm, it takes 20 steps on the product of two and applies the weights to a
third. Nothing is claimed, for the paper's text was not at hand.

Seen in the runs: from (9, 9) one of five seeds of SDMGrad and four of MGDA are
still in the valleys when the steps end.

Nothing is downloaded. About 30 seconds on 2 CPU cores.

  python launch.py --config=configs/papers/sdmgrad_toy.py
"""

import mtl_jax

METHODS = {
  'adam': {'name': 'weighted_sum'},
  'mgda': {'name': 'mgda'},
  'pcgrad': {'name': 'pcgrad'},
  'cagrad': {'name': 'cagrad', 'c': 0.5, 'rescale': 2},
  'sdmgrad': {'name': 'sdmgrad', 'lam': 0.01},
}


def get_config():
  """The config; every key is explained in mtl_jax/config/sections.py."""
  config = mtl_jax.default_config()
  config.optimizer.name = 'adam'
  config.optimizer.learning_rate = 2e-3
  config.training.steps = 70_000

  config.problem.name = 'two_valleys'
  config.problem.options = {'noise': 0.2}
  config.problem.record_every = 100
  config.population.seeds = 5
  config.study.methods = {
    label: {'combinator': combinator} for label, combinator in METHODS.items()
  }
  return config
