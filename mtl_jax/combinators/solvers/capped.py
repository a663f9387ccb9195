"""The minimum-norm point of a simplex whose weights are capped."""

import jax
import jax.numpy as jnp

_STEPS = 60


def solve(
  a: jax.Array, norms: jax.Array, present: jax.Array, cap: jax.Array
) -> jax.Array:
  r"""``min_w w^T N A N w`` with ``0 <= w <= cap``, ``sum w = 1``, N = diag(n).

  A primal-dual interior point method, stopped when the gap is rounding of the
  objective, so row norms may differ by many orders of magnitude.

  Args:
    a: ``[K, K]``, positive definite, with a diagonal near 1.
    norms: ``[K]``, >= 0.
    present: ``[K]`` bool; the other weights are 0.
    cap: ``[]``, at least 1 / the number of present tasks.

  Returns:
    ``[K]``: w.

  Example:
    >>> norms, present = jnp.array([2.0, 1.0]), jnp.array([True, True])
    >>> w = solve(jnp.eye(2), norms, present, 0.6)
    >>> jnp.allclose(w, jnp.array([0.4, 0.6]), atol=1e-3)
    Array(True, dtype=bool)
  """
  present = present.astype(bool)
  count = jnp.maximum(present.sum(), 1).astype(a.dtype)
  h = a * norms[:, None] * norms  # [K, K]
  h = jnp.where(
    present[:, None] & present, h, jnp.eye(len(norms), dtype=a.dtype)
  )
  mean = jnp.where(present, 1 / count, 0)
  # Scaled so that the dual variables, of the size of H w, are near 1.
  size = jnp.max(jnp.abs(h @ mean))
  h = h / jnp.where(size > 0, size, 1)
  slack = jnp.maximum(cap - 1 / count, 0)
  # Without slack the mean is the only point; without rows it is as good as any.
  w = _interior(h, present, cap, count, skip=(slack < 1e-6) | ~(size > 0))
  w = jnp.where(present, jnp.clip(w, 0, cap), 0)
  return w / jnp.maximum(w.sum(), jnp.finfo(a.dtype).tiny)


def _interior(h, present, cap, count, skip):
  dtype = h.dtype
  mean = jnp.where(present, 1 / count, 0).astype(dtype)
  ones = present.astype(dtype)
  low = high = jnp.ones_like(mean)  # multipliers of 0 <= w and of w <= cap
  slack = cap - mean
  slack = jnp.where(present & ~skip, slack, 1)
  w = jnp.where(present, mean, 1)

  def step(carry):
    i, w, slack, low, high, level, _ = carry
    gap = jnp.sum(jnp.where(present, w * low + slack * high, 0)) / (2 * count)
    dual = jnp.where(
      present, h @ jnp.where(present, w, 0) - level - low + high, 0
    )
    primal = 1 - jnp.sum(jnp.where(present, w, 0))
    direction = _newton(h, ones, w, slack, low, high, dual, primal)
    dw, dlow, dhigh, _ = direction(0.0, 0.0, 0.0)
    length = _longest((w, low), (dw, dlow), present)
    length = jnp.minimum(length, _longest((slack, high), (-dw, dhigh), present))
    after = jnp.where(
      present,
      (w + length * dw) * (low + length * dlow)
      + (slack - length * dw) * (high + length * dhigh),
      0,
    )
    centring = (jnp.sum(after) / (2 * count * gap)) ** 3 * gap
    dw, dlow, dhigh, dlevel = direction(centring, dw * dlow, -dw * dhigh)
    length = _longest((w, low), (dw, dlow), present)
    length = jnp.minimum(length, _longest((slack, high), (-dw, dhigh), present))
    length = jnp.minimum(0.99 * length, 1)
    w, low = w + length * dw, low + length * dlow
    slack, high = slack - length * dw, high + length * dhigh
    level = level + length * dlevel
    value = jnp.where(present, w, 0) @ h @ jnp.where(present, w, 0)
    done = gap < jnp.finfo(dtype).eps * value
    return i + 1, w, slack, low, high, level, done

  start = (0, w, slack, low, high, jnp.zeros((), dtype), skip)
  out = jax.lax.while_loop(lambda c: (c[0] < _STEPS) & ~c[-1], step, start)
  return out[1]


def _newton(h, ones, w, slack, low, high, dual, primal):
  """``(centre, second orders) -> (dw, dlow, dhigh, dlevel)``."""
  bend = jnp.where(ones > 0, low / w + high / slack, 0)
  scale = jax.lax.rsqrt(jnp.diagonal(h) + bend)
  eye = jnp.diag(bend * scale * scale)
  factor = jnp.linalg.cholesky(
    h * scale[:, None] * scale + eye, symmetrize_input=False
  )

  def inverse(v):
    return scale * jax.scipy.linalg.cho_solve((factor, True), scale * v)

  along = inverse(ones)

  def direction(centre, second_low, second_high):
    to_low = (centre - second_low) / w - low
    to_high = (centre - second_high) / slack - high
    right = inverse(jnp.where(ones > 0, to_low - to_high - dual, 0))
    dlevel = (primal - ones @ right) / (ones @ along)
    dw = jnp.where(ones > 0, right + dlevel * along, 0)
    dlow = jnp.where(ones > 0, to_low - low / w * dw, 0)
    dhigh = jnp.where(ones > 0, to_high + high / slack * dw, 0)
    return dw, dlow, dhigh, dlevel

  return direction


def _longest(values, changes, present):
  """The longest step, at most 2, that keeps all values >= 0."""
  v, dv = jnp.stack(values), jnp.stack(changes)
  shrinks = present & (dv < 0)
  steps = jnp.where(shrinks, -v / jnp.where(shrinks, dv, -1), 2)
  return jnp.minimum(jnp.min(steps), 2)
