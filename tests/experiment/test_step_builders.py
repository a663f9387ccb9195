"""Step builders from a config to predictions: the user's own, and bilevel."""

import dataclasses
import sys
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mtl_jax
from mtl_jax import data
from mtl_jax.config import settings as settings_lib
from mtl_jax.contrib import auto_lambda
from mtl_jax.experiment import build, config_data, dry_run, methods
from mtl_jax.training import checkpoints, step as step_lib


def counting_sum(scale=1.0, *, num_tasks):
  """The plain sum, a counter, and a parameter of its own in the model."""

  def make_step(parts):
    assert len(parts.engine.tasks) == num_tasks

    def step(state, batch):
      key, _ = step_lib.keys_of(state)
      gradients, model_state = parts.engine(
        state.params, state.model_state, batch, key=key
      )
      return parts.finish(
        state,
        gradients.combine(jnp.full(num_tasks, scale), 'weighted'),
        gradients=gradients,
        model_state=model_state,
        method=state.opt_state['method'] + 1,
      )

    return step

  def init(key, model, params, batch):
    assert 'main' in batch and model.shared('trunk/x')
    return jnp.zeros((), jnp.int32) + (params['factor'].size - 1)

  def wrap(model, tasks):
    del tasks

    def init(key, batch):
      params, state = model.init(key, batch)
      return {**params, 'factor': jnp.ones(())}, state

    def features(params, *args, **kwargs):
      values, state = model.features(params, *args, **kwargs)
      return values * params['factor'], state

    return model._replace(init=init, features=features)

  return step_lib.StepBuilder(make_step, init, wrap)


@pytest.fixture(scope='module')
def mine():
  module = types.ModuleType('my_methods')
  module.counting_sum = counting_sum
  module.bilevel = lambda: counting_sum(num_tasks=2)._replace(bilevel=True)
  sys.modules['my_methods'] = module
  yield
  del sys.modules['my_methods']


def rows_of(tiny, path, config):
  tiny.run(config, path)
  store = checkpoints.Checkpoints(path / 'checkpoints')
  state = jax.tree.map(lambda x: x[0], dict(store.restore_any().trees['state']))
  return {**state, 'key': jax.random.key_data(state['key'])}


@pytest.mark.slow
def test_a_builder_of_ones_own_trains_resumes_and_predicts(
  mine, tiny, tmp_path
):
  config = tiny.config(steps=4)
  config.combinator = {'name': 'my_methods.counting_sum'}
  first = rows_of(tiny, tmp_path / 'own', config)
  assert int(first['opt_state']['method']) == 4
  config.training.steps = 8
  longer = rows_of(tiny, tmp_path / 'own', config)
  whole = rows_of(tiny, tmp_path / 'whole', config)
  assert int(longer['opt_state']['method']) == 8
  jax.tree.map(np.testing.assert_array_equal, longer['params'], whole['params'])
  model = mtl_jax.load(tmp_path / 'own', data={'main': tiny.data()})
  assert float(model.params['factor']) != 1
  (row,) = model.predict([{'x': [0.5] * 5}])['rating']
  assert np.isfinite(row).all()


def test_wrappers_do_not_go_with_a_builder(mine, tiny, tmp_path):
  for place in ('wrappers', 'before'):
    config = tiny.config()
    config.combinator = {
      'name': 'my_methods.counting_sum',
      place: ({'name': 'rlw'},),
    }
    with pytest.raises(ValueError, match=f'no combinator.{place} with'):
      tiny.run(config, tmp_path)
    assert not list(tmp_path.iterdir())


def bilevel(tiny, name='auto_lambda', own=True, **training):
  """A config of a bilevel method, whose outer loss has a stream of its own."""
  config = tiny.config(**training)
  config.data.batch_size = 16
  config.combinator = {'name': name}
  config.diagnostics.every = 0
  if own:
    config.streams.outer = mtl_jax.data_config(
      splits={'train': 'validation'}, batch_size=8
    )
  return config


def check(tiny, config, **loaded):
  return build.build(
    settings_lib.from_config(config),
    sources=build.Sources({'main': tiny.data(), **loaded}),
  )


@pytest.mark.parametrize(
  'name, own',
  [
    pytest.param('auto_lambda', True, marks=pytest.mark.slow),
    pytest.param('moml', False, marks=pytest.mark.slow),
    pytest.param('forum', True, marks=pytest.mark.slow),
  ],
)
def test_bilevel_methods_train_and_resume_exactly(tiny, tmp_path, name, own):
  config = bilevel(tiny, name, own, steps=2)
  assert tiny.run(config, tmp_path / 'cut').ended == 'finished'
  config.training.steps = 4
  cut = rows_of(tiny, tmp_path / 'cut', config)
  whole = rows_of(tiny, tmp_path / 'whole', config)
  jax.tree.map(np.testing.assert_array_equal, cut, whole)
  method = whole['opt_state']['method']
  if name == 'forum':
    np.testing.assert_allclose(np.sum(method['multipliers']), 1, rtol=1e-5)
  else:
    assert np.ptp(method['values']) > 1e-6
  model = mtl_jax.load(tmp_path / 'cut', data={'main': tiny.data()})
  (row,) = model.predict([{'x': [0.5] * 5}])['genre']
  assert row.sum() == pytest.approx(1, abs=1e-5)


def test_the_outer_stream_is_another_split_read_alike(tiny):
  experiment = check(tiny, bilevel(tiny))
  streams = experiment.training_streams()
  assert {name: s.batch_size for name, s in streams.items()} == {
    'main': 16,
    'outer': 8,
  }
  validation = experiment.data['main'].splits['validation']
  np.testing.assert_array_equal(
    streams['outer'].source.take(np.arange(30))['inputs'],
    validation.take(np.arange(30))['inputs'],
  )
  # An epoch, evaluation and prediction go by the tasks' stream.
  assert experiment.steps_per_epoch == 60 // 16
  assert (
    list(experiment.streams) == list(experiment.example_batch()) == ['main']
  )
  shapes = experiment.batch_shapes()
  assert shapes['main']['inputs'].shape == (16, 5)
  assert shapes['outer']['inputs'].shape == (8, 5)


def test_the_virtual_step_has_the_rate_of_the_run(tiny, monkeypatch):
  found = []

  def spy(num_tasks, *, virtual_lr):
    found.append(virtual_lr)
    return auto_lambda.auto_lambda(num_tasks, virtual_lr=virtual_lr)

  monkeypatch.setitem(methods.METHODS, 'auto_lambda', spy)
  config = bilevel(tiny)
  config.optimizer.learning_rate = 0.02
  check(tiny, config)
  config.combinator.virtual_lr = 0.3
  check(tiny, config)
  assert list(dict.fromkeys(found)) == [0.02, 0.3]


def test_the_outer_stream_of_files_has_the_words_of_the_inner_one(
  tiny, tmp_path
):
  file = tmp_path / 'rows.csv'
  words = ['soft', 'warm', 'blue', 'lovely']
  shops = ['south', 'north']
  rows = [
    f'{words[i % 2 + 2 * (i >= 40)]},{i % 5},{shops[i % 2 or i > 39]}'
    for i in range(80)
  ]
  file.write_text('\n'.join(['text,stars,shop', *rows]))
  config = mtl_jax.default_config()
  config.targets.stars = {'kind': 'regression'}
  config.targets.shop = {'kind': 'classification'}
  config.data.columns = {
    'text': 'string',
    'stars': 'integer',
    'shop': 'class',
  }
  config.data.splits = {
    'train': f'{file}[:50%]',
    'validation': f'{file}[50%:]',
    'test': f'{file}[50%:]',
  }
  config.data.features = {
    'tokens': 'text',
    'stars': 'stars',
    'shop': 'shop',
  }
  config.data.text.tokens = {}
  config.data.batch_size = 16
  config.model.trunk = {'name': 'cnn_text', 'filters': 4}
  config.combinator = {'name': 'moml'}
  config.streams.outer = mtl_jax.data_config(
    splits={'train': f'{file}[50%:]'}, batch_size=8
  )
  experiment = build.build(settings_lib.from_config(config))
  rows = experiment.outer.source.take(np.arange(40))
  assert len(set(np.unique(rows['tokens'])) - {0}) == 1  # All are unknown.
  assert experiment.data['main'].info.classes['shop'] == ('north', 'south')
  # Alone, its one shop would be number 0 whichever it is.
  assert set(rows['shop']) == {0}
  config.streams.outer.columns = {**config.data.columns, 'shop': 'class'}
  other = tmp_path / 'south.csv'
  other.write_text('text,stars,shop\n' + 'soft,1,south\n' * 8)
  config.streams.outer.splits.train = str(other)
  config.streams.outer.features = config.data.features
  experiment = build.build(settings_lib.from_config(config))
  assert set(experiment.outer.source.take(np.arange(8))['shop']) == {1}


def sampled(tiny):
  config = bilevel(tiny)
  config.training.sampling = 'uniform'
  return config, {}


def two_streams(tiny):
  config = bilevel(tiny)
  config.tasks = 'genre,side'
  config.targets.side = {'kind': 'regression', 'label': 'rating'}
  config.targets.side.stream = 'other'
  config.streams.other = mtl_jax.data_config(batch_size=4)
  return config, {'other': tiny.data(seed=1)}


def unread(tiny):
  config = bilevel(tiny)
  config.combinator = {'name': 'pcgrad'}
  return config, {}


def odd(tiny):
  config = bilevel(tiny, own=False)
  config.data.batch_size = 12
  return config, {}


def large(tiny):
  config = bilevel(tiny)
  config.streams.outer.batch_size = 40
  return config, {}


def no_split(tiny):
  config = bilevel(tiny)
  config.streams.outer.splits.train = 'validatoin'
  return config, {}


def accumulated(tiny):
  config = bilevel(tiny)
  config.training.accumulate = 2
  return config, {}


def other_scale(tiny):
  tables = tiny.tables(seed=2)
  features = {'inputs': 'x', 'genre': 'genre', 'rating': 'rating'}
  features['like'] = 'like'
  return bilevel(tiny), {
    'outer': data.from_tables(
      tables, features, text={}, standardize=('inputs',)
    )
  }


def other_shape(tiny):
  return bilevel(tiny), {'outer': tiny.data(features=4)}


def misspelt_task(tiny):
  config = bilevel(tiny)
  config.combinator.primary = ('gnre',)
  return config, {}


BAD = {
  sampled: "found training.sampling = 'uniform'; set it to 'all'",
  two_streams: "one stream, beside .* found tasks that read 'main', 'other'",
  unread: "that reads the stream 'outer', found none; remove it",
  odd: "two halves on 4 devices, found 12 for stream 'main'",
  large: "'outer': expected a batch size from 1 to 30, .* found 40",
  no_split: "found 'validatoin'; did you mean 'validation'",
  accumulated: 'found 2 microbatches; set training.accumulate to 1',
  other_scale: 'as stream .main. is, found another vocabulary or scale',
  other_shape: r"'inputs' of shape \(5,\) in stream 'outer', .* \(4,\)",
  misspelt_task: "primary tasks among genre, rating, found 'gnre'",
}


@pytest.mark.parametrize('make', BAD, ids=lambda make: make.__name__)
def test_what_does_not_fit_is_one_sentence(tiny, make):
  config, loaded = make(tiny)
  with pytest.raises(ValueError, match=BAD[make]):
    check(tiny, config, **loaded)


def test_a_stream_called_outer_may_be_a_tasks_own(tiny):
  config = tiny.config()
  config.tasks = 'genre,side'
  config.targets.side = {'kind': 'regression', 'label': 'rating'}
  config.targets.side.stream = 'outer'
  config.streams.outer = mtl_jax.data_config(batch_size=4)
  other = {'outer': tiny.data(seed=1)}
  assert check(tiny, config, **other).outer is None
  config.combinator = {'name': 'moml'}
  with pytest.raises(ValueError, match="rename or remove the stream 'outer'"):
    check(tiny, config, **other)


@pytest.mark.slow
def test_dry_run_shows_the_outer_batch(tiny, monkeypatch, capsys):
  loaded = tiny.data()

  def load(stream, name, encoder=None, labels=None, arrays=None, ids=()):
    del name, labels, arrays, ids
    if encoder is None:
      return loaded
    assert dict(stream.splits) == {'outer': 'validation'}
    return dataclasses.replace(
      loaded, splits={'outer': loaded.splits['validation']}
    )

  monkeypatch.setattr(config_data, 'load_data', load)
  settings = settings_lib.from_config(bilevel(tiny, 'forum'))
  dry_run.dry_run(build.build(settings))
  printed = capsys.readouterr().out
  assert 'outer/inputs' in printed and '8 x 5' in printed
