"""Storms: five tasks in one trunk, in groups found by affinity, or alone.

Where a storm moves, how its wind and pressure change and what it will be called
in six hours (`mtl_jax/data/builders/storms.py`): tasks of which most have
nothing to give each other. `FOUND` are the best groups by look-ahead affinity,
and by gradient cosine as well, measured on the training split alone, before
anything else was run:

  python benchmarks/grouping.py --config=configs/suites/storms.py:storms.csv

`OTHER` parts what belongs together, as a control. All models have 6,129
parameters within 1%, of which 36 embed the status and are one table for all
groups; `groups_full` has trunks as large as all-in-one, as the single-task
twins have. Nothing is tuned. Five seeds; about 4 minutes on 2 CPU cores, after
the file (dplyr's table storms, as CSV) is at hand:

  python launch.py --config=configs/suites/storms.py:storms.csv

Claims, declared before anything was run: one trunk for all costs the two tasks
of the path at least 0.02 of R2 against groups with trunks of its size; and
groups of equal size are ahead of one trunk, of the other groups and of five
networks, in the overall score.
"""

import functools

import mtl_jax

TASKS = ('next_status', 'd_lat', 'd_long', 'd_wind', 'd_pressure')
FOUND = (('d_lat', 'd_long', 'next_status'), ('d_pressure', 'd_wind'))
OTHER = (('d_lat', 'd_wind', 'next_status'), ('d_long', 'd_pressure'))
ALONE = tuple((task,) for task in TASKS)
# Label, groups, and units of both layers of a trunk.
METHODS = {
  'all': ('All in one', (TASKS,), 64),  # 6,129 parameters
  'groups': ('Found groups', FOUND, 44),  # 6,077
  'groups_full': ('Found groups, full trunks', FOUND, 64),
  'other': ('Other groups', OTHER, 44),  # 6,077
  'alone': ('Five networks', ALONE, 26),  # 6,107
}
COST = 0.02


def get_config(path='storms.csv'):
  """The config; every key is explained in mtl_jax/config/sections.py.

  Args:
    path: of the file, see the builder `storms`.
  """
  config = mtl_jax.default_config()
  config.targets.next_status = {'kind': 'classification'}
  for name in TASKS[1:]:
    config.targets[name] = {'kind': 'regression'}

  config.data.name = 'storms'
  config.data.settings = {'path': path}
  config.data.features = {name: name for name in ('numbers', 'status', *TASKS)}
  config.data.standardize = ('numbers',)
  config.data.batch_size = 128
  config.data.evaluation_batch_size = 2048

  config.model.inputs = {
    'name': 'encoder',
    'categorical': {'status': (9, 4)},
    'numeric': ('numbers',),
  }
  config.model.trunk = {'name': 'mlp', 'widths': (64, 64)}
  config.model.head = {'name': 'linear'}
  config.optimizer.learning_rate = 1e-3
  config.training.epochs = 30

  config.population.seeds = 5
  config.study.methods = {
    name: {
      'label': label,
      'model': {
        'sharing': {'name': 'groups', 'groups': groups},
        'trunk': {'name': 'mlp', 'widths': (units, units)},
      },
    }
    for name, (label, groups, units) in METHODS.items()
  }
  config.study.control = 'all'
  config.study.twins = ('full',)
  config.study.metrics = (
    '+next_status/accuracy',
    *(f'+{task}/r2' for task in TASKS[1:]),
  )
  claim = functools.partial(mtl_jax.claim, source='ours, before the runs')
  config.study.claims = (
    *(
      claim(
        f'One trunk for all costs at least {COST:g} of R2 of {task}',
        *(f'{task}/r2', 'groups_full', '>', COST),
        against='all',
      )
      for task in ('d_lat', 'd_long')
    ),
    *(
      claim(
        f'Found groups are ahead of: {METHODS[name][0]}',
        *('overall', 'groups'),
        against=name,
      )
      for name in ('all', 'other', 'alone')
    ),
  )
  return config
