"""Quadratic programs over the nonnegative orthant, many right sides at once.

``min_x 1/2 x^T A x + q^T x`` subject to ``x >= 0``. With ``y = A x + q`` the
conditions for the solution are ``min(x, y) = 0``; the size of that vector is
the residual here. Three stages, each of which leaves solved problems alone:

1. conjugate gradients on the face of the orthant (`proportioning`): cheap
   products for all right sides at once, which solve most problems;
2. exchanges of the active set (block principal pivoting): exact once the
   signs are nearly right;
3. a primal-dual interior point method: 10 to 20 steps on any problem, for the
   few on which exchanges cycle.

The last two factor one matrix a right side and step. They take the right
sides that are left, some at a time, so that few of them cost little.

References:
  Kim and Park, Fast nonnegative matrix factorization: an active-set-like
  method and comparisons, SIAM Journal on Scientific Computing, 2011.
  Mehrotra, On the implementation of a primal-dual interior point method, SIAM
  Journal on Optimization, 1992.
"""

import jax
import jax.numpy as jnp

from mtl_jax.combinators.solvers import interior_point, proportioning

_TOGETHER = 8
_EXCHANGES = 12


def solve(
  a: jax.Array, q: jax.Array, start: jax.Array | None = None
) -> jax.Array:
  """Solves for every row of ``q``.

  Args:
    a: ``[K, K]``, positive definite, with a diagonal near 1.
    q: ``[R, K]``.
    start: ``[R, K]``, >= 0: where to start from; 0 by default.

  Returns:
    ``[R, K]``: x. NaN in, NaN out.

  Example:
    >>> solve(jnp.eye(2), jnp.array([[-1.0, 1.0]]))
    Array([[1., 0.]], dtype=float32)
  """
  size = jnp.max(jnp.abs(q), axis=1, keepdims=True)
  size = jnp.where(size == 0, 1, size)
  q = q / size
  x = jnp.zeros_like(q) if start is None else start / size
  x = proportioning.solve(a, q, x, lambda x: _solved(a, q, x))
  x = _rest(_exchange, a, q, x)
  x = _rest(_interior, a, q, x)
  return x * size


def residual(a: jax.Array, q: jax.Array, x: jax.Array) -> jax.Array:
  """``max |min(x, A x + q)|`` over the last axis, ``[...]``."""
  return jnp.max(jnp.abs(jnp.minimum(x, x @ a + q)), axis=-1)


def _solved(a, q, x):
  # A few roundings of the largest terms in A x + q, with q scaled to 1.
  tolerance = 4 * jnp.finfo(a.dtype).eps * (2 + jnp.sum(jnp.abs(x), axis=-1))
  return residual(a, q, x) <= tolerance


def _rest(solver, a, q, x):
  """A solver of one row, for those that are not solved, some at a time."""
  together = min(_TOGETHER, len(q))

  def some(carry):
    x, tried = carry
    rows = jnp.argsort(tried)[:together]  # Those not tried come first.
    found = jax.vmap(solver, (None, 0, 0))(a, q[rows], x[rows])
    return x.at[rows].set(found), tried.at[rows].set(True)

  x, _ = jax.lax.while_loop(
    lambda carry: ~jnp.all(carry[1]), some, (x, _solved(a, q, x))
  )
  return x


def _exchange(a, q, x):
  """Block principal pivoting from the support of ``x``; ``[K]`` each."""
  num = len(q)
  eps = jnp.finfo(a.dtype).eps

  def pivot(carry):
    i, free, fewest, tries, best, _ = carry
    x = free_solution(a, q, free)
    y = jnp.where(free, 0, a @ x + q)
    tolerance = 4 * eps * (2 + jnp.sum(jnp.abs(x)))
    wrong = jnp.where(free, x < -tolerance, y < -tolerance)
    number = jnp.sum(wrong)
    # All wrong signs flip at once while that makes progress; else only the
    # last one, which cannot cycle.
    tries = jnp.where(number < fewest, 3, tries - 1)
    fewest = jnp.minimum(number, fewest)
    last = jnp.arange(num) == num - 1 - jnp.argmax(wrong[::-1])
    free = free ^ jnp.where(tries > 0, wrong, wrong & last)
    best = better(a, q, best, jnp.maximum(x, 0))
    return i + 1, free, fewest, tries, best, (number == 0) | _solved(a, q, best)

  start = (0, x > 0, jnp.asarray(num + 1), jnp.asarray(3), x, _solved(a, q, x))
  carry = jax.lax.while_loop(
    lambda c: (c[0] < _EXCHANGES) & ~c[-1], pivot, start
  )
  return carry[-2]


def _interior(a, q, x):
  inner = interior_point.solve(a, q, skip=_solved(a, q, x))
  x = better(a, q, x, inner)
  polished = free_solution(a, q, inner > a @ inner + q)
  return better(a, q, x, jnp.maximum(polished, 0))


def free_solution(a: jax.Array, q: jax.Array, free: jax.Array) -> jax.Array:
  """``[K]``: ``A x + q = 0`` where ``free``, and ``x = 0`` elsewhere."""
  eye = jnp.eye(len(q), dtype=a.dtype)
  system = jnp.where(free[:, None] & free, a, eye)
  factor = jnp.linalg.cholesky(system, symmetrize_input=False)

  def solution(right):
    right = jnp.where(free, right, 0)
    return jax.scipy.linalg.cho_solve((factor, True), right)

  x = solution(-q)
  # Refined once: on a singular Gramian the first is a few roundings off.
  return x + solution(-q - a @ x)


def better(
  a: jax.Array, q: jax.Array, x: jax.Array, other: jax.Array
) -> jax.Array:
  """Whichever of two ``[K]`` has the smaller residual; NaN never wins."""
  return jnp.where(residual(a, q, other) < residual(a, q, x), other, x)
