"""Quadratic programs over the nonnegative orthant, many right sides at once.

``min_x 1/2 x^T A x + q^T x`` subject to ``x >= 0``. With ``y = A x + q`` the
conditions for the solution are ``min(x, y) = 0``; the size of that vector is
the residual here. Three stages, each of which leaves solved problems alone:

1. cheap products for all right sides at once: conjugate gradients on the face
   of the orthant (`proportioning`), or, for 64 right sides and more,
   alternating directions (`splitting`); they solve most problems, and find
   most signs of the others;
2. exchanges of the active set (block principal pivoting): exact once the
   signs are nearly right;
3. a primal-dual interior point method: 10 to 20 steps on any problem, for the
   few on which exchanges cycle.

The last two factor one matrix per right-hand side and step. They take the right
sides that are left, some at a time (`turns`), so that few of them cost little.

References:
  Kim and Park, Fast nonnegative matrix factorization: an active-set-like
  method and comparisons, SIAM Journal on Scientific Computing, 2011.
  Mehrotra, On the implementation of a primal-dual interior point method, SIAM
  Journal on Optimization, 1992.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp

from mtl_jax.combinators.solvers import (
  interior_point,
  proportioning,
  scaling,
  splitting,
  turns,
)

_MANY = 64  # right sides for which alternating directions pay
_EXCHANGES = 12
REFINEMENTS, _CORRECTIONS = 3, 3


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
  done = functools.partial(solved, a, q)
  if start is None and len(q) >= _MANY:
    x = splitting.solve(a, q, functools.partial(residual, a, q), done)
  else:
    x = jnp.zeros_like(q) if start is None else start / size
    x = proportioning.solve(a, q, x, done)
  x = _exchange(a, q, x)
  x = _interior(a, q, x)
  return x * size


def residual(a: jax.Array, q: jax.Array, x: jax.Array) -> jax.Array:
  """``max |min(x, A x + q)|`` over the last axis, ``[...]``."""
  return jnp.max(jnp.abs(jnp.minimum(x, x @ a + q)), axis=-1)


def solved(a: jax.Array, q: jax.Array, x: jax.Array) -> jax.Array:
  """Whether the residual is rounding, ``[...]`` bool; q is scaled to 1."""
  # A few roundings of the largest terms in A x + q.
  tolerance = 4 * jnp.finfo(a.dtype).eps * (2 + jnp.sum(jnp.abs(x), axis=-1))
  return residual(a, q, x) <= tolerance


def _exchange(a, q, x):
  """Block principal pivoting from the supports of ``x``; ``[R, K]`` each."""
  number = jnp.full(len(q), q.shape[1] + 1)
  start = _Rows(
    x > 0, x, number, jnp.full(len(q), 3), 0 * number, solved(a, q, x)
  )
  return turns.take(functools.partial(_pivot, a), q, start).best


class _Rows(NamedTuple):
  """Exchanges of right sides; of one of them within `_pivot`.

  Attributes:
    free: ``[R, K]`` bool: the coordinates that are not held at 0.
    best: ``[R, K]``: the best x so far.
    fewest: ``[R]``: the least number of wrong signs so far.
    tries: ``[R]``: exchanges that may still pass without fewer of them.
    count: ``[R]``: exchanges made.
    done: ``[R]`` bool: whether it is over, by a solution or without one.
  """

  free: jax.Array
  best: jax.Array
  fewest: jax.Array
  tries: jax.Array
  count: jax.Array
  done: jax.Array


def _pivot(a, q, row):
  """One exchange of one right side."""
  x = free_solution(a, q, row.free)
  y = jnp.where(row.free, 0, a @ x + q)
  eps = jnp.finfo(a.dtype).eps
  tolerance = 4 * eps * (2 + jnp.sum(jnp.abs(x)))
  wrong = jnp.where(row.free, x < -tolerance, y < -tolerance)
  number = jnp.sum(wrong)
  # All wrong signs flip at once while that makes progress. Flips of one at
  # a time could not cycle, but take longer than the interior point method.
  tries = jnp.where(number < row.fewest, 3, row.tries - 1)
  best = better(a, q, row.best, jnp.maximum(x, 0))
  count = row.count + 1
  done = (number == 0) | (tries == 0) | (count == _EXCHANGES)
  return _Rows(
    row.free ^ wrong,
    best,
    jnp.minimum(number, row.fewest),
    tries,
    count,
    done | solved(a, q, best),
  )


def _interior(a, q, x):
  """The interior point method, for those that are not solved."""
  done = solved(a, q, x)
  inner = interior_point.solve(a, q, skip=done)

  def polish(q, row):
    x, inner, _ = row
    x = better(a, q, x, inner)
    polished = free_solution(a, q, inner > a @ inner + q)
    x = better(a, q, x, jnp.maximum(polished, 0))
    return _Polished(x, inner, jnp.array(True))

  return turns.take(polish, q, _Polished(x, inner, done)).x


class _Polished(NamedTuple):
  """``[R, K]``: x, and what the interior point method gave; ``[R]``: done."""

  x: jax.Array
  inner: jax.Array
  done: jax.Array


def without_ridge(
  exact: jax.Array, a: jax.Array, q: jax.Array, x: jax.Array
) -> jax.Array:
  """Refines a solution to that without the ridge.

  Args:
    exact: ``[K, K]``: A without the ridge.
    a: ``[K, K]``, positive definite.
    q: ``[K]``.
    x: ``[K]``: the solution for A.

  Returns:
    ``[K]``: that for ``exact``, by refinement with the factors of A; x itself
    where this does not end in a solution close to it, see
    `scaling.without_ridge`.
  """
  size = jnp.max(jnp.abs(q))
  q = q / jnp.where(size == 0, 1, size)
  start = x / jnp.where(size == 0, 1, size)

  def step(carry):
    i, x, _ = carry
    x = jnp.maximum(free_solution(a, q, x > exact @ x + q, exact), 0)
    return i + 1, x, solved(exact, q, x)

  # At least once: what a ridge does may be below the tolerance.
  carry = (0, start, jnp.array(False))
  _, other, done = jax.lax.while_loop(
    lambda c: (c[0] < REFINEMENTS) & ~c[-1], step, carry
  )
  return scaling.without_ridge(done, other * size, x)


def free_solution(
  a: jax.Array, q: jax.Array, free: jax.Array, exact: jax.Array | None = None
) -> jax.Array:
  """``[K]``: ``A x + q = 0`` where ``free``, and ``x = 0`` elsewhere.

  Args:
    a: ``[K, K]``, positive definite.
    q: ``[K]``.
    free: ``[K]`` bool.
    exact: a matrix close to ``a``, to solve for in its place.
  """
  solution = free_inverse(a, free)
  if exact is None:
    x = solution(-q)
    # Refined once: on a singular Gramian the first is a few roundings off.
    return x + solution(-q - a @ x)
  return refined(solution, exact, -q)


def free_inverse(a: jax.Array, free: jax.Array):
  """``right [K] -> [K]``: the inverse of A where ``free``, 0 elsewhere."""
  eye = jnp.eye(len(a), dtype=a.dtype)
  system = jnp.where(free[:, None] & free, a, eye)
  factor = jnp.linalg.cholesky(system, symmetrize_input=False)

  def solution(right):
    right = jnp.where(free, right, 0)
    return jax.scipy.linalg.cho_solve((factor, True), right)

  return solution


def refined(inverse, exact: jax.Array, right: jax.Array) -> jax.Array:
  """``exact^-1 right`` of the inverse of a matrix that is close to it."""

  def step(_, x):
    return x + inverse(right - exact @ x)

  return jax.lax.fori_loop(0, _CORRECTIONS, step, inverse(right))


def better(
  a: jax.Array, q: jax.Array, x: jax.Array, other: jax.Array
) -> jax.Array:
  """The one of two ``[K]`` with the smaller residual; NaN never wins."""
  return jnp.where(residual(a, q, other) < residual(a, q, x), other, x)
