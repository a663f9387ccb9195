import functools

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec as P
import numpy as np
import pytest
import sweeps

from mtl_jax import models
from mtl_jax.models.normalization import BatchNorm

B = 8


def draw(*shape, seed=0):
  rng = np.random.default_rng(seed)
  return 2 * rng.normal(size=shape) + np.arange(shape[-1])


def run(norm, variables, x, mask=None, train=True):
  y, state = norm.apply(
    variables, x, mask, train=train, mutable=['batch_stats']
  )
  return np.asarray(y), state['batch_stats']


def test_statistics_are_those_of_the_examples_that_count():
  x, mask = draw(B, 3, 2, 4), np.arange(B) % 3 > 0
  norm = BatchNorm(momentum=0.8)
  with jax.enable_x64(True):
    variables = {
      'params': {'scale': np.full(4, 2.0), 'bias': np.arange(4.0)},
      'batch_stats': {'mean': np.ones(4), 'var': np.full(4, 3.0)},
    }
    y, state = run(norm, variables, jnp.asarray(x), jnp.asarray(mask))
  seen = x[mask].reshape(-1, 4)
  mean, var = seen.mean(axis=0), seen.var(axis=0)
  expected = 2 * (x - mean) / np.sqrt(var + 1e-5) + np.arange(4)
  np.testing.assert_allclose(y, expected, atol=1e-10)
  np.testing.assert_allclose(state['mean'], 0.8 + 0.2 * mean, atol=1e-10)
  np.testing.assert_allclose(state['var'], 2.4 + 0.2 * var, atol=1e-10)


def test_evaluation_uses_the_running_statistics():
  x = jnp.asarray(draw(B, 4), jnp.float32)
  norm = BatchNorm()
  variables = norm.init(jax.random.key(0), x, None, train=False)
  y, state = run(norm, variables, x, train=False)
  np.testing.assert_allclose(y, x / np.sqrt(1 + 1e-5), rtol=1e-5)
  jax.tree.map(np.testing.assert_array_equal, state, variables['batch_stats'])


def test_a_batch_of_padding_leaves_everything_as_it_was():
  x = jnp.asarray(draw(B, 4), jnp.float32)
  norm = BatchNorm()
  variables = norm.init(jax.random.key(0), x, None, train=False)
  _, state = run(norm, variables, x)
  variables = {**variables, 'batch_stats': state}
  y, after = run(norm, variables, x, jnp.zeros(B))
  jax.tree.map(
    functools.partial(np.testing.assert_allclose, rtol=1e-6), after, state
  )
  evaluated, _ = run(norm, variables, x, train=False)
  np.testing.assert_allclose(y, evaluated, rtol=1e-5)


@pytest.mark.parametrize('name', sweeps.some(['mlp', 'resnet'], 'mlp'))
def test_padding_rows_stay_out_of_a_trunks_statistics(name):
  settings = {
    'mlp': {'widths': (5,), 'norm': 'batch'},
    'resnet': {'widths': (3,)},
  }
  trunk = models.TRUNKS[name](**settings[name])
  field = {'mlp': 'inputs', 'resnet': 'image'}[name]
  x = jnp.asarray(draw(B, 6, 6, 2), jnp.float32)
  mask = jnp.arange(B) < 5
  batch = {field: x, 'example_mask': mask}
  variables = trunk.init(jax.random.key(0), batch, train=False)

  def train(batch):
    return trunk.apply(variables, batch, train=True, mutable=['batch_stats'])

  padded, state = train(batch)
  alone, expected = train({field: x[:5]})
  np.testing.assert_allclose(padded[:5], alone, atol=1e-5)
  jax.tree.map(
    functools.partial(np.testing.assert_allclose, atol=1e-5), state, expected
  )


def sharing(axis_name):
  trunk = models.ResNet(widths=(2, 3))
  heads = {'a': models.LinearHead(2), 'b': models.MLPHead(1)}
  return models.build_model(
    models.hard_sharing(), trunk, heads, axis_name=axis_name
  )


def loss_sum(model, params, state, batch):
  """The sum of both heads' losses over this device's examples; new state."""
  features, state = model.features(
    params, state, batch, stream='main', train=True, key=None
  )
  outputs, state = model.outputs(
    params, state, features, batch, tasks=('a', 'b'), train=True, key=None
  )
  mask = batch['example_mask'][:, None]
  return sum((jnp.sin(y) * mask).sum() for y in outputs.values()), state


def over_devices(mode, step, params, state, batch):
  mesh = jax.make_mesh((4,), ('data',))
  params, state = jax.device_put((params, state), jax.NamedSharding(mesh, P()))
  if mode == 'pmap':
    batch = jax.tree.map(lambda x: x.reshape(4, -1, *x.shape[1:]), batch)
    mapped = jax.pmap(step, 'data', in_axes=(None, None, 0), out_axes=None)
    return mapped(params, state, batch)
  batch = jax.device_put(batch, jax.NamedSharding(mesh, P('data')))
  mapped = jax.shard_map(
    step, mesh=mesh, in_specs=(P(), P(), P('data')), out_specs=P()
  )
  return jax.jit(mapped)(params, state, batch)


@pytest.mark.slow
@pytest.mark.parametrize('mode', ['pmap', 'shard_map'])
def test_devices_agree_with_one(mode):
  """Value, gradient and state; unequal numbers of examples on devices."""
  batch = {
    'image': jnp.asarray(draw(B, 6, 6, 2), jnp.float32),
    'example_mask': jnp.arange(B) < 5,
  }
  model = sharing(None)
  params, state = jax.jit(model.init)(jax.random.key(0), {'main': batch})
  with jax.enable_x64(True):
    wide = functools.partial(jax.tree.map, lambda x: x.astype(jnp.float64))
    rng = np.random.default_rng(0)
    params = jax.tree.map(
      lambda x: x + 0.1 * jnp.asarray(rng.normal(size=x.shape)), wide(params)
    )
    state = wide(state)
    batch['image'] = batch['image'].astype(jnp.float64)

    def step(params, state, batch):
      params = jax.lax.pcast(params, 'data', to='varying')
      of = functools.partial(loss_sum, sharing('data'))
      out = jax.value_and_grad(of, has_aux=True)(params, state, batch)
      (value, state), gradient = out
      value, gradient = jax.lax.psum((value, gradient), 'data')
      return (value, state), gradient

    of = functools.partial(loss_sum, model)
    expected = jax.jit(jax.value_and_grad(of, has_aux=True))(
      params, state, batch
    )
    jax.tree.map(
      functools.partial(np.testing.assert_allclose, atol=1e-10),
      over_devices(mode, step, params, state, batch),
      expected,
    )
    scale = expected[1]['trunk']['Conv_0']['kernel']
    assert np.abs(scale).max() > 1e-3
