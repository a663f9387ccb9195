"""Conjugate gradients on the face of the nonnegative orthant, many at once.

Modified proportioning with reduced gradient projections: while the gradient
on the free coordinates outweighs that on the coordinates at zero, conjugate
gradient steps; where such a step would leave the orthant, it stops at the
boundary and a projected gradient step follows; else a step that frees
coordinates at zero. A step costs two products with A for all right sides
together. On singular Gramians plus a ridge the spectrum is a few values and a
cluster at the ridge, on which conjugate gradients end early, where projected
gradients need as many steps as the root of the condition number.

References:
  Dostal and Schoberl, Minimizing quadratic functions subject to bound
  constraints with the rate of convergence and finite termination,
  Computational Optimization and Applications, 2005.
"""

import jax
import jax.numpy as jnp

_STEPS = 25  # Between two looks at what is solved.
_LOOKS, _MOST = 8, 24


def solve(a: jax.Array, q: jax.Array, x: jax.Array, solved) -> jax.Array:
  """``min_x 1/2 x^T A x + q^T x``, ``x >= 0``, for every row of ``q``.

  Args:
    a: ``[K, K]``, positive definite.
    q: ``[R, K]``.
    x: ``[R, K]``, >= 0: where to start from.
    solved: ``x [R, K] -> [R]`` bool; when all are, it stops. Solved rows stay
      as they are.

  Returns:
    ``[R, K]``, >= 0, after at most 200 steps (100 if no row is solved), or 600
    while many more rows are solved with each 25.
  """
  length = 1 / jnp.max(jnp.sum(jnp.abs(a), axis=1))  # 1 / a bound on the norm

  def steps(carry):
    i, x, done, _ = carry
    slope = x @ a + q
    state = (x, slope, jnp.where(x > 0, slope, 0))
    new, _, _ = jax.lax.fori_loop(
      0, _STEPS, lambda _, state: _step(a, q, length, state), state
    )
    x = jnp.where(done[:, None], x, new)
    now = solved(x)
    return i + 1, x, now, jnp.sum(now) - jnp.sum(done)

  def goes_on(carry):
    i, _, done, more = carry
    looks = jnp.where(jnp.any(done), _LOOKS, _LOOKS // 2)
    worth = (i < looks) | ((i < _MOST) & (16 * more > len(q)))
    return worth & ~jnp.all(done)

  start = solved(x)
  return jax.lax.while_loop(goes_on, steps, (0, x, start, jnp.sum(start)))[1]


def _step(a, q, length, state):
  """One step of every row: ``x``, ``A x + q`` and the conjugate direction."""
  x, slope, conjugate = state
  at_zero = x <= 0
  free = jnp.where(at_zero, 0, slope)
  chopped = jnp.where(at_zero, jnp.minimum(slope, 0), 0)
  # What a projected step could gain on the free coordinates.
  reduced = jnp.where(at_zero, 0, jnp.minimum(x / length, slope))
  stay = _dot(chopped, chopped) <= _dot(reduced, free)

  d = jnp.where(stay, conjugate, chopped)
  product = d @ a
  curvature = _dot(d, product)
  curvature = jnp.where(curvature > 0, curvature, 1)
  best = _dot(slope, d) / curvature
  ratios = jnp.where(d > 0, x / jnp.where(d > 0, d, 1), jnp.inf)
  longest = jnp.min(ratios, axis=1, keepdims=True)
  inside = best <= longest
  size = jnp.where(inside, best, longest)
  moved = jnp.maximum(x - size * d, 0)
  # At the boundary, and then along the projected gradient there.
  there = jnp.where(moved > 0, slope - size * product, 0)
  x = jnp.where(inside, moved, jnp.maximum(moved - length * there, 0))

  slope = x @ a + q  # Anew: a recurrence would drift.
  free = jnp.where(x > 0, slope, 0)
  against = jnp.where(stay & inside, _dot(free, product) / curvature, 0)
  return x, slope, free - against * d


def _dot(u, v):
  return jnp.sum(u * v, axis=1, keepdims=True)
