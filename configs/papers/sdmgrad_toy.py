"""SDMGrad's toy problem: CAGrad's, with noise on every task gradient.

0.2 times standard normal noise, Adam with 2e-3, 70,000 steps, lambda = 0.01,
as in the authors' code; five seeds of the noise. There SDMGrad solves its
problem exactly on one noisy sample; here, as in the algorithm, it takes 20
steps on the product of two and applies the weights to a third. The claims are
written down from memory of the paper: they were not checked against its text.

Seen in the runs: from (9, 9) one of five seeds of SDMGrad and four of MGDA are
still in the valleys when the steps end; one such run moves the mean over three
starts so far that five seeds decide neither claim.

Nothing is downloaded. About 30 seconds on 2 CPU cores.

  python launch.py --config=configs/papers/sdmgrad_toy.py
"""

import mtl_jax

SOURCE = 'Xiao et al., NeurIPS 2023, from memory'


def get_config():
  """The config; every key is explained in mtl_jax/config/sections.py."""
  config = mtl_jax.default_config()
  config.optimizer.name = 'adam'
  config.optimizer.learning_rate = 2e-3

  problem = config.problem
  problem.name = 'two_valleys'
  problem.options = {'noise': 0.2}
  problem.steps = 70_000
  problem.record_every = 100
  problem.seeds = 5
  problem.methods = {
    'adam': {'name': 'weighted_sum'},
    'mgda': {'name': 'mgda'},
    'pcgrad': {'name': 'pcgrad'},
    'cagrad': {'name': 'cagrad', 'c': 0.5, 'rescale': 2},
    'sdmgrad': {'name': 'sdmgrad', 'lam': 0.01},
  }
  problem.claims = {
    'adam_stuck': {
      'text': 'Adam still gets stuck on two of the three starts.',
      'source': SOURCE,
      'statistic': 'distance',
      'method': 'adam',
      'over': 'above',
      'level': 0.5,
      'relation': '=',
      'threshold': 2,
    },
    'sdmgrad_reaches': {
      'text': 'SDMGrad reaches the Pareto set from all starts, despite noise.',
      'source': SOURCE,
      'statistic': 'distance',
      'method': 'sdmgrad',
      'over': 'max',
      'relation': '<',
      'threshold': 0.5,
      'test': 't',
    },
    'sdmgrad_mean': {
      'text': 'SDMGrad ends with a lower mean loss than MGDA.',
      'source': SOURCE,
      'statistic': 'mean_loss',
      'method': 'sdmgrad',
      'against': 'mgda',
      'relation': '<',
      'threshold': 0.0,
      'test': 't',
    },
  }
  return config
