"""Alternating directions over the nonnegative orthant, many at once.

One inverse serves all right sides and 25 steps, and a step is one product for
all of them together. After these the penalty is chosen anew, so that the primal
and the dual residual shrink alike. Regular problems are solved in 25 to 75
steps; on singular Gramians plus a ridge, where conjugate gradients find no face
for hundreds of steps, nearly all signs are right after some dozens.

References:
  Boyd et al., Distributed optimization and statistical learning via the
  alternating direction method of multipliers, Foundations and Trends in
  Machine Learning, 2011 (section 5.2; 3.4.1 on the penalty, 3.4.3 on
  over-relaxation).
"""

import jax
import jax.numpy as jnp

_STEPS = 25  # Between two penalties.
_LEAST, _MOST = 4, 16  # rounds of so many steps
_RELAXATION = 1.9
_PENALTY = 0.3  # at first, in roots of the smallest eigenvalue
_CHANGE = 10.0  # of the penalty, at most, from round to round
# A round is the last if it leaves as much of the mean residual. What is
# close to the solutions is left to exchanges, unless it gets there at once.
_SLOW, _SLOW_CLOSE, _CLOSE = 0.9, 0.1, 1e-4


def solve(a: jax.Array, q: jax.Array, residual, solved) -> jax.Array:
  """Close to ``min_x 1/2 x^T A x + q^T x``, ``x >= 0``, for every row of ``q``.

  Args:
    a: ``[K, K]``, positive definite, with a diagonal near 1.
    q: ``[R, K]``, the largest entry of each near 1.
    residual: ``x [R, K] -> [R]``, 0 for solutions.
    solved: ``x [R, K] -> [R]`` bool; when all are, it stops.

  Returns:
    ``[R, K]``, >= 0: mostly with the zeros of the solution, after 100 to 400
    steps, or as soon as all are solved. Those that are stay as they are.
  """
  eye = jnp.eye(len(a), dtype=a.dtype)
  # Between the ridge, which is near the smallest eigenvalue, and the
  # eigenvalues that count. The diagonal of the inverse knows the former.
  smallest = 1 / jnp.max(jnp.diagonal(_inverse(a)))
  eps = jnp.finfo(a.dtype).eps
  smallest = jnp.where(smallest > eps, jnp.minimum(smallest, 1), eps)  # or NaN

  def some(carry):
    i, penalty, z, dual, last, best, _ = carry
    inverse = _inverse(a + penalty * eye)

    def step(z, dual):
      x = (penalty * (z - dual) - q) @ inverse
      over = _RELAXATION * x + (1 - _RELAXATION) * z
      new = jnp.maximum(over + dual, 0)
      return x, new, dual + over - new

    before, dual = jax.lax.fori_loop(
      0, _STEPS - 1, lambda _, carry: step(*carry)[1:], (z, dual)
    )
    x, z, dual = step(before, dual)
    # Both residuals, relative to what they are residuals of, are to shrink
    # alike: where no direction helps all tasks the best penalty is a hundred
    # times smaller than where one does.
    change = _ratio(x - z, z) / _ratio(z - before, dual)
    change = jnp.clip(change, 1 / _CHANGE, _CHANGE)
    change = jnp.where(jnp.isfinite(change), change, 1)
    now = jnp.mean(residual(z))
    fast = now < jnp.where(now < _CLOSE, _SLOW_CLOSE, _SLOW) * last
    best = jnp.where(solved(best)[:, None], best, z)
    done = jnp.all(solved(best)) | ((i + 1 >= _LEAST) & ~fast)
    return i + 1, penalty * change, z, dual / change, now, best, done

  zero = jnp.zeros_like(q)
  inf = jnp.asarray(jnp.inf, a.dtype)
  penalty = _PENALTY * jnp.sqrt(smallest)
  carry = (0, penalty, zero, zero, inf, zero, jnp.array(False))
  return jax.lax.while_loop(
    lambda carry: (carry[0] < _MOST) & ~carry[-1], some, carry
  )[-2]


def _ratio(part, whole):
  """The norm of one relative to that of the other."""
  tiny = jnp.finfo(part.dtype).tiny
  return jnp.linalg.norm(part) / jnp.maximum(jnp.linalg.norm(whole), tiny)


def _inverse(a):
  factor = jnp.linalg.cholesky(a, symmetrize_input=False)
  eye = jnp.eye(len(a), dtype=a.dtype)
  return jax.scipy.linalg.cho_solve((factor, True), eye)
