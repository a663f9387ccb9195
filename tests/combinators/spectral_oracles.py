"""Residuals in float64 of PCD and of the methods that invert a spectrum.

All take one problem without absent tasks, and pose it as the code does: with
its ridge, or with its cut-off, below which an eigenvalue counts as zero. In
the precision of the Gramian an eigenvalue near the cut-off may fall on either
side of it; so every set of kept eigenvalues that rounding allows is tried.
"""

import gramian_oracles as oracles
import numpy as np

# How far rounding may move an eigenvalue, in units of the cut-off.
_UNSURE = 4


def kept_sets(values, cut):
  """The numbers of eigenvalues, ascending, that may count as zero."""
  low = np.sum(values <= cut / _UNSURE)
  high = np.sum(values <= cut * _UNSURE)
  return range(low, min(high, len(values) - 1) + 1)


def equal_projections(gramian, weights, eps, slack):
  """The residual of ``C u = t P 1`` over t, u the weights of unit rows.

  P projects on the eigenvectors of the cosines C that are kept. Relative to
  ``|d| + slack sum |u|``, the least over the sets that may be kept.
  """
  cosines, norms, _ = oracles.cosines_and_norms(gramian)
  alive = norms > 0
  cosines, u = cosines[alive][:, alive], (weights * norms)[alive]
  values, vectors = np.linalg.eigh(cosines)
  length = np.sqrt(max(u @ cosines @ u, 0)) + slack * np.abs(u).sum()
  gains, found = cosines @ u, []
  for dropped in kept_sets(values, values[-1] * len(gramian) * eps):
    v = vectors[:, dropped:]
    goal = v @ v.sum(0)
    size = goal @ goal
    if size <= (100 * eps) ** 2:  # As for opposite gradients: no direction.
      found.append(np.sqrt(max(u @ gains, 0)) / norms.max())
    else:
      level = gains @ goal / size
      found.append(np.abs(gains - level * goal).max() / length)
  return min(found)


def equal_total(gramian, eps):
  """Sum of IMTL-G's weights before they are divided by it, and of ``|w|``."""
  cosines, norms, _ = oracles.cosines_and_norms(gramian)
  alive = norms > 0
  cosines, norms = cosines[alive][:, alive], norms[alive]
  values, vectors = np.linalg.eigh(cosines)
  found = []
  for dropped in kept_sets(values, values[-1] * len(gramian) * eps):
    v = vectors[:, dropped:]
    w = v @ (v.sum(0) / values[dropped:]) / norms
    found.append((abs(w.sum()), np.abs(w).sum()))
  return min(found)


def aligned(gramian, weights, scale, eps, slack):
  """``(gap to the closest aligned direction, its condition, level)``.

  The condition is the largest eigenvalue over the smallest one kept: rounding
  moves the latter, which all others are made equal to, by eps times the former.
  """
  values, vectors = np.linalg.eigh(gramian)
  found = []
  for dropped in kept_sets(values, values[-1] * len(gramian) * eps):
    kept, v = values[dropped:], vectors[:, dropped:]
    level = {
      'min': kept[0],
      'median': kept[(len(kept) - 1) // 2],
      'rmse': kept.mean(),
    }[scale]
    expected = np.sqrt(level) * (v / np.sqrt(kept)) @ v.sum(0)
    difference = weights - expected
    gap = np.sqrt(max(difference @ gramian @ difference, 0))
    length = np.sqrt(max(expected @ gramian @ expected, 0))
    length += slack * np.sqrt(level * len(gramian))
    condition = values[-1] / kept[0]
    found.append((gap / length, condition, level))
  return min(found)


def pcd_problem(gramian, tau, ridge):
  """``(A, q, bound)``: ``x >= 0, A x + q >= 0``, one of both 0, in unit rows.

  With scales of 1 / |g_i|; A are the ridged cosines of the bound rows, and q is
  the progress that the primary gradient makes beyond what is asked for.
  """
  cosines, norms, _ = oracles.cosines_and_norms(gramian)
  bound = norms > 0
  bound[0] = False
  a = cosines[bound][:, bound] + ridge * np.eye(bound.sum())
  return a, cosines[bound, 0] - tau, bound


def pcd_residual(gramian, weights, tau, ridge, slack):
  """Relative to ``|d| + slack sum |u|``, u the weights of unit rows."""
  cosines, norms, _ = oracles.cosines_and_norms(gramian)
  a, q, bound = pcd_problem(gramian, tau, ridge)
  u = weights * norms / (weights[0] * norms[0])
  x = u[bound]
  size = np.sqrt(max(u @ cosines @ u, 0)) + slack * np.abs(u).sum()
  return oracles.complementary(x, a @ x + q) / size


def pcd_solution(gramian, tau, ridge):
  """``(ridge times the largest multiplier over |q|, |d| / sum |u|)``."""
  cosines, norms, _ = oracles.cosines_and_norms(gramian)
  a, q, bound = pcd_problem(gramian, tau, ridge)
  if not len(q):
    return 0.0, 1.0
  u = np.eye(len(norms))[0]
  u[bound] = oracles.cone(a, q, 0)
  length = np.sqrt(max(u @ cosines @ u, 0))
  cost = ridge * u[bound].max() / np.abs(q).max()
  return cost, length / np.abs(u).sum()
