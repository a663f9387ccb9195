"""What a trained model can be asked: predictions, gradients, Gramians."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mtl_jax
from mtl_jax import data
from mtl_jax.experiment import predict


@pytest.fixture(scope='module')
def finished(tiny, tmp_path_factory):
  """A run of ten steps, and what it printed is not looked at."""
  path = tmp_path_factory.mktemp('run')
  return path, tiny.run(tiny.config(), path)


def load(tiny, path):
  """`trained.load` over data that are no data set of ours."""
  return mtl_jax.load(path, data={'main': tiny.data()})


@pytest.mark.smoke
def test_predictions_equal_the_evaluation(finished, tiny):
  model = load(tiny, finished[0])
  test = tiny.tables()['test'].read(range(30), ('x', 'genre'))
  found = model.predict([{'x': x} for x in test['x']])
  assert found['genre'].shape == (30, 3) and found['rating'].shape == (30, 1)
  accuracy = np.mean(found['genre'].argmax(1) == test['genre'])
  assert accuracy == pytest.approx(finished[1].metrics['genre']['accuracy'])


def test_predictions_are_readable(finished, tiny):
  model = load(tiny, finished[0])
  rows = predict.to_rows(
    model.predict([{'x': [0.0] * 5}]), model.experiment.tasks
  )
  assert rows[0]['genre']['label'] in ('comedy', 'drama', 'western')
  total = sum(rows[0]['genre']['probabilities'].values())
  assert total == pytest.approx(1, abs=1e-5)
  assert isinstance(rows[0]['rating'], float)


def test_prediction_without_inputs_is_refused(finished, tiny):
  model = load(tiny, finished[0])
  with pytest.raises(ValueError, match="example 2, found y; add 'x'"):
    model.predict([{'x': [0.0] * 5}, {'y': 1}])


def test_data_at_hand_are_taken_where_only_predictions_are_asked_for(
  finished, tiny
):
  given = tiny.data()
  model = mtl_jax.load(finished[0], data={'main': given}, predicts=True)
  assert model.experiment.data['main'].splits is given.splits
  model = mtl_jax.load(finished[0], predicts=True)
  assert isinstance(model.experiment.data['main'].splits['train'], data.Blank)


@pytest.mark.slow
@pytest.mark.smoke
def test_gramian_of_a_checkpoint(finished, tiny):
  model = load(tiny, finished[0])
  batch = model.batch('test', range(16))

  def losses(params):
    features, _ = model.experiment.model.features(
      params, {}, batch['main'], stream='main', train=False, key=None
    )
    outputs, _ = model.experiment.model.outputs(
      params,
      {},
      features,
      batch['main'],
      tasks=('genre', 'rating'),
      train=False,
      key=None,
    )
    log_p = jax.nn.log_softmax(outputs['genre'])
    genre = -jnp.take_along_axis(log_p, batch['main']['genre'][:, None], 1)
    info = model.experiment.data['main'].info
    y = (batch['main']['rating'] - info.means['rating']) / info.stds['rating']
    known = ~jnp.isnan(y)
    error = jnp.where(known, outputs['rating'][:, 0] - jnp.nan_to_num(y), 0)
    return jnp.stack([genre.mean(), jnp.sum(error**2) / known.sum()])

  jacobian = jax.jacrev(losses)(model.params)['trunk']
  rows = np.concatenate(
    [np.asarray(x).reshape(2, -1) for x in jax.tree.leaves(jacobian)], 1
  )
  np.testing.assert_allclose(model.gramian(batch), rows @ rows.T, rtol=1e-4)


def test_units_are_those_that_the_checkpoint_was_trained_with(tiny, tmp_path):
  tiny.run(tiny.config(steps=4), tmp_path)
  before = mtl_jax.load(tmp_path, data={'main': tiny.data()})
  tables = tiny.tables()
  rows = tables['train'].read(range(60), ('x', 'genre', 'rating', 'like'))
  rows = {key: np.asarray(value) for key, value in rows.items()}
  rows['rating'] = rows['rating'] * 10
  tables['train'] = data.arrays.as_table(rows)
  features = {'inputs': 'x', 'genre': 'genre', 'rating': 'rating'}
  other = {'main': data.from_tables(tables, features, text={})}
  after = mtl_jax.load(tmp_path, data=other)
  example = [{'x': [1.0] * 5}]
  np.testing.assert_array_equal(
    after.predict(example)['rating'], before.predict(example)['rating']
  )


def test_prediction_asks_for_what_the_model_reads_and_no_more(finished, tiny):
  model = load(tiny, finished[0])
  assert model.inputs('main') == {'inputs'}


@pytest.mark.slow
def test_bfloat16_keeps_parameters_and_gramian_in_float32(tiny, tmp_path):
  config = tiny.config()
  config.model.dtype = 'bfloat16'
  tiny.run(config, tmp_path)
  model = load(tiny, tmp_path)
  assert {x.dtype for x in jax.tree.leaves(model.params)} == {
    jnp.dtype('float32')
  }
  batch = model.batch('test', range(16))
  features, _ = model.experiment.model.features(
    model.params, {}, batch['main'], stream='main', train=False, key=None
  )
  assert features.dtype == jnp.bfloat16
  gramian = model.gramian(batch)
  assert gramian.dtype == jnp.float32 and np.isfinite(gramian).all()
