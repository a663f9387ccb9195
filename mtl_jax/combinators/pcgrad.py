"""PCGrad: projecting conflicting gradients."""

import jax
import jax.numpy as jnp
import optax

from mtl_jax.combinators import base


def solve_pcgrad(
  gramian: jax.Array, present: jax.Array, orders: jax.Array
) -> jax.Array:
  """PCGrad's weights from a Gramian.

  Every projected gradient is a combination of the original ones, so it is
  carried as its coefficients: the matrix of gradients is not needed.

  Args:
    gramian: ``[K, K]``.
    present: ``[K]`` bool.
    orders: ``[K, K]`` integers: row i is the order, a permutation of the
      tasks, in which gradient i is compared with the others.

  Returns:
    ``[K]`` weights, the sum over all projected gradients.
  """
  diagonal = jnp.diagonal(gramian)
  inverse = jnp.where(diagonal > 0, 1 / jnp.where(diagonal > 0, diagonal, 1), 0)

  def project(i, order):
    def step(carry, j):
      c, products = carry  # c: [K], products = G c: [K]
      conflict = (products[j] < 0) & (j != i) & present[j]
      by = jnp.where(conflict, products[j] * inverse[j], 0)
      return (c.at[j].add(-by), products - by * gramian[:, j]), None

    start = (jax.nn.one_hot(i, len(order), dtype=gramian.dtype), gramian[:, i])
    (c, _), _ = jax.lax.scan(step, start, order)
    return c

  rows = jax.vmap(project)(jnp.arange(gramian.shape[0]), orders)
  return jnp.where(present[:, None], rows, 0).sum(0)


def pcgrad() -> optax.GradientTransformationExtraArgs:
  r"""PCGrad: removes from each gradient what conflicts with another task.

  For each task i, and for every other task j in random order: where
  :math:`\langle g_i', g_j \rangle < 0`, subtract from :math:`g_i'` its
  projection on :math:`g_j`. The direction is the sum of the results. One
  Gramian, K backward passes through the trunk; heads get their plain
  gradients. Needs ``key=`` in ``update``; with two tasks the order does not
  matter and the result is deterministic.

  A task is never compared with itself, as in the paper; most reference codes
  compare it too, which differs only where ``g_i'`` has turned against its own
  ``g_i``.

  Example:
    >>> from mtl_jax import combinators
    >>> tx = combinators.pcgrad()
    >>> jacobian = jnp.array([[1.0, 0.0], [-1.0, 1.0]])
    >>> gradients = combinators.gradients_from_jacobian(jacobian, jnp.ones(2))
    >>> tx.update(gradients, tx.init(None), key=jax.random.key(0))[0]
    Array([0.5, 1.5], dtype=float32)

  References:
    Yu et al., Gradient surgery for multi-task learning, NeurIPS 2020.
  """

  def weights(gramian, present, key):
    num_tasks = gramian.shape[0]
    keys = jax.random.split(key, num_tasks)
    orders = jax.vmap(lambda k: jax.random.permutation(k, num_tasks))(keys)
    return solve_pcgrad(gramian, present, orders)

  return base.from_gramian(weights)
