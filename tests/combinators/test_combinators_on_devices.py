"""Methods over four devices, with sums inside of the passes, and over one."""

import jax
import jax.numpy as jnp
from jax.sharding import AxisType, PartitionSpec as P
import numpy as np
import optax
import pytest
import sweeps

from mtl_jax import combinators

K, B = 2, 16
PCGRAD = combinators.pcgrad()
METHODS = {
  'every_k': combinators.every_k(PCGRAD, 2, K),
  'smooth and monitor': combinators.monitor(combinators.smooth(PCGRAD, K), K),
  'per_group': combinators.per_group(PCGRAD, lambda path: path),
  'gradnorm': combinators.gradnorm(K),
  'moco': combinators.moco(K),
  'm_config': combinators.m_config(K),
  'graddrop': combinators.graddrop(),
}


def data():
  x, y = (
    jax.random.normal(k, (B, 3)) for k in jax.random.split(jax.random.key(0))
  )
  params = {'trunk': jnp.eye(3), 'heads': 0.3 * jnp.ones((3, K))}
  return params, x, y[:, :K]


def gradients_of(params, x, y, axis):
  """Task gradients that are summed over the devices where they are made."""

  def varying(tree):
    return tree if axis is None else jax.lax.pcast(tree, axis, to='varying')

  def reduce(tree):
    return tree if axis is None else jax.lax.psum(tree, axis)

  def losses_fn(p):
    return ((jnp.tanh(x @ p['trunk']) @ p['heads'] - y) ** 2).sum(0) / B

  losses, vjp = jax.vjp(losses_fn, varying(params))
  return combinators.TaskGradients(
    reduce(losses),
    jnp.ones(K, bool),
    jnp.full(K, B),
    combinators.Passes(
      pullback=lambda v, u: reduce(vjp(varying(v))[0]),
      rows=lambda: reduce(jax.vmap(lambda e: vjp(e)[0])(varying(jnp.eye(K)))),
    ),
  )


@pytest.mark.parametrize(
  'name', sweeps.some(METHODS, 'every_k', 'smooth and monitor', 'per_group')
)
def test_four_devices_are_one(name):
  tx = optax.chain(METHODS[name], optax.sgd(0.1))
  params, x, y = data()

  def step(params, state, t, x, y, axis=None):
    key = jax.random.fold_in(jax.random.key(3), t)
    updates, state = tx.update(
      gradients_of(params, x, y, axis), state, params, step=t, key=key
    )
    return optax.apply_updates(params, updates), state

  mesh = jax.make_mesh((4,), ('data',), axis_types=(AxisType.Auto,))
  everywhere, split = P(), P('data')
  over_devices = jax.jit(
    jax.shard_map(
      lambda *args: step(*args, axis='data'),
      mesh=mesh,
      in_specs=(everywhere, everywhere, everywhere, split, split),
      out_specs=(everywhere, everywhere),
    )
  )
  one = four = (params, tx.init(params))
  for t in range(3):
    one = jax.jit(step)(*one, jnp.int32(t), x, y)
    four = over_devices(*four, jnp.int32(t), x, y)
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4),
    one,
    four,
  )
