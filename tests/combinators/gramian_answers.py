"""What Gramian methods answer to every case of gramian_cases."""

import gramian_cases
import gramian_oracles as oracles
import jax
import jax.numpy as jnp
import numpy as np

from mtl_jax import combinators

C = 0.4  # CAGrad's
CAP = 0.4
TAU = 0.02
TARGETS = np.linspace(0.5, 1.5, gramian_cases.SIZE)
METHODS = {
  'mgda': combinators.solve_mgda,
  'capped_mgda': lambda g, p: combinators.solve_capped_mgda(g, p, CAP),
  'cagrad': lambda g, p: combinators.solve_cagrad(g, p, C, 0),
  'nash_mtl': combinators.solve_fair,
  'fairgrad': lambda g, p: combinators.solve_fair(g, p, 0.5),
  'pivrg': lambda g, p: combinators.solve_fair(
    g, p, 0.5, jnp.asarray(TARGETS, g.dtype)
  ),
  'upgrad': combinators.solve_upgrad,
  'dualproj': combinators.solve_dualproj,
  'pcd': lambda g, p: combinators.solve_pcd(
    g, p, jax.lax.rsqrt(jnp.diagonal(g) + 1e-30), TAU
  ),
  'imtl_g': combinators.solve_imtl_g,
  'conflict_free': combinators.solve_conflict_free,
  'aligned_min': combinators.solve_aligned_mtl,
  'aligned_median': lambda g, p: combinators.solve_aligned_mtl(
    g, p, scale='median'
  ),
  'aligned_rmse': lambda g, p: combinators.solve_aligned_mtl(
    g, p, scale='rmse'
  ),
  'krum': lambda g, p: combinators.solve_krum(g, p, 0, 2),
}


class Answers:
  """All weights of all cases at one precision."""

  def __init__(self, dtype, methods):
    self.eps = np.finfo(dtype).eps
    single = dtype == np.float32
    self.tolerance, self.ridge = (1e-5, 1e-5) if single else (1e-8, 1e-10)
    self.slack = 8 * self.eps / self.tolerance
    self.gramians, self.present = gramian_cases.stacked(dtype)
    with jax.enable_x64(not single):
      run = jax.jit(
        jax.vmap(lambda g, p: {k: METHODS[k](g, p) for k in methods})
      )
      self.weights = jax.tree.map(np.float64, run(self.gramians, self.present))

  def __call__(self, method):
    """``(name, Gramian [k, k], weights [k])`` of each case, in float64."""
    for i, name in enumerate(gramian_cases.NAMES):
      here = self.present[i]
      gramian = np.float64(self.gramians[i])[here][:, here]
      yield name, gramian, self.weights[method][i][here]

  def check_all_are_finite(self):
    """And that absent tasks have no weight."""
    for method, weights in self.weights.items():
      assert np.isfinite(weights).all(), method
      assert not weights[~self.present].any(), method

  def least(self, residual):
    """Of the problem without the ridge of rounding, or of the one with it.

    Solvers answer the first wherever it has one solution that rounding leaves
    alone, as it has on all `gramian_oracles.well_conditioned` Gramians.
    """

    def of_both(g, w):
      without = residual(g, w, 0.0)
      if oracles.well_conditioned(g):
        return without
      return min(without, residual(g, w, self.ridge))

    return of_both

  def gap(self, gramian, weights, expected):
    """``|J^T (w - expected)| / |J^T expected|``, as in gramian_oracles."""
    norms = np.sqrt(np.diagonal(gramian))
    difference = direction_norm(gramian, weights - expected)
    size = direction_norm(gramian, expected)
    size += self.slack * np.abs(expected) @ norms
    return difference / size if size > 0 else difference


def direction_norm(gramian, weights):
  return np.sqrt(max(weights @ gramian @ weights, 0))
