"""The best worst case inside a ball: the problem behind CAGrad."""

import jax
import jax.numpy as jnp

from mtl_jax.combinators.solvers import nonnegative_qp

_STEPS = 30


def solve(
  a: jax.Array, q: jax.Array, b: jax.Array, radius: jax.Array
) -> jax.Array:
  r"""How far to leave the centre, and along which rows.

  Unit rows :math:`\hat g_i` with products ``A``, a centre :math:`g_0` with
  :math:`q_i = \langle \hat g_i, g_0 \rangle`:

  .. math:: \max_{d, t} t \quad\text{s.t.}\quad
    \langle \hat g_i, d \rangle \ge t b_i, \quad \|d - g_0\| \le radius.

  For a given t the nearest such d is ``g_0 + sum_i x_i g_i`` with x from a
  nonnegative quadratic program. The distance D(t) is convex and increasing,
  so Newton's method from above, on D(t) = radius, descends to the solution.

  Args:
    a: ``[K, K]``, positive definite, with a diagonal near 1.
    q: ``[K]``.
    b: ``[K]``, > 0, the largest 1; 0 for a row without a say.
    radius: ``[]``, >= 0.

  Returns:
    ``[K]``: x >= 0, with ``sqrt(x^T A x) = radius`` wherever that is possible.

  Example:
    >>> x = solve(jnp.eye(2), jnp.array([1.0, 0.0]), jnp.ones(2), 1.0)
    >>> jnp.round(x, 4)
    Array([0., 1.], dtype=float32)
  """
  radius = jnp.asarray(radius, a.dtype)
  tolerance = 8 * jnp.finfo(a.dtype).eps
  highest = jnp.where(b > 0, (radius + q) / jnp.where(b > 0, b, 1), jnp.inf)

  def step(carry):
    i, t, x, _ = carry
    x = nonnegative_qp.solve(a, (q - t * b)[None], x[None])[0]
    distance = jnp.sqrt(x @ a @ x)
    slope = b @ x / jnp.where(distance > 0, distance, 1)
    change = (distance - radius) / jnp.where(slope > 0, slope, 1)
    close = jnp.abs(distance - radius) <= tolerance * radius
    return i + 1, t - change, x, close | (slope <= 0)

  start = (0, jnp.min(highest), jnp.zeros_like(q), radius == 0)
  _, _, x, _ = jax.lax.while_loop(
    lambda c: (c[0] < _STEPS) & ~c[-1], step, start
  )
  distance = jnp.sqrt(x @ a @ x)
  return x * jnp.where(distance > 0, radius / distance, 0)
