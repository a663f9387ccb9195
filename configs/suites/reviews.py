"""Eight methods on the reviews of clothes, five seeds each, with twins.

The text CNN of configs/reviews_cnn.py learns the department and whether the
reviewer recommends. Two tasks that hardly conflict: the claim, declared before
anything was run, is that of Kurin et al. (NeurIPS 2022), that no method beats
equal weights. One table, with intervals over seeds, delta-m against single-task
models, and paired tests with Holm's correction.

Nothing is tuned: every method has its paper's default and the same optimizer.
`--config.study.trials=8` searches the learning rate for each first.

  python launch.py --config=configs/suites/reviews.py
"""

import pathlib

import mtl_jax

BASE = pathlib.Path(__file__).parent.parent / 'reviews_cnn.py'
METHODS = {
  'equal': ('Equal weights', {'name': 'weighted_sum'}),
  'uncertainty': ('Uncertainty', {'name': 'uncertainty'}),
  'famo': ('FAMO', {'name': 'famo'}),
  'mgda': ('MGDA', {'name': 'mgda'}),
  'pcgrad': ('PCGrad', {'name': 'pcgrad'}),
  'cagrad': ('CAGrad', {'name': 'cagrad'}),
  'imtl_g': ('IMTL-G', {'name': 'imtl_g'}),
  'nash_mtl': ('Nash-MTL', {'name': 'nash_mtl'}),
}


def get_config():
  """The config; every key is explained in mtl_jax/config/sections.py."""
  config = mtl_jax.load_config(str(BASE))
  config.population.seeds = 5
  config.study.methods = {
    name: {'label': label, 'combinator': spec}
    for name, (label, spec) in METHODS.items()
  }
  config.study.control = 'equal'
  config.study.twins = ('full',)
  config.study.metrics = (
    '+department/accuracy',
    '+department/f1_macro',
    '+recommended/auc',
    '-recommended/loss',
  )
  config.study.draws = (('optimizer.learning_rate', 'log_uniform', 3e-4, 1e-2),)
  config.study.claims = tuple(
    mtl_jax.claim(
      f'{label} is not better than equal weights by more than half a point of '
      'the overall score',
      *('overall', name, '<', 0.005),
      against='equal',
      source='Kurin et al., In defense of the unitary scalarization, NeurIPS '
      '2022',
    )
    for name, (label, _) in METHODS.items()
    if name != 'equal'
  )
  return config
