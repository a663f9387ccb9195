"""Every method of the table over devices, and through a checkpoint.

The other promises of the table (jit is eager, vmap is a loop, one program for
all steps) are in test_gramian_properties and test_method_properties.
"""

import jax
import jax.numpy as jnp
from jax.sharding import AxisType, PartitionSpec as P
import method_cases
import numpy as np
import optax
import pytest
import sweeps
import test_gramian_properties

from mtl_jax import combinators

K, B, PARTS = 3, 24, 3
CASES = {**test_gramian_properties.CASES, **method_cases.CASES}
METHODS = {name: CASES[name].make for name in combinators.COMBINATORS}


def data():
  x, y = (
    jax.random.normal(k, (B, 3)) for k in jax.random.split(jax.random.key(0))
  )
  params = {'trunk': jnp.eye(3), 'heads': 0.3 * jnp.ones((3, K))}
  return params, x, y


def gradients_of(params, x, y, axis):
  """Task gradients, summed over the devices where they are made."""

  def varying(tree):
    return tree if axis is None else jax.lax.pcast(tree, axis, to='varying')

  def reduce(tree):
    return tree if axis is None else jax.lax.psum(tree, axis)

  def of_rows(keep, number):
    def losses_fn(p):
      errors = (jnp.tanh(x @ p['trunk']) @ p['heads'] - y) ** 2
      return (keep[:, None] * errors).sum(0) / number

    losses, vjp = jax.vjp(losses_fn, varying(params))
    return combinators.TaskGradients(
      reduce(losses),
      jnp.ones(K, bool),
      jnp.full(K, number),
      combinators.Passes(
        pullback=lambda v, u: reduce(vjp(varying(v))[0]),
        rows=lambda: reduce(jax.vmap(lambda e: vjp(e)[0])(varying(jnp.eye(K)))),
      ),
    )

  # Rows in turns, so that every device has some of each part.
  part = jnp.arange(len(x)) % PARTS
  parts = [of_rows(part == i, B // PARTS) for i in range(PARTS)]
  return of_rows(jnp.ones(len(x)), B).with_parts(parts)


def make_step(tx):
  def step(state, t, x, y, axis=None):
    params = data()[0]
    gradients = gradients_of(params, x, y, axis)
    direction, state = tx.update(
      gradients,
      state,
      params,
      key=jax.random.fold_in(jax.random.key(3), t),
      step=t,
      epoch=t,
    )
    if optax.tree.get_all_with_path(state, 'losses_after'):
      # All by one factor would leave FAMO's optimizer a slope of rounding.
      after = jnp.array([0.9, 0.8, 0.7]) * gradients.losses
      state = optax.tree.set(state, losses_after=after)
    return direction, state

  return step


def over_devices(step):
  mesh = jax.make_mesh((4,), ('data',), axis_types=(AxisType.Auto,))
  everywhere, split = P(), P('data')
  return jax.jit(
    jax.shard_map(
      lambda *args: step(*args, axis='data'),
      mesh=mesh,
      in_specs=(everywhere, everywhere, split, split),
      out_specs=everywhere,
    )
  )


# Of each kind: by losses and with a second look, by Gramians with and without
# a state, by rows, parts, and one gradient per step.
EVERY_DAY = (
  'uncertainty', 'famo', 'gradnorm', 'nash_mtl', 'pcgrad', 'pivrg', 'moco',
  'modo', 'graddrop', 'm_config',
)  # fmt: skip


@pytest.mark.parametrize('name', sweeps.some(METHODS, smoke=EVERY_DAY))
def test_four_devices_are_one_and_a_checkpoint_is_the_state(name, tmp_path):
  import orbax.checkpoint as ocp

  tx = METHODS[name](K)
  params, x, y = data()
  one, four = jax.jit(make_step(tx)), over_devices(make_step(tx))
  state = states = tx.init(params)
  for t in range(3):
    expected, state = one(state, jnp.int32(t), x, y)
    found, states = four(states, jnp.int32(t), x, y)
    jax.tree.map(
      lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4),
      (found, states),
      (expected, state),
    )
  assert one._cache_size() == 1 and four._cache_size() <= 2

  # Orbax refuses to save a tree without an array.
  saved = {'state': state, 'step': jnp.int32(3)}
  with ocp.StandardCheckpointer() as checkpointer:
    checkpointer.save(tmp_path / 'saved', saved)
    checkpointer.wait_until_finished()
    restored = checkpointer.restore(
      tmp_path / 'saved', jax.tree.map(jnp.zeros_like, saved)
    )
  jax.tree.map(np.testing.assert_array_equal, restored, saved)
  jax.tree.map(
    np.testing.assert_array_equal,
    one(restored['state'], restored['step'], x, y),
    one(state, jnp.int32(3), x, y),
  )
