"""A primal-dual interior point method for small nonnegative programs."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp

from mtl_jax.combinators.solvers import turns

_STEPS = 40


def solve(a: jax.Array, q: jax.Array, skip: jax.Array) -> jax.Array:
  """``min_x 1/2 x^T A x + q^T x``, ``x >= 0``, by Mehrotra's method.

  Args:
    a: ``[K, K]``, positive definite, with a diagonal near 1.
    q: ``[R, K]``, the largest entry of each near 1.
    skip: ``[R]`` bool: true to make no step.

  Returns:
    ``[R, K]``: x > 0.
  """
  ones = jnp.ones_like(q)
  start = _Point(ones, ones, jnp.zeros(len(q), int), skip)
  return turns.take(functools.partial(_step, a), q, start).x


class _Point(NamedTuple):
  """Points of right sides: ``[R, K]`` x and ``A x + q``; ``[R]`` the others."""

  x: jax.Array
  z: jax.Array
  count: jax.Array
  done: jax.Array


def _step(a, q, point):
  x, z, count, _ = point
  excess = a @ x + q - z
  mean = x @ z / len(q)  # the complementarity gap, a variable
  direction = _newton(a, x, z, excess)
  dx, dz = direction(0.0)
  length = jnp.minimum(longest(x, dx), longest(z, dz))
  predicted = (x + length * dx) @ (z + length * dz) / len(q)
  centring = (predicted / mean) ** 3 * mean
  dx, dz = direction(centring - dx * dz)
  # Just short of the boundary; one length for both keeps A x + q = z exact.
  length = jnp.minimum(longest(x, dx), longest(z, dz))
  length = jnp.minimum(0.99 * length, 1.0)
  x, z = x + length * dx, z + length * dz
  excess = a @ x + q - z
  tolerance = 4 * jnp.finfo(a.dtype).eps * (1 + jnp.sum(x))
  gap = jnp.maximum(jnp.max(jnp.abs(excess)), jnp.max(jnp.minimum(x, z)))
  count = count + 1
  return _Point(x, z, count, (gap < tolerance) | (count == _STEPS))


def _newton(a, x, z, excess):
  """``target -> (dx, dz)``, with one factorisation for both directions."""
  h = z / x
  # Scaled to a unit diagonal, since h spans many orders of magnitude.
  s = jax.lax.rsqrt(jnp.diagonal(a) + h)
  system = a * s[:, None] * s + jnp.diag(h * s * s)
  factor = jnp.linalg.cholesky(system, symmetrize_input=False)

  def direction(target):
    right = s * (-excess - z + target / x)
    dx = s * jax.scipy.linalg.cho_solve((factor, True), right)
    return dx, -z - h * dx + target / x

  return direction


def longest(v: jax.Array, dv: jax.Array) -> jax.Array:
  """The longest step, at most 2, that keeps ``v + step dv >= 0``."""
  shrinks = dv < 0
  steps = jnp.where(shrinks, -v / jnp.where(shrinks, dv, -1), 2.0)
  return jnp.minimum(jnp.min(steps), 2.0)
