"""Eigen-decompositions of Gramians, with a declared cut-off."""

import jax
import jax.numpy as jnp


def cut(values: jax.Array, count: jax.Array) -> jax.Array:
  """``[K]`` bool: eigenvalues that are more than rounding.

  Args:
    values: ``[K]`` eigenvalues of a positive semidefinite matrix.
    count: the number of rows that are not padding.
  """
  eps = jnp.finfo(values.dtype).eps
  return values > jnp.max(values) * count * eps


def pseudo_solve(a: jax.Array, right: jax.Array, count: jax.Array) -> jax.Array:
  """``A^+ right``, with eigenvalues below ``count eps max`` taken as zero.

  Args:
    a: ``[K, K]``, symmetric positive semidefinite.
    right: ``[K]``.
    count: see `cut`.

  Example:
    >>> a = jnp.ones((2, 2))  # Singular.
    >>> jnp.round(pseudo_solve(a, jnp.ones(2), 2), 4)
    Array([0.5, 0.5], dtype=float32)
  """
  values, vectors = jnp.linalg.eigh(a)
  keep = cut(values, count)
  inverse = jnp.where(keep, 1 / jnp.where(keep, values, 1), 0)
  return vectors @ (inverse * (vectors.T @ right))
