"""The nearest point of the simplex, over the tasks that are present."""

import jax
import jax.numpy as jnp
import optax


def project(values: jax.Array, present: jax.Array) -> jax.Array:
  r"""Euclidean projection: :math:`\min_w \|w - v\|^2, w \ge 0, 1^T w = 1`.

  Args:
    values: v, ``[K]``.
    present: ``[K]`` bool; absent tasks get 0, as if they were not there.

  Returns:
    ``[K]``; zero if no task is present.

  Example:
    >>> project(jnp.array([0.5, 9.0, 0.1]), jnp.array([True, False, True]))
    Array([0.7       , 0.        , 0.29999998], dtype=float32)
  """
  # Far below every other entry, an absent task is projected to exactly 0.
  low = jnp.where(present, values, jnp.inf).min() - 2
  low = jnp.where(present.any(), low, 0)
  w = optax.projections.projection_simplex(jnp.where(present, values, low))
  return jnp.where(present, w, 0)


def restrict(weights: jax.Array, present: jax.Array) -> jax.Array:
  """A distribution over all tasks, as one over those present.

  Where all of its weight lies on absent tasks, uniform.

  Args:
    weights: ``[K]``, >= 0.
    present: ``[K]`` bool.
  """
  present = present.astype(bool)
  here = jnp.where(present, weights, 0)
  uniform = present / jnp.maximum(present.sum(), 1)
  total = here.sum()
  return jnp.where(
    total > 0,
    here / jnp.where(total > 0, total, 1),
    uniform.astype(weights.dtype),
  )
