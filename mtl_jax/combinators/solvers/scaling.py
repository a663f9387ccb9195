"""Scaling of Gramians to unit rows, masks of absent tasks, loud NaNs."""

from typing import NamedTuple

import jax
import jax.numpy as jnp


class Scaled(NamedTuple):
  """A Gramian ``G = diag(n) C diag(n)``, with rows that count for nothing out.

  Attributes:
    cosines: ``[K, K]``: C, with the row of the identity where not ``alive``.
    norms: ``[K]``: n, the largest being 1; 0 where not ``alive``.
    largest: the norm of the longest row, by which ``norms`` were divided.
    alive: ``[K]`` bool: the present tasks whose gradient is not zero.
    count: the number of present tasks, at least 1.
  """

  cosines: jax.Array
  norms: jax.Array
  largest: jax.Array
  alive: jax.Array
  count: jax.Array


def normalise(gramian: jax.Array, present: jax.Array) -> Scaled:
  """Splits a Gramian into cosines and norms.

  Solvers see unit rows, so row norms may differ by many orders of magnitude.
  A NaN or infinity in a present row makes every cosine NaN.

  Args:
    gramian: ``[K, K]``.
    present: ``[K]`` bool; the other rows have no influence, whatever they hold.

  Example:
    >>> scaled = normalise(jnp.diag(jnp.array([4.0, 1.0])), jnp.array([1, 1]))
    >>> scaled.norms, scaled.largest
    (Array([1. , 0.5], dtype=float32), Array(2., dtype=float32))
  """
  gramian = masked(gramian, present)
  diagonal = jnp.diagonal(gramian)
  alive = diagonal > 0
  norms = jnp.sqrt(jnp.where(alive, diagonal, 0))
  largest = jnp.max(norms)
  largest = jnp.where(largest > 0, largest, 1)
  divisor = jnp.where(alive, norms, 1)
  # Two divisions: the product of two small norms would underflow.
  cosines = gramian / divisor[:, None] / divisor
  both = alive[:, None] & alive
  eye = jnp.eye(len(norms), dtype=gramian.dtype)
  cosines = jnp.where(both, jnp.where(eye == 1, 1, cosines), eye)
  cosines = jnp.where(jnp.all(jnp.isfinite(gramian)), cosines, jnp.nan)
  count = jnp.maximum(jnp.sum(present.astype(bool)), 1).astype(gramian.dtype)
  return Scaled(cosines, norms / largest, largest, alive, count)


def masked(gramian: jax.Array, present: jax.Array) -> jax.Array:
  """Zeroes the rows and columns of absent tasks."""
  present = present.astype(bool)
  return jnp.where(present[:, None] & present, gramian, 0)


def unscale(scaled: Scaled, u: jax.Array) -> jax.Array:
  """From weights of unit rows to weights of rows, 0 where not alive."""
  norms = jnp.where(scaled.alive, scaled.norms, 1)
  return jnp.where(scaled.alive, u / norms, 0) / scaled.largest


def guarded(
  weights: jax.Array, gramian: jax.Array, present: jax.Array
) -> jax.Array:
  """Weights, 0 for absent tasks, and all NaN where a present row is not finite.

  Comparisons with NaN are false, so a solver may step over one in silence;
  this makes it loud.
  """
  finite = jnp.all(jnp.isfinite(masked(gramian, present)))
  weights = jnp.where(present.astype(bool), weights, 0)
  return jnp.where(finite, weights, jnp.nan)


def without_ridge(
  solved: jax.Array, x: jax.Array, ridged: jax.Array
) -> jax.Array:
  """Chooses between the solutions without and with a ridge, ``[K]``.

  Args:
    solved: ``[]`` bool: whether x is a solution.
    x: ``[K]``, of the problem without the ridge.
    ridged: ``[K]``, of the problem with it. Where the two are far apart, the
      problem has many solutions or none but for rounding, and this one counts.
  """
  near = jnp.sum(jnp.abs(x - ridged)) <= 0.25 * jnp.sum(jnp.abs(ridged))
  return jnp.where(solved & near, x, ridged)


def default_ridge(dtype) -> float:
  """Ridge of rounding, relative to the squared norm of every row.

  Well above the rounding of a Gramian (so that a singular one factors, and
  duplicate rows share a weight), and far below anything a gradient means.
  """
  return 1e-10 if jnp.finfo(dtype).bits == 64 else 1e-5


def with_ridge(scaled: Scaled, ridge: float | None) -> jax.Array:
  """The cosines plus a ridge: ``[K, K]``, positive definite."""
  dtype = scaled.cosines.dtype
  ridge = default_ridge(dtype) if ridge is None else ridge
  return scaled.cosines + ridge * jnp.diag(scaled.alive.astype(dtype))
