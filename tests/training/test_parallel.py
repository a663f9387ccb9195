"""jit, shard_map and pmap on four devices against one device."""

import functools

import jax
import numpy as np
import optax
import pytest
import sweeps

from mtl_jax import combinators
from mtl_jax.training import parallel, step

COMBINATORS = {
  'weighted_sum': lambda: combinators.weighted_sum([1.0, 0.3, 2.0]),
  'uncertainty': lambda: combinators.uncertainty(
    ['classification', 'regression', 'classification']
  ),
  'pcgrad': combinators.pcgrad,
}


def run(toy, mode, devices, method, accumulate=1, steps=50, x64=True):
  with jax.enable_x64(x64):
    model, tasks = toy.model(), toy.tasks(('main', 'other', 'main'))
    tx = optax.chain(
      COMBINATORS[method](), optax.clip_by_global_norm(1.0), optax.adam(1e-2)
    )
    mesh = parallel.make_mesh(jax.devices()[:devices])
    make = functools.partial(
      step.make_train_step, model, tasks, tx, accumulate=accumulate
    )
    train = parallel.parallelize(lambda axis: make(axis_name=axis), mesh, mode)
    init = parallel.replicate(
      lambda key: step.init_state(model, tx, key, None), mesh
    )
    current, losses = init(jax.random.key(3)), []
    dtype = np.float64 if x64 else np.float32
    for i in range(steps):
      batch = {
        'main': toy.batch(i, 16, dtype),
        'other': toy.batch(1000 + i, 8, dtype),
      }
      current, metrics = train(current, parallel.shard_batch(batch, mesh))
      losses.append(metrics['losses'])
    return jax.device_get((current.params, losses))


@pytest.fixture(scope='module', params=sweeps.some(COMBINATORS, 'pcgrad'))
def single(request, toy):
  return request.param, run(toy, 'jit', 1, request.param)


@pytest.mark.parametrize('mode', parallel.MODES)
def test_modes_agree_with_one_device(single, toy, mode):
  method, expected = single
  found = run(toy, mode, 4, method)
  jax.tree.map(
    lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-10, atol=1e-10),
    found,
    expected,
  )


@functools.cache
def in_float32(toy):
  return run(toy, 'jit', 1, 'pcgrad', steps=5, x64=False)


@pytest.mark.slow
@pytest.mark.smoke
@pytest.mark.parametrize('mode', parallel.MODES)
def test_modes_agree_in_float32(toy, mode):
  expected = in_float32(toy)
  found = run(toy, mode, 4, 'pcgrad', steps=5, x64=False)
  jax.tree.map(
    lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-5),
    found,
    expected,
  )


@pytest.mark.parametrize('mode', sweeps.some(parallel.MODES, 'shard_map'))
def test_accumulation_is_exact(single, toy, mode):
  method, expected = single
  found = run(toy, mode, 2, method, accumulate=4)
  jax.tree.map(
    lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-10, atol=1e-10),
    found,
    expected,
  )


def test_state_is_donated(toy, toy_model, toy_tasks):
  tx = optax.chain(combinators.pcgrad(), optax.sgd(0.1))
  mesh = parallel.make_mesh(jax.devices()[:1])
  train = parallel.parallelize(
    lambda axis: step.make_train_step(toy_model, toy_tasks, tx, axis_name=axis),
    mesh,
  )
  init = parallel.replicate(
    lambda key: step.init_state(toy_model, tx, key, None), mesh
  )
  before = init(jax.random.key(0))
  train(before, parallel.shard_batch({'main': toy.batch()}, mesh))
  assert before.params['gate'].is_deleted()


def test_unknown_mode_is_named():
  with pytest.raises(ValueError, match="jit, shard_map, pmap, found 'gmap'"):
    parallel.parallelize(lambda axis: None, parallel.make_mesh(), 'gmap')
