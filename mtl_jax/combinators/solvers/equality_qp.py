"""Small quadratic programs with x >= 0 and linear equalities."""

import jax
import jax.numpy as jnp

from mtl_jax.combinators.solvers import interior_point

_STEPS = 60


def solve(
  h: jax.Array,
  c: jax.Array,
  e: jax.Array,
  b: jax.Array,
  present: jax.Array,
) -> jax.Array:
  """``min_x 1/2 x^T H x + c^T x`` with ``x >= 0`` and ``E x = b``.

  Mehrotra's primal-dual interior point method; the best of its iterates.

  Args:
    h: ``[N, N]``, positive definite, with a diagonal near 1.
    c: ``[N]``.
    e: ``[M, N]``, of full rank over the present variables.
    b: ``[M]``.
    present: ``[N]`` bool; the other variables are 0.

  Returns:
    ``[N]``: x.

  Example:
    >>> x = solve(
    ...   jnp.eye(2), jnp.array([-1.0, 0.0]), jnp.ones((1, 2)), jnp.ones(1),
    ...   jnp.array([True, True]),
    ... )
    >>> jnp.allclose(x, jnp.array([1.0, 0.0]), atol=1e-3)
    Array(True, dtype=bool)

  References:
    Mehrotra, On the implementation of a primal-dual interior point method,
    SIAM Journal on Optimization, 1992.
  """
  present = present.astype(bool)
  eye = jnp.eye(len(c), dtype=h.dtype)
  h = jnp.where(present[:, None] & present, h, eye)
  e = jnp.where(present, e, 0)
  # Those that are out have a minimum at 0 of their own.
  c = jnp.where(present, c, 1)
  x = z = jnp.ones_like(c)
  y = jnp.zeros_like(b)
  start = (0, x, y, z, x, jnp.asarray(jnp.inf, h.dtype))

  def unsolved(carry):
    i, *_, x, error = carry
    tolerance = 4 * jnp.finfo(h.dtype).eps * (1 + jnp.sum(jnp.abs(x)))
    return (i < _STEPS) & ~(error < tolerance)

  def step(carry):
    i, x, y, z, best, least = carry
    x, y, z = _step(h, c, e, b, x, y, z)
    error = _error(h, c, e, b, x, y, z)
    better = error < least  # NaN never is
    best, least = jnp.where(better, x, best), jnp.where(better, error, least)
    return i + 1, x, y, z, best, least

  best = jax.lax.while_loop(unsolved, step, start)[4]
  return jnp.where(present, best, 0)


def _error(h, c, e, b, x, y, z):
  dual = jnp.max(jnp.abs(h @ x + c - y @ e - z))
  primal = jnp.max(jnp.abs(e @ x - b))
  return jnp.maximum(jnp.maximum(dual, primal), jnp.max(jnp.minimum(x, z)))


def _step(h, c, e, b, x, y, z):
  mean = x @ z / len(x)
  direction = _newton(h, c, e, b, x, y, z)
  dx, _, dz = direction(0.0)
  length = jnp.minimum(
    interior_point.longest(x, dx), interior_point.longest(z, dz)
  )
  after = (x + length * dx) @ (z + length * dz) / len(x)
  centring = (after / mean) ** 3 * mean
  dx, dy, dz = direction(centring - dx * dz)
  # One length for both: the dual residual then falls with the step.
  length = jnp.minimum(
    interior_point.longest(x, dx), interior_point.longest(z, dz)
  )
  length = jnp.minimum(0.99 * length, 1)
  return x + length * dx, y + length * dy, z + length * dz


def _newton(h, c, e, b, x, y, z):
  """``target -> (dx, dy, dz)``, with one factorisation for both directions."""
  bend = z / x
  # To a unit diagonal, since the bend spans many orders of magnitude.
  s = jax.lax.rsqrt(jnp.diagonal(h) + bend)
  system = h * s[:, None] * s + jnp.diag(bend * s * s)
  factor = jnp.linalg.cholesky(system, symmetrize_input=False)

  def inverse(v):
    return s * jax.scipy.linalg.cho_solve((factor, True), s * v)

  along = jax.vmap(inverse)(e)  # [M, N]
  dual, primal = h @ x + c - y @ e - z, b - e @ x

  def direction(target):
    pull = target / x - z
    right = inverse(pull - dual)
    dy = jnp.linalg.solve(e @ along.T, primal - e @ right)
    dx = right + dy @ along
    return dx, dy, pull - bend * dx

  return direction
