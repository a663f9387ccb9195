"""Emoji: joined or gated, six methods, five seeds, with single-task twins.

The tasks of configs/rec/emoji.py want different things of name and picture. Is
that settled by the model, with a gate per task, or by the method? Two ways
of fusion x six methods x five seeds, and twins: the same network with one task
alone. Nothing is tuned; motion and the Chinese names are left out.

24 minutes on 2 CPU cores that also ran tests, once the vectors are at hand;
the results are in docs/content.md:

  python launch.py --config=configs/rec/emoji_study.py

Claim, declared before anything was run: with equal weights, gates are ahead of
joining by the overall score.
"""

import pathlib

import mtl_jax

BASE = pathlib.Path(__file__).parent / 'emoji.py'
METHODS = {
  'equal': ('equal weights', {'name': 'weighted_sum'}),
  'uncertainty': ('uncertainty', {'name': 'uncertainty'}),
  'pcgrad': ('PCGrad', {'name': 'pcgrad'}),
  'cagrad': ('CAGrad', {'name': 'cagrad'}),
  'nash_mtl': ('Nash-MTL', {'name': 'nash_mtl'}),
  'famo': ('FAMO', {'name': 'famo'}),
}
FUSIONS = {'concat': 'Joined', 'gate': 'Gated'}


def get_config():
  """The config; every key is explained in mtl_jax/config/sections.py."""
  config = mtl_jax.load_config(str(BASE))
  config.model.trunk.inputs = ('text', 'picture')
  del config.data.features['chinese']
  config.data.text = {}
  config.training.epochs = 20
  config.population.seeds = 5
  trunk = config.model.trunk.to_dict()
  config.study.methods = {
    f'{how}_{name}': {
      'label': f'{joined}, {label}',
      'combinator': spec,
      'model': {
        'trunk': {**trunk, 'how': how},
        'head': {'name': 'gate' if how == 'gate' else 'linear'},
      },
    }
    for how, joined in FUSIONS.items()
    for name, (label, spec) in METHODS.items()
  }
  config.study.control = 'concat_equal'
  config.study.twins = ('full',)
  config.study.metrics = (
    '+group/f1_macro',
    '+subgroup/accuracy',
    '+sentiment/r2',
    '+frequency/r2',
  )
  config.study.claims = (
    mtl_jax.claim(
      'With equal weights, gates are ahead of joining',
      *('overall', 'gate_equal'),
      against='concat_equal',
      source='ours, before the runs',
    ),
  )
  return config
