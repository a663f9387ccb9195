r"""What resolves conflict in a recommender: methods x who shares what.

The four tasks of configs/rec/movielens_interests.py under methods that weigh
losses, change gradients or decompose the network, each with single-task models
of the same trunk. The report has the gain per task with intervals over seeds,
cosines of task gradients by group of parameters (the item table, the trunk or
experts), and the best step of each task: do directions conflict, or speeds?

The reduced form has 5 methods x {hard, MMoE} x 3 seeds, at width 32, length 20
and 256 negatives per step, drawn uniformly, for eight epochs. The full one has
10 x {hard, MMoE, PLE} x 5 seeds at width 96, length 50, the full softmax and 24
epochs, and 8 trials of each method's learning rate (and of the fixed weights):
about 200 times as much, estimated by the time of a step and not run. Stop it
when you like; the same command goes on.

`:generated` is the reduced form on a log whose law is known, so that the best
ranking is, and whose conflict is dialled: with `agreement` 1 what comes next is
rated highly, with 0 ratings need other features of the history, with -1 what
comes next is rated lowly. Hard sharing only, at width 16.

  python launch.py --config=configs/rec/conflict.py --workdir=runs/conflict
  python launch.py --config=configs/rec/conflict.py:full --workdir=runs/full
  python launch.py --config=configs/rec/conflict.py:generated --workdir=runs/law
"""

import pathlib
from typing import Any

import mtl_jax

BASE = pathlib.Path(__file__).parent / 'movielens_interests.py'
GROUPS = '^(inputs|trunk|experts)/'
# Those that read a Gramian are watched for nothing.
WATCHED = ({'name': 'monitor', 'labels': GROUPS},)
METHODS = {
  'equal': ('Equal weights', {'name': 'weighted_sum'}),
  'uncertainty': ('Uncertainty', {'name': 'uncertainty'}),
  'famo': ('FAMO', {'name': 'famo'}),
  'pcgrad': ('PCGrad', {'name': 'pcgrad', 'wrappers': WATCHED}),
  'upgrad': ('UPGrad', {'name': 'upgrad', 'wrappers': WATCHED}),
  'tuned': ('Tuned weights', {'name': 'weighted_sum'}),
  'dwa': ('DWA', {'name': 'dwa'}),
  'gradnorm': ('GradNorm', {'name': 'gradnorm'}),
  'cagrad': ('CAGrad', {'name': 'cagrad', 'wrappers': WATCHED}),
  'nash_mtl': ('Nash-MTL', {'name': 'nash_mtl', 'wrappers': WATCHED}),
}
REDUCED = ('equal', 'uncertainty', 'famo', 'pcgrad', 'upgrad')
SHARING = {
  'hard': ('hard', {'name': 'hard'}),
  'mmoe': ('MMoE', {'name': 'mmoe', 'experts': 3}),
  'ple': ('PLE', {'name': 'ple', 'shared_experts': 1, 'task_experts': 1}),
}
TASKS = ('item', 'interests', 'rating', 'like')
FORMS = ('reduced', 'full', 'generated')


def get_config(form='reduced'):
  """The config; every key is explained in mtl_jax/config/sections.py.

  Args:
    form: 'reduced', 'full' or 'generated'.
  """
  if form not in FORMS:
    raise ValueError(
      f'Expected one of the forms {FORMS}, found {form!r}; write '
      'conflict.py:full for the whole grid.'
    )
  config = mtl_jax.load_config(str(BASE))
  methods, sharing = list(METHODS), list(SHARING)
  config.diagnostics.every = 50
  if form == 'full':
    config.population.seeds = 5
    config.study.trials = 8
    config.study.draws = (
      ('optimizer.learning_rate', 'log_uniform', 1e-3, 1e-2),
    )
  else:
    methods, sharing = list(REDUCED), ['hard', 'mmoe']
    config.population.seeds = 3
    config.population.way = 'vmap'
    config.data.batch_size = 64
  if form == 'reduced':
    config.data.settings.length = 20
    config.model.inputs.features = 32
    config.model.trunk.update({'features': 32, 'hidden': 32, 'max_length': 20})
    # Drawn for each row, and shared by the batch.
    config.model.heads['item']['negatives'] = 256 // config.data.batch_size
    # By popularity the sum over all items varies so much that it stays at
    # chance in so few steps.
    config.model.heads['item']['sampling'] = 'uniform'
    config.training.epochs = 8
    config.training.evaluate_every = 82  # an epoch
  if form == 'generated':
    sharing = ['hard']
    _generate(config)
  config.study.methods = {
    f'{name}_{way}': _method(name, way, form)
    for way in sharing
    for name in methods
  }
  config.study.control = 'equal_hard'
  config.study.twins = ('full',)
  return config


def _generate(config):
  """A small log of known law, and a model of it."""
  config.data.settings = {
    'log': 'generated',
    'options': {'users': 600, 'length': 20, 'items': 200, 'agreement': 0.0},
    'length': 20,
  }
  config.model.inputs = {
    'name': 'items',
    'features': 16,
    'categorical': ('ratings',),
  }
  config.model.trunk.update({'features': 16, 'hidden': 16, 'max_length': 20})
  config.model.trunk.dropout = 0.0
  rating = {'name': 'item', 'widths': (16,)}
  config.model.heads = {
    'item': {'name': 'next_item'},  # users come back to items
    'interests': {'name': 'linear'},
    'rating': rating,
    'like': rating,
  }
  config.training.epochs = 40
  config.training.evaluate_every = 50


def _method(name, way, form):
  (title, combinator), (shared, spec) = METHODS[name], SHARING[way]
  method: dict[str, Any] = {
    'label': f'{title}, {shared}',
    'combinator': combinator,
    'model': {'sharing': spec},
  }
  if name == 'tuned' and form == 'full':
    method['combinator'] = {**combinator, 'weights': dict.fromkeys(TASKS, 1.0)}
    method['draws'] = tuple(
      (f'combinator.weights.{task}', 'log_uniform', 0.1, 10.0) for task in TASKS
    )
  return method
