"""Damped Newton for ``A u = r u^-s``: Nash-MTL, FairGrad and PIVRG."""

import jax
import jax.numpy as jnp

from mtl_jax.combinators.solvers import scaling

_STEPS, _REFINEMENTS = 40, 6
_HALVINGS = 12


def solve(
  a: jax.Array, r: jax.Array, s: float, exact: jax.Array | None = None
) -> jax.Array:
  r"""The positive solution of :math:`(A u)_i = r_i u_i^{-s}`.

  It is the minimiser of the convex
  :math:`\frac12 u^T A u - \sum_i r_i u_i^{1-s} / (1-s)` (a logarithm where
  s = 1), found with Newton steps that are halved until the slope along them
  has not turned upwards, and that never reach a zero.

  Args:
    a: ``[K, K]``, positive definite, with a diagonal near 1.
    r: ``[K]``, > 0.
    s: in (0, 1].
    exact: ``[K, K]``: A without its ridge, to solve for in its place where
      that can be done.

  Returns:
    ``[K]``: u > 0.

  Example:
    >>> solve(jnp.eye(2), jnp.array([1.0, 4.0]), 1.0)
    Array([1., 2.], dtype=float32)
  """
  # The solution for orthogonal rows, scaled to be the best multiple of it.
  u = r ** (1 / (1 + s))
  total = jnp.sum(r * u ** (1 - s))
  floor = jnp.finfo(a.dtype).eps * u @ u
  u = u * (total / jnp.maximum(u @ a @ u, floor)) ** (1 / (1 + s))
  u, _ = _newton(a, r, s, u, _STEPS)
  if exact is None:
    return u
  other, solved = _newton(exact, r, s, u, _REFINEMENTS)
  return scaling.without_ridge(solved, other, u)


def _newton(a, r, s, u, steps):
  """``[K]`` after at most some steps from u, and whether it is solved."""
  halvings = 0.5 ** jnp.arange(_HALVINGS, dtype=a.dtype)

  def slope(u):
    return a @ u - r * u**-s

  def step(carry):
    i, u, _ = carry
    gradient = slope(u)
    change = -_precondition_and_solve(a, s * r * u ** (-s - 1), gradient)
    falling = jnp.where(change < 0, -u / jnp.where(change < 0, change, -1), 2)
    longest = jnp.minimum(1, 0.95 * jnp.min(falling))
    candidates = u + longest * halvings[:, None] * change  # [halvings, K]
    along = jax.vmap(slope)(candidates) @ change
    # Convexity makes `along` rise with the length; near 0 it is rounding.
    good = along <= 0.25 * jnp.abs(gradient @ change)
    u = candidates[jnp.argmax(good)]
    return i + 1, u, _solved(a, u, slope(u))

  # At least once: what a ridge does may be below the tolerance.
  start = (0, u, jnp.array(False))
  return jax.lax.while_loop(lambda c: (c[0] < steps) & ~c[-1], step, start)[1:]


def _solved(a, u, gradient):
  eps = jnp.finfo(a.dtype).eps
  return jnp.max(jnp.abs(gradient)) <= 2 * eps * (
    jnp.sqrt(u @ a @ u) + jnp.sum(u)
  )


def _precondition_and_solve(a, h, right):
  """``(A + diag(h))^-1 right``; h may span many orders of magnitude."""
  scale = jax.lax.rsqrt(jnp.diagonal(a) + h)
  system = a * scale[:, None] * scale + jnp.diag(h * scale * scale)
  factor = jnp.linalg.cholesky(system, symmetrize_input=False)
  return scale * jax.scipy.linalg.cho_solve((factor, True), scale * right)
