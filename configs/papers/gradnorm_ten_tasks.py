"""GradNorm's toy regressions, 10 tasks that differ in scale only.

Scales drawn from N(0, 100^2) for each seed, alpha = 0.12 and the norms
of the trunk's last layer, as in the paper; rates of 0.025 for the weights of
GradNorm and of uncertainty weighting, which it names for its other
experiments. What it does not say is ours: inputs uniform in [0, 1], 10,000
training examples, batches of 100, Adam with 1e-3, 3,000 steps. Test losses are
of 1,000 other examples; five seeds of data and parameters, paired.

Seen in the runs: as with two tasks, test losses fall to what one constant for
each output explains, about 0.45 of the variance, and hardly further; all three
methods get that, so that there is little to be divided.

Nothing is downloaded. About 2 minutes on 2 CPU cores.

  python launch.py --config=configs/papers/gradnorm_ten_tasks.py
"""

import functools

import mtl_jax

SOURCE = 'Chen et al., ICML 2018, section 4'
RATE = {'name': 'adam', 'learning_rate': 0.025}
METHODS = {
  'equal': {'name': 'weighted_sum'},
  'uncertainty': {'name': 'uncertainty', 'optimizer': RATE},
  'gradnorm': {
    'name': 'gradnorm',
    'alpha': 0.12,
    'labels': '^trunk3',
    'optimizer': RATE,
  },
}
claim = functools.partial(mtl_jax.claim, source=SOURCE)
CLAIMS = (
  claim(
    'GradNorm has lower task-normalised test losses than equal weights.',
    *('relative_loss', 'gradnorm', '<'),
    against='equal',
  ),
  claim(
    'GradNorm has lower ones than uncertainty weighting.',
    *('relative_loss', 'gradnorm', '<'),
    against='uncertainty',
  ),
)


def get_config():
  """The config; every key is explained in mtl_jax/config/sections.py."""
  config = mtl_jax.default_config()
  config.optimizer.name = 'adam'
  config.optimizer.learning_rate = 1e-3
  config.training.steps = 3000

  config.problem.name = 'scaled_regressions'
  config.problem.options = {'tasks': 10, 'spread': 100.0}
  config.problem.record_every = 50
  config.population.seeds = 5
  config.study.methods = {
    label: {'combinator': combinator} for label, combinator in METHODS.items()
  }
  config.study.claims = CLAIMS
  return config
