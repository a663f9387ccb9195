"""Residuals and solutions in float64, to judge Gramian methods by.

All take one problem without absent tasks: ``gramian`` ``[k, k]``, the very
numbers that the method saw, cast to float64. Residuals are relative, row i to
``|g_i| (|d| + slack sum_j |w_j| |g_j|)``: the second term is the rounding of
the Gramian's own entries, which matters only where d nearly vanishes.
"""

import numpy as np
import scipy.optimize


def ridged(gramian, ridge):
  return gramian + ridge * np.diag(np.diagonal(gramian))


def unit(gramian, ridge, weights, slack):
  """Unit-row products, weights and norms, divided by the length of d."""
  norms = np.sqrt(np.diagonal(gramian))
  safe = np.where(norms > 0, norms, 1)
  cosines = ridged(gramian, ridge) / safe[:, None] / safe
  u = weights * norms
  length = np.sqrt(max(u @ cosines @ u, 0)) + slack * np.abs(u).sum()
  return cosines, u / length, norms, length


def complementary(x, y):
  """The residual of ``0 <= x, 0 <= y, x y = 0``."""
  return np.max(np.abs(np.minimum(x, y)), initial=0)


def best_level(x, y, b):
  """The least residual of ``0 <= x, t b <= y, x (y - t b) = 0`` over t."""
  used = x > 0
  levels = y[used & (b > 0)] / b[used & (b > 0)]
  candidates = np.concatenate([levels, [np.min(y[b > 0] / b[b > 0])]])
  # Piecewise linear and convex where x is large: ends and a fine search.
  low, high = candidates.min(), candidates.max()
  f = lambda t: complementary(x, y - t * b)
  found = [f(t) for t in candidates]
  if high > low:
    found.append(
      scipy.optimize.minimize_scalar(
        f, bounds=(low, high), method='bounded', options={'xatol': 1e-14}
      ).fun
    )
  return min(found)


def mgda(gramian, weights, ridge, slack):
  norms = np.sqrt(np.diagonal(gramian))
  if (norms == 0).any():  # The minimum is 0.
    return np.max(np.abs(weights * norms))
  cosines, u, norms, length = unit(gramian, ridge, weights, slack)
  level = weights @ ridged(gramian, ridge) @ weights
  return complementary(u, cosines @ u - level / norms / length)


def capped(gramian, weights, cap, ridge, slack):
  """Least residual over the level: free rows, rows at 0, rows at the cap."""
  if not gramian.diagonal().all():  # A row without a length has no scale.
    return 0.0
  cosines, u, norms, length = unit(gramian, ridge, weights, slack)
  y = cosines @ u
  to_cap = (cap - weights) * norms / length

  def residual(level):
    slope = y - level / norms / length
    low = np.minimum(u, np.maximum(slope, 0))
    high = np.minimum(to_cap, np.maximum(-slope, 0))
    return np.max(np.maximum(low, high))

  levels = y * norms * length
  return min(residual(t) for t in [*levels, levels.mean()])


def cagrad(gramian, weights, c, ridge, slack):
  """Residual of CAGrad, whose weights are 1/k + x with x >= 0."""
  k = len(weights)
  norms = np.sqrt(np.diagonal(gramian))
  rows = norms > 0
  gramian, norms = gramian[rows][:, rows], norms[rows]
  if not rows.any():
    return 0.0
  share = np.full(len(norms), 1 / k)
  x = weights[rows] - share
  radius = c * np.sqrt(max(share @ gramian @ share, 0))
  g = ridged(gramian, ridge)
  square = share @ gramian @ share + 2 * share @ gramian @ x + x @ g @ x
  length = np.sqrt(max(square, 0))
  length += slack * np.abs(weights[rows]) @ norms
  y = (gramian @ share + g @ x) / norms / length
  b = norms.min() / norms
  on_ball = abs(np.sqrt(max(x @ g @ x, 0)) - radius) / length
  return max(best_level(x * norms / length, y, b), on_ball)


def fair(gramian, weights, s, targets, ridge, slack):
  alive = gramian.diagonal() > 0
  if not alive.any():
    return np.abs(weights).max()
  cosines, u, norms, length = unit(gramian, ridge, weights, slack)
  gain = (targets[alive] / weights[alive]) ** s
  y = (cosines @ u)[alive]
  return np.max(np.abs(y - gain / norms[alive] / length))


def cone(gramian, q, ridge):
  """x >= 0 of ``min 1/2 x^T A x + q^T x``, A the ridged cosines."""
  factor = np.linalg.cholesky(gramian + ridge * np.eye(len(gramian)))
  return scipy.optimize.nnls(factor.T, np.linalg.solve(factor, -q))[0]


def cosines_and_norms(gramian):
  norms = np.sqrt(np.diagonal(gramian))
  safe = np.where(norms > 0, norms, 1)
  cosines = gramian / safe[:, None] / safe
  return np.where(np.eye(len(norms)) == 1, 1.0, cosines), norms, safe


def dualproj(gramian, ridge):
  cosines, norms, safe = cosines_and_norms(gramian)
  a = cosines + ridge * np.eye(len(norms))
  lower = norms / len(norms) / norms.max()
  return 1 / len(norms) + cone(cosines, a @ lower, ridge) * norms.max() / safe


def upgrad(gramian, ridge):
  cosines, norms, safe = cosines_and_norms(gramian)
  a = cosines + ridge * np.eye(len(norms))
  total = np.zeros(len(norms))
  for i in range(len(norms)):
    total += norms[i] * cone(cosines, a[i], ridge)
  return (1 + total / safe) / len(norms)


def well_conditioned(gramian):
  norms = np.sqrt(np.diagonal(gramian))
  if not norms.all():
    return False
  cosines = gramian / norms[:, None] / norms
  return np.linalg.eigvalsh(cosines)[0] > 1e-3


def gradvac(jacobian, usual, orders, beta, always):
  usual, rows = usual.copy(), []
  for i, order in enumerate(orders):
    g = jacobian[i].copy()
    for j in order:
      if i == j:
        continue
      other = jacobian[j]
      lengths = np.linalg.norm(g), np.linalg.norm(other)
      phi, goal = g @ other / lengths[0] / lengths[1], usual[i, j]
      low = phi < goal
      if low:
        g = g + other * lengths[0] * (
          goal * np.sqrt(1 - phi**2) - phi * np.sqrt(1 - goal**2)
        ) / (lengths[1] * np.sqrt(1 - goal**2))
      if low or always:
        usual[i, j] = (1 - beta) * goal + beta * phi
    rows.append(g)
  return np.sum(rows, 0), usual


def pcgrad(jacobian, orders):
  total = 0
  for i, order in enumerate(orders):
    g = jacobian[i].copy()
    for j in order:
      product = g @ jacobian[j]
      if j != i and product < 0:
        g = g - product / (jacobian[j] @ jacobian[j]) * jacobian[j]
    total = total + g
  return total


def krum(jacobian, outliers, selected):
  k = len(jacobian)
  distances = np.linalg.norm(jacobian[:, None] - jacobian, axis=-1)
  scores = np.sort(distances, 1)[:, 1 : max(k - outliers - 2, 1) + 1].sum(1)
  chosen = np.argsort(scores, kind='stable')[:selected]
  return np.isin(np.arange(k), chosen) / selected
