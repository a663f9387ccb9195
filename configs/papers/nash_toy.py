"""Nash-MTL's toy problem: CAGrad's with the first loss a tenth as large.

Five starts, 35,000 steps of Adam; starts, scale and settings are those of the
authors' code, where CAGrad has c = 0.4 and Nash-MTL's direction is clipped to
norm 1. 'Reaches the Pareto set' means to within 0.1, 'fails to' by more than
0.5. Balance is measured by the losses scaled to [0, 1] along the front: the
tilt is the first minus the second, the imbalance its size.

Seen in the runs: the two claims that CAGrad and PCGrad fail from two starts
fail themselves. From (-8.5, 7.5) both arrive. A float64 NumPy and SciPy copy of
the authors' formulas arrives from there too, with and without clipping, so
that the figure's 'rightmost points' may be one only, (9, 9); from there the
copy of CAGrad is still on its way after 35,000 steps, while CAGrad solved
exactly arrives, and PCGrad arrives with clipping and not without. That PCGrad
is led by the second task does not hold as a mean over three starts: from
(9, -1) it ends at the first task's side.

Nothing is downloaded. About 20 seconds on 2 CPU cores.

  python launch.py --config=configs/papers/nash_toy.py
"""

import functools

import mtl_jax

SOURCE = 'Navon et al., ICML 2022, figure 1'
STARTS = ((-8.5, 7.5), (0.0, 0.0), (9.0, 9.0), (-7.5, -0.5), (9.0, -1.0))
LABELS = {'ls': 'LS', 'pcgrad': 'PCGrad', 'cagrad': 'CAGrad', 'mgda': 'MGDA'}
METHODS = {
  'ls': {'name': 'weighted_sum'},
  'mgda': {'name': 'mgda'},
  'pcgrad': {'name': 'pcgrad'},
  'cagrad': {'name': 'cagrad', 'preset': 'nash-mtl'},
  'nash_mtl': {'name': 'nash_mtl', 'preset': 'nash-mtl'},
}
claim = functools.partial(mtl_jax.claim, source=SOURCE, test='value')
CLAIMS = (
  claim(
    'Nash-MTL reaches the Pareto set from all five starts.',
    *('distance', 'nash_mtl', '<', 0.1),
    over='max',
  ),
  claim(
    'MGDA is inclined towards the task of the smallest gradients.',
    *('tilt', 'mgda', '<'),
  ),
  *(
    claim(
      f'{LABELS[name]} fails to reach an optimum from the two starts with the '
      'largest first loss.',
      *('distance', name, '=', 2),
      over='above',
      level=0.5,
      at=(0, 2),
    )
    for name in ('ls', 'pcgrad', 'cagrad')
  ),
  *(
    claim(
      f'{LABELS[name]} is led by the larger gradients of the second task, from '
      'the other three starts.',
      *('tilt', name, '>', 0.5),
      at=(1, 3, 4),
    )
    for name in ('ls', 'pcgrad', 'cagrad')
  ),
  *(
    claim(
      f'Nash-MTL ends more balanced than {label}.',
      *('imbalance', 'nash_mtl', '<'),
      against=name,
    )
    for name, label in LABELS.items()
  ),
)


def get_config():
  """The config; every key is explained in mtl_jax/config/sections.py."""
  config = mtl_jax.default_config()
  config.optimizer.name = 'adam'
  config.optimizer.learning_rate = 1e-3
  config.training.steps = 35_000

  config.problem.name = 'two_valleys'
  config.problem.options = {'scales': (0.1, 1.0), 'starts': STARTS}
  config.problem.record_every = 50
  config.study.methods = {
    label: {'combinator': combinator} for label, combinator in METHODS.items()
  }
  config.study.claims = CLAIMS
  return config
