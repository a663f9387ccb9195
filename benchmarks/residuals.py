"""How far weights are from the solution of the problem that they should solve.

All in float64 NumPy and SciPy, from the Gramian: the same yardstick for every
library. Each residual is 0 at the solution and has no unit.
"""

from collections.abc import Callable

import numpy as np
from scipy import optimize

TRACE_RIDGE = 1e-4  # of UPGrad and DualProj, as TorchJD poses them
C = 0.5  # of CAGrad
ALPHA = 2.0  # of FairGrad


def mgda(gramian: np.ndarray, w: np.ndarray) -> float:
  """``(|d|^2 - min_i <g_i, d>) / |d|^2``: the gap to the shortest vector."""
  products = gramian @ w
  square = w @ products
  off_simplex = abs(w.sum() - 1) + max(0, -w.min())
  return max((square - products.min()) / square, off_simplex)


def cagrad(gramian: np.ndarray, w: np.ndarray) -> float:
  """Duality gap of the worst case, relative; or how far d leaves the ball."""
  num = len(gramian)
  extra = w - 1 / num
  mean_norm = np.sqrt(gramian.mean())
  radius = C * mean_norm
  length = np.sqrt(max(extra @ gramian @ extra, 0))
  share = np.maximum(extra, 0) / np.maximum(extra, 0).sum()
  mixed = np.sqrt(share @ gramian @ share)
  dual = share @ gramian.mean(1) + radius * mixed
  primal = (gramian @ w).min()
  return max((dual - primal) / abs(dual), length / radius - 1)


def nash_mtl(gramian: np.ndarray, w: np.ndarray) -> float:
  """Spread of ``w_i (G w)_i``, which is one number for all i."""
  products = w * (gramian @ w)
  return float(np.abs(products / products.mean() - 1).max())


def fairgrad(gramian: np.ndarray, w: np.ndarray) -> float:
  """The largest ``|(G w)_i w_i^(1 / alpha) - 1|``."""
  values = (gramian @ w) * np.maximum(w, 0) ** (1 / ALPHA)
  return float(np.abs(values - 1).max())


def imtl_g(gramian: np.ndarray, w: np.ndarray) -> float:
  """Spread of the projections on unit gradients, and the sum of weights."""
  projections = gramian @ w / np.sqrt(np.diag(gramian))
  spread = np.ptp(projections) / np.abs(projections.mean())
  return max(spread, abs(w.sum() - 1))


def upgrad(gramian: np.ndarray, w: np.ndarray) -> float:
  """Distance of the direction to that of K least-squares problems."""
  num = len(gramian)
  bounds = np.eye(num) / num
  ridged = _ridged(gramian)
  solution = np.sum([_lower_bounded(ridged, b) for b in bounds], 0)
  return _distance(gramian, w, solution)


def dualproj(gramian: np.ndarray, w: np.ndarray) -> float:
  """Distance of the direction to that of one least-squares problem."""
  num = len(gramian)
  solution = _lower_bounded(_ridged(gramian), np.full(num, 1 / num))
  return _distance(gramian, w, solution)


def aligned_mtl(gramian: np.ndarray, w: np.ndarray) -> float:
  """Distance of the direction to that of NumPy's eigenvectors."""
  values, vectors = np.linalg.eigh(gramian)
  balance = (vectors * np.sqrt(values[0] / values)) @ vectors.T
  return _distance(gramian, w, balance.mean(1))


RESIDUALS: dict[str, Callable[[np.ndarray, np.ndarray], float]] = {
  'aligned_mtl': aligned_mtl,
  'cagrad': cagrad,
  'dualproj': dualproj,
  'fairgrad': fairgrad,
  'imtl_g': imtl_g,
  'mgda': mgda,
  'nash_mtl': nash_mtl,
  'upgrad': upgrad,
}


def _ridged(gramian):
  size = np.trace(gramian)
  return gramian + TRACE_RIDGE * size * np.eye(len(gramian))


def _lower_bounded(gramian, bound):
  """The minimiser of ``v^T G v`` with ``v >= bound``."""
  root = np.linalg.cholesky(gramian).T
  extra, _ = optimize.nnls(root, -root @ bound, maxiter=100 * len(bound))
  return bound + extra


def _distance(gramian, w, solution):
  gap = w - solution
  square = solution @ gramian @ solution
  return float(np.sqrt(max(gap @ gramian @ gap, 0) / square))
