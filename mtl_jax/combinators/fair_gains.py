"""Balanced gains: what Nash-MTL, FairGrad and PIVRG solve."""

import jax
import jax.numpy as jnp

from mtl_jax.combinators.solvers import power, scaling


def solve_fair(
  gramian: jax.Array,
  present: jax.Array,
  s: float = 1.0,
  targets: jax.Array | None = None,
  *,
  ridge: float | None = None,
) -> jax.Array:
  r"""The weights with :math:`(G w)_i = (p_i / w_i)^s`, from a Gramian.

  Args:
    gramian: ``[K, K]``.
    present: ``[K]`` bool.
    s: in (0, 1]: 1 for Nash-MTL, 1 / alpha for FairGrad, 1/2 for PIVRG.
    targets: ``[K]``, > 0: p; 1 by default.
    ridge: added to each squared norm, relative to it. By default 1e-5 in
      float32 and 1e-10 in float64, which count only where the problem without
      them has no solution near by: at a Pareto-stationary point there is no
      solution without it; with it, the direction is nearly zero.

  Returns:
    ``[K]``: w > 0; 0 for a task whose gradient is zero, which would need an
    infinite weight and adds nothing.
  """
  scaled = scaling.normalise(gramian, present)
  norms = jnp.where(scaled.alive, scaled.norms, 1)
  p = jnp.ones_like(norms) if targets is None else targets.astype(norms.dtype)
  p = jnp.where(scaled.alive, p, 1)
  r = p**s * norms ** (s - 1)
  exact = scaled.cosines if ridge is None else None
  u = power.solve(scaling.with_ridge(scaled, ridge), r, s, exact)
  # Rows shortened by L: the solution is homogeneous of degree (s-1)/(s+1).
  u = u * scaled.largest ** ((s - 1) / (s + 1))
  return scaling.guarded(scaling.unscale(scaled, u), gramian, present)
