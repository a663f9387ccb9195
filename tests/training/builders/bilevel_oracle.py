"""Bilevel methods in float64 NumPy, differentiated by complex steps.

A small network ``z = tanh(x W)`` with a linear head a task and masked squared
errors. Its gradients are written by hand and hold for complex numbers, so
that the derivative of anything made of them is exact to rounding.
"""

import numpy as np

DIM, WIDTH = 4, 3
TINY = 1e-30


def losses(params, batch):
  """Mean losses ``[K]``; 0 for a task without labels."""
  z = np.tanh(batch['x'] @ params['w'])
  found = []
  for head, label in zip(params['heads'], batch['y'], strict=True):
    known = ~np.isnan(label)
    error = np.where(known, z @ head - np.where(known, label, 0), 0)
    found.append(np.sum(error**2) / max(known.sum(), 1))
  return np.array(found)


def gradients(params, batch):
  """The K gradients, each over all parameters, ``[K, d]``."""
  z = np.tanh(batch['x'] @ params['w'])
  rows = []
  for k, label in enumerate(batch['y']):
    head, known = params['heads'][k], ~np.isnan(label)
    error = np.where(known, z @ head - np.where(known, label, 0), 0)
    slope = 2 * error / max(known.sum(), 1)
    by_heads = np.zeros_like(params['heads'])
    by_heads[k] = z.T @ slope
    by_w = batch['x'].T @ (slope[:, None] * head * (1 - z**2))
    rows.append(np.concatenate([by_w.ravel(), by_heads.ravel()]))
  return np.array(rows)


def flat(params):
  return np.concatenate([params['w'].ravel(), params['heads'].ravel()])


def unflat(vector):
  w, heads = np.split(vector, [DIM * WIDTH])
  return {'w': w.reshape(DIM, WIDTH), 'heads': heads.reshape(-1, WIDTH)}


def descend(theta, weights, batch, rate, steps, moves=1.0):
  """Steps of gradient descent on the weighted losses, of what moves."""
  for _ in range(steps):
    gradient = weights @ gradients(unflat(theta), batch)
    theta = theta - rate * moves * gradient
  return theta


def by_complex_step(f, at):
  """The derivative of ``f [K] -> [...]``, ``[..., K]``."""
  columns = []
  for k in range(len(at)):
    step = np.zeros(len(at), complex)
    step[k] = TINY * 1j
    columns.append(np.imag(f(at + step)) / TINY)
  return np.stack(columns, axis=-1)


def softmax(logits, present):
  e = np.where(present, np.exp(logits), 0)
  return e / e.sum()


def present(batch):
  return np.array([not np.isnan(label).all() for label in batch['y']])


def min_norm(rows):
  """The weights of the shortest average of rows, by trying all supports."""
  k, best, found = len(rows), np.inf, None
  gramian = rows @ rows.T
  for bits in range(1, 2**k):
    support = [i for i in range(k) if bits >> i & 1]
    size = len(support)
    system = np.zeros((size + 1, size + 1))
    system[:size, :size] = gramian[np.ix_(support, support)]
    system[:size, size] = system[size, :size] = 1
    solution = np.linalg.lstsq(system, np.eye(size + 1)[size], rcond=None)[0]
    weights = np.zeros(k)
    weights[support] = solution[:size]
    norm = weights @ gramian @ weights
    if weights.min() > -1e-9 and norm < best - 1e-13:
      best, found = norm, weights
  return found


class Adam:
  """Kingma and Ba's Algorithm 1."""

  def __init__(self, size, rate):
    self.m, self.v, self.t, self.rate = np.zeros(size), np.zeros(size), 0, rate

  def __call__(self, slope, mask):
    self.t += 1
    m, v = 0.9 * self.m + 0.1 * slope, 0.999 * self.v + 0.001 * slope**2
    self.m, self.v = np.where(mask, m, self.m), np.where(mask, v, self.v)
    m, v = self.m / (1 - 0.9**self.t), self.v / (1 - 0.999**self.t)
    return np.where(mask, -self.rate * m / (np.sqrt(v) + 1e-8), 0)


def program(rows, gap, phi):
  """FORUM's lambda and nu for rows ``[K, d]`` of norm 1, by all supports.

  Over x = (lambda, nu, slack) >= 0 with two equalities; the best of the
  stationary points of all faces is the solution of a convex program.
  """
  k, norm = len(rows), np.linalg.norm(gap)
  gap = gap / norm  # and nu in its units
  pi = phi * norm - rows @ gap
  a = np.vstack([rows, gap, np.zeros_like(gap)])
  h, c = 2 * a @ a.T, np.zeros(k + 2)
  c[k] = -phi * norm
  e = np.zeros((2, k + 2))
  e[0, :k], e[1, :k], e[1, k], e[1, k + 1] = 1, -pi, 1, -1
  best, found = np.inf, None
  for bits in range(1, 2 ** (k + 2)):
    on = [i for i in range(k + 2) if bits >> i & 1]
    size = len(on)
    system = np.zeros((size + 2, size + 2))
    system[:size, :size] = h[np.ix_(on, on)]
    system[:size, size:], system[size:, :size] = e[:, on].T, e[:, on]
    right = np.concatenate([-c[on], [1, 0]])
    solution = np.linalg.lstsq(system, right, rcond=None)[0]
    worst = np.abs(system @ solution - right).max()
    if worst > 1e-9 * (1 + np.abs(right).max()):
      continue
    x = np.zeros(k + 2)
    x[on] = solution[:size]
    value = x @ h @ x / 2 + c @ x
    if x.min() > -1e-10 and value < best - 1e-13:
      best, found = value, x
  return np.append(found[:k], found[k] / norm)
