"""GradNorm's toy regressions, 2 tasks that differ in scale only.

Scales 1 and 100, alpha = 0.12 and the norms
of the trunk's last layer, as in the paper; rates of 0.025 for the weights of
GradNorm and of uncertainty weighting, which it names for its other
experiments. What it does not say is ours: inputs uniform in [0, 1], 10,000
training examples, batches of 100, Adam with 1e-3, 3,000 steps. Test losses are
of 1,000 other examples; five seeds of data and parameters, paired.

Seen in the runs: within 100 steps the test losses fall to what one constant for
each output explains, 0.45 of the variance, and hardly further: inputs from
[0, 1] leave most tanh units on one side. All three methods get that, so that
there is little to be divided. Adam's step of 0.025 also keeps the weight of a
large task near 0.04, where equal gradient norms at scales 1 and 100 ask for
0.0002.

Nothing is downloaded. About 30 seconds on 2 CPU cores.

  python launch.py --config=configs/papers/gradnorm_two_tasks.py
"""

import mtl_jax

SOURCE = 'Chen et al., ICML 2018, section 4'


def get_config():
  """The config; every key is explained in mtl_jax/config/sections.py."""
  config = mtl_jax.default_config()
  config.optimizer.name = 'adam'
  config.optimizer.learning_rate = 1e-3

  problem = config.problem
  problem.name = 'scaled_regressions'
  problem.options = {'scales': (1.0, 100.0)}
  problem.steps = 3000
  problem.record_every = 50
  problem.seeds = 5
  rate = {'name': 'adam', 'learning_rate': 0.025}
  problem.methods = {
    'equal': {'name': 'weighted_sum'},
    'uncertainty': {'name': 'uncertainty', 'optimizer': rate},
    'gradnorm': {
      'name': 'gradnorm',
      'alpha': 0.12,
      'labels': '^trunk3',
      'optimizer': rate,
    },
  }
  problem.claims = {
    'suppressed': {
      'text': (
        'With equal weights the large task keeps the small one from learning.'
      ),
      'source': SOURCE,
      'statistic': 'relative/task 1',
      'method': 'equal',
      'against': 'gradnorm',
      'relation': '>',
      'threshold': 0.0,
      'test': 't',
    },
    'gradnorm_equal': {
      'text': (
        'GradNorm has lower task-normalised test losses than equal weights.'
      ),
      'source': SOURCE,
      'statistic': 'relative_loss',
      'method': 'gradnorm',
      'against': 'equal',
      'relation': '<',
      'threshold': 0.0,
      'test': 't',
    },
    'gradnorm_uncertainty': {
      'text': 'GradNorm has lower ones than uncertainty weighting.',
      'source': SOURCE,
      'statistic': 'relative_loss',
      'method': 'gradnorm',
      'against': 'uncertainty',
      'relation': '<',
      'threshold': 0.0,
      'test': 't',
    },
  }
  return config
