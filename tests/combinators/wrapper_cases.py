"""Steps of random task gradients, and a model of two layers."""

import jax
import jax.numpy as jnp
import numpy as np

from mtl_jax import combinators

K = 3


def norms_squared(gramian, present):
  """A Gramian method that is easy to check."""
  del present
  return jnp.diagonal(gramian)


GRAMIAN = combinators.from_gramian(norms_squared)


def draw(steps, seed=0):
  rng = np.random.default_rng(seed)
  jacobians = rng.normal(size=(steps, K, 5))
  losses = rng.uniform(0.3, 3, size=(steps, K))
  present = np.ones((steps, K), bool)
  if steps > 2:
    present[0, 1] = present[2, 0] = False
  return jacobians * present[..., None], losses * present, present


def run(tx, data, params=None, **extra):
  jacobians, losses, present = data
  params = jnp.zeros(jacobians.shape[2:]) if params is None else params
  state, directions, states = tx.init(params), [], []
  update = jax.jit(
    lambda j, l, p, state, t: tx.update(
      combinators.gradients_from_jacobian(j, l, p),
      state,
      params,
      step=t,
      epoch=t,
      key=jax.random.key(0),
      **extra,
    )
  )
  for t in range(len(losses)):
    direction, state = update(
      jnp.asarray(jacobians[t], jnp.float32),
      jnp.asarray(losses[t], jnp.float32),
      jnp.asarray(present[t]),
      state,
      jnp.int32(t),
    )
    directions.append(np.asarray(direction))
    states.append(state)
  assert update._cache_size() == 1
  return directions, states


def two_layers():
  params = {
    'trunk': {'first': jnp.arange(1.0, 4.0), 'second': jnp.array([2.0, -1.0])},
    'heads': jnp.array([1.0, -2.0, 3.0]),
  }

  def losses_fn(p):
    first = jnp.tanh(p['trunk']['first']) @ jnp.arange(9.0).reshape(3, 3)
    second = p['trunk']['second'] @ jnp.array([[1.0, -1.0, 0.5], [2, 0, 1]])
    return (first + second) * p['heads']

  return params, losses_fn


def is_trunk(path):
  return path.startswith('trunk')
