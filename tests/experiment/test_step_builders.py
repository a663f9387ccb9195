"""A step builder of the user's own, from a config to predictions."""

import sys
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mtl_jax.experiment import trained
from mtl_jax.training import checkpoints
from mtl_jax.training.builders import base


def counting_sum(scale=1.0, *, num_tasks):
  """The plain sum, a counter, and a parameter of its own in the model."""

  def make_step(parts):
    assert len(parts.tasks) == num_tasks

    def step(state, batch):
      key, _ = base.keys_of(state)
      gradients, model_state = parts.gradients(
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

  return base.StepBuilder(make_step, init, wrap)


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
  return store.restore_any().state


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
  model = trained.load(tmp_path / 'own', {'main': tiny.data()})
  assert float(model.params['factor']) != 1
  (row,) = model.predict([{'x': [0.5] * 5}])['rating']
  assert np.isfinite(row).all()
