"""Every shipped config: built, trained two steps, saved, evaluated again."""

import pathlib

import jax
import numpy as np
import pytest

from mtl_jax import data
from mtl_jax.config import overrides, settings as settings_lib
from mtl_jax.experiment import build, evaluate, run
from mtl_jax.training import parallel

CONFIGS = sorted(
  p.stem
  for p in (pathlib.Path(__file__).parent.parent / 'configs').glob('*.py')
)
ARGUMENTS = ['movielens_lstm:ordinal', 'movielens_lstm:thresholds']
SMALL = {
  'census_income': ['config.data.batch_size=32'],
  'synthetic_sequences': ['config.data.settings.count=400'],
  'movielens_lstm': ['config.data.batch_size=32'],
}
# One for each trunk: LSTM with and without padding, text CNN, ResNet, and what
# reads tokens by attention.
PER_TRUNK = [
  'synthetic_sequences',
  'reviews_cnn',
  'digit_pairs_resnet',
  'reviews_transformer',
]


def load(name, *changes):
  name, colon, argument = name.partition(':')
  file = pathlib.Path(__file__).parent.parent / 'configs' / f'{name}.py'
  config = overrides.load_config(f'{file}{colon}{argument}')
  overrides.apply_overrides(
    config,
    [
      'config.data.splits.train=train[:256]',
      'config.data.splits.validation=validation[:40]',
      'config.data.splits.test=test[:40]',
      'config.data.evaluation_batch_size=32',
      'config.training.steps=2',
      'config.training.log_every=1',
      *SMALL.get(name, ()),
      *changes,
    ],
  )
  return config


@pytest.mark.slow
@pytest.mark.parametrize('name', [*CONFIGS, *ARGUMENTS])
def test_trains_saves_restores_and_evaluates(name, tmp_path, capsys):
  settings = settings_lib.from_config(load(name))
  outcome = run.train(settings, tmp_path)
  assert outcome.ended == 'finished' and outcome.best_step == 2
  first = capsys.readouterr().out
  again = evaluate.evaluate(tmp_path)
  for task, metrics in outcome.metrics.items():
    assert np.isfinite(metrics['loss'])
    np.testing.assert_equal(again.metrics[task], metrics)
  table = first[first.index('Test split') : first.index('Overall')]
  assert table in capsys.readouterr().out


def steps(experiment, mode, devices):
  """State and losses after two steps."""
  mesh = parallel.make_mesh(jax.devices()[:devices])
  step = parallel.parallelize(experiment.make_step, mesh, mode)
  state = parallel.replicate(lambda: experiment.first_state(0), mesh)()
  batches = data.train_iterator(
    experiment.training_streams(), seed=0, prefetch=0
  )
  losses = []
  for _ in range(2):
    batch = parallel.shard_batch(next(batches), mesh)
    state, metrics = step(state, batch)
    losses.append(metrics['losses'])
  return jax.device_get((losses, state.params, state.model_state))


@pytest.mark.slow
@pytest.mark.parametrize('name', PER_TRUNK)
def test_all_modes_train_the_same_model(name):
  changes = ['config.optimizer.name=sgd', 'config.combinator.name=pcgrad']
  config = load(name, *changes)
  if 'dropout' in config.model.trunk:
    config.model.trunk.dropout = 0.0  # each device draws its own
  experiment = build.build(settings_lib.from_config(config))
  expected = steps(experiment, 'jit', 1)
  for mode in parallel.MODES:
    found = steps(experiment, mode, 4)
    jax.tree.map(
      lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-5),
      found,
      expected,
    )


def test_reviews_config_takes_its_argument():
  file = pathlib.Path(__file__).parent.parent / 'configs' / 'reviews_cnn.py'
  assert overrides.load_config(f'{file}:class').tasks == 'class,recommended'


def test_every_config_says_what_it_shows_how_long_and_how():
  for name in CONFIGS:
    file = pathlib.Path(__file__).parent.parent / 'configs' / f'{name}.py'
    docstring = file.read_text().split('"""')[1]
    assert f'--config=configs/{name}.py' in docstring
    assert 'on 2 CPU cores' in docstring
