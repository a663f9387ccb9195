"""A small network, its task gradients, and the same by jax.jacrev."""

import jax
import jax.numpy as jnp
import numpy as np

from mtl_jax import combinators

K = 3


def network():
  key = jax.random.key(0)
  k1, k2, k3 = jax.random.split(key, 3)
  return {
    'trunk': {
      'in': jax.random.normal(k1, (4, 5)),
      'out': jax.random.normal(k2, (5, 6)),
    },
    'heads': jax.random.normal(k3, (6, K)),
  }


X = jnp.linspace(-1.0, 1.0, 28).reshape(7, 4)


def losses_fn(params):
  hidden = jnp.tanh(X @ params['trunk']['in'])
  outputs = jnp.tanh(hidden @ params['trunk']['out']) @ params['heads']
  return ((outputs - X[:, :K]) ** 2).mean(0)


def is_trunk(path):
  return path.startswith('trunk')


def oracle(params):
  """The Jacobian: {path: [K, n]}, in float64."""
  jacobian = jax.jit(jax.jacrev(losses_fn))(params)
  return {
    combinators.path_name(path): np.asarray(leaf, np.float64).reshape(K, -1)
    for path, leaf in jax.tree_util.tree_leaves_with_path(jacobian)
  }


def named(tree):
  return {
    combinators.path_name(path): np.asarray(leaf).reshape(-1)
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
  }


def gradients_of(params, **extra):
  return combinators.task_gradients(losses_fn, params, shared=is_trunk, **extra)


def check_direction(direction, rows, w, head_weights):
  for path, leaf in named(direction).items():
    weights = w if is_trunk(path) else head_weights
    np.testing.assert_allclose(leaf, weights @ rows[path], rtol=1e-4, atol=1e-5)
