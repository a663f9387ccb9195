"""CAGrad's toy problem: 17 methods from three starts, 100,000 steps of Adam.

Two tasks in the plane, a steep valley each in one half and a bowl each in the
other. Losses, starts, optimizer, steps, c = 0.5 and the division by 1 + c are
those of the authors' toy.py; the methods that are not in it have their
defaults here. Claims: Liu et al., NeurIPS 2021, figure 1 and section 5.1.

Seen in the runs: MGDA reaches the Pareto set near (-3.3, -8.37) and then moves
on along it to the end. On the set its direction is zero, and Adam divides what
rounding leaves of it by its own size; in float64 it has moved by 0.1 when the
steps end. FairGrad, for which there is no solution on the set, ends there too.

Nothing is downloaded. About 40 seconds on 2 CPU cores.

  python launch.py --config=configs/papers/cagrad_toy.py
"""

import functools

import mtl_jax

SOURCE = 'Liu et al., NeurIPS 2021, figure 1'
METHODS = {
  'adam': {'name': 'weighted_sum'},
  'mgda': {'name': 'mgda'},
  'pcgrad': {'name': 'pcgrad'},
  'cagrad': {'name': 'cagrad', 'c': 0.5, 'rescale': 2},
  'imtl_g': {'name': 'imtl_g'},
  'nash_mtl': {'name': 'nash_mtl'},
  'fairgrad': {'name': 'fairgrad'},
  'aligned_mtl': {'name': 'aligned_mtl'},
  'upgrad': {'name': 'upgrad'},
  'dualproj': {'name': 'dualproj'},
  'conflict_free': {'name': 'conflict_free'},
  'graddrop': {'name': 'graddrop'},
  'gradvac': {'name': 'gradvac'},
  'rlw': {'name': 'rlw'},
  'moco': {'name': 'moco'},
  'sdmgrad': {'name': 'sdmgrad'},
  'modo': {'name': 'modo'},
}
claim = functools.partial(mtl_jax.claim, source=SOURCE, test='value')
CLAIMS = (
  claim(
    'GD with Adam gets stuck on two of the three starts.',
    *('distance', 'adam', '=', 2),
    over='above',
    level=0.5,
  ),
  claim(
    'CAGrad converges to the lowest mean loss from all starts.',
    *('optimum_gap', 'cagrad', '<', 0.1),
    over='max',
  ),
  *(
    claim(
      f'{label} reaches the Pareto set from all starts.',
      *('distance', name, '<', 0.1),
      over='max',
    )
    for name, label in (('mgda', 'MGDA'), ('pcgrad', 'PCGrad'))
  ),
  *(
    claim(
      f'{label} stops on the Pareto set, away from the lowest mean loss.',
      *('optimum_gap', name, '=', 3),
      over='above',
      level=0.1,
    )
    for name, label in (('mgda', 'MGDA'), ('pcgrad', 'PCGrad'))
  ),
)


def get_config():
  """The config; every key is explained in mtl_jax/config/sections.py."""
  config = mtl_jax.default_config()
  config.optimizer.name = 'adam'
  config.optimizer.learning_rate = 1e-3
  config.training.steps = 100_000

  config.problem.name = 'two_valleys'
  config.problem.record_every = 100
  config.study.methods = {
    label: {'combinator': combinator} for label, combinator in METHODS.items()
  }
  config.study.claims = CLAIMS
  return config
