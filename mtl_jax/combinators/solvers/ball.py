"""The best worst case inside a ball: the problem behind CAGrad."""

import jax
import jax.numpy as jnp

from mtl_jax.combinators.solvers import nonnegative_qp, scaling

_STEPS = 30


def solve(
  a: jax.Array,
  q: jax.Array,
  b: jax.Array,
  radius: jax.Array,
  exact: jax.Array | None = None,
) -> jax.Array:
  r"""Multipliers of the best worst case in the ball.

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
    exact: ``[K, K]``: A without its ridge, to solve for in its place where
      that can be done.

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
  _, t, x, _ = jax.lax.while_loop(
    lambda c: (c[0] < _STEPS) & ~c[-1], step, start
  )
  distance = jnp.sqrt(x @ a @ x)
  x = x * jnp.where(distance > 0, radius / distance, 0)
  return x if exact is None else _without_ridge(exact, a, q, b, radius, t, x)


def _without_ridge(exact, a, q, b, radius, t, ridged):
  """As `nonnegative_qp.without_ridge`, with the length in closed form."""

  def step(carry):
    i, t, x, _ = carry
    free = x > exact @ x + q - t * b
    inverse = nonnegative_qp.free_inverse(a, free)
    along = nonnegative_qp.refined(inverse, exact, b)
    x = nonnegative_qp.refined(inverse, exact, t * b - q)
    # x + change * along is as long as the radius: the root nearer to 0.
    curvature = b @ along
    curvature = jnp.where(curvature > 0, curvature, 1)
    half = (b @ x) / curvature
    excess = (x @ exact @ x - radius**2) / curvature
    root = half + jnp.sqrt(jnp.maximum(half**2 - excess, 0))
    change = -excess / jnp.where(root > 0, root, 1)
    t, x = t + change, jnp.maximum(x + change * along, 0)
    right = q - t * b
    size = jnp.max(jnp.abs(right))
    size = jnp.where(size == 0, 1, size)
    length = jnp.sqrt(jnp.maximum(x @ exact @ x, 0))
    close = jnp.abs(length - radius) <= tolerance * radius
    done = close & nonnegative_qp.solved(exact, right / size, x / size)
    return i + 1, t, x, done

  tolerance = 8 * jnp.finfo(a.dtype).eps
  _, _, refined, done = jax.lax.while_loop(
    lambda c: (c[0] < nonnegative_qp.REFINEMENTS) & ~c[-1],
    step,
    (0, t, ridged, jnp.array(False)),
  )
  return scaling.without_ridge(done, refined, ridged)
