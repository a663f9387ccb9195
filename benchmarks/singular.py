"""UPGrad's weights on singular Gramians of 128 tasks: times and errors.

  python benchmarks/singular.py

Rows of standard normal numbers, plus a shift that makes them agree. In fewer
dimensions than tasks the Gramian is singular; without a shift there is often no
direction that helps all tasks, and the only one without conflict is 0. Prints,
per family of problems, the median and the most of the milliseconds, and the
largest distance of a direction to that of SciPy in float64, relative to the
mean gradient. A minute on 2 CPU cores.
"""

import time

import jax
import jax.numpy as jnp
import numpy as np
from scipy import optimize

from mtl_jax import combinators, memory

NUM, PROBLEMS, REPEATS = 128, 6, 9
FAMILIES = ((256, 0.0), (120, 0.0), (64, 0.3), (64, 0.1), (64, 0.05), (64, 0.0))
RIDGE = 1e-5  # of UPGrad in float32, relative to each squared norm


def main():
  """Prints the table."""
  memory.keep_memory()
  print('| dimensions | shift | median ms | most ms | error |')
  print('|---|---|---|---|---|')
  for dims, shift in FAMILIES:
    times, errors = [], []
    for seed in range(PROBLEMS):
      rows = np.random.default_rng(seed).normal(size=(NUM, dims)) + shift
      gramian = jnp.asarray(rows @ rows.T, jnp.float32)
      times.append(min(_seconds(gramian) for _ in range(REPEATS)))
      errors.append(_error(rows, np.asarray(_solve(gramian), np.float64)))
    print(
      f'| {dims} | {shift} | {1e3 * np.median(times):.1f} '
      f'| {1e3 * max(times):.1f} | {max(errors):.0e} |',
      flush=True,
    )


@jax.jit
def _solve(gramian):
  gradients = combinators.gradients_from_jacobian(
    jnp.zeros((NUM, 1)), jnp.ones(NUM)
  ).with_gramian(gramian)
  weighting = combinators.weighting_of(combinators.upgrad())
  return weighting.weights(
    gradients, weighting.init(None), key=jax.random.key(0), step=0, epoch=0
  )[0]


def _seconds(gramian):
  start = time.perf_counter()
  _solve(gramian).block_until_ready()
  return time.perf_counter() - start


def _error(rows, weights):
  """Distance of directions, relative to the mean gradient."""
  unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
  # Least squares of unit rows with the ridge as more columns.
  root = np.concatenate([unit, np.sqrt(RIDGE) * np.eye(NUM)], 1).T
  direction = np.zeros(rows.shape[1])
  for row, target in zip(rows, root.T, strict=True):
    extra, _ = optimize.nnls(root, -target, maxiter=100 * NUM)
    direction += (row + np.linalg.norm(row) * extra @ unit) / NUM
  gap = weights @ rows - direction
  return np.linalg.norm(gap) / np.linalg.norm(rows.mean(0))


if __name__ == '__main__':
  main()
